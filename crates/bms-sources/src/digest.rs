//! What a file must be, and finding out whether it is.

use bms_wire::{Code, Error, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What is known of a file's content before it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Hex SHA-256.
    Sha256(String),
    /// Hex SHA-1 that git gives a file: of `blob SIZE`, a zero byte, and the content.
    GitBlob(String),
    /// Nothing.
    Unknown,
}

impl Expected {
    /// How a file of this kind was verified, in a word.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Expected::Sha256(_) => "sha256",
            Expected::GitBlob(_) => "git-blob-sha1",
            Expected::Unknown => "none",
        }
    }

    /// The digest, if one is known.
    pub(crate) fn digest(&self) -> Option<&str> {
        match self {
            Expected::Sha256(digest) | Expected::GitBlob(digest) => Some(digest),
            Expected::Unknown => None,
        }
    }
}

/// Reads a file's bytes in order.
pub(crate) struct Hasher {
    sha256: Sha256,
    git: Option<Sha1>,
}

impl Hasher {
    /// For a file of `size` bytes, which git's digest needs to know.
    pub(crate) fn new(expected: &Expected, size: Option<u64>) -> Hasher {
        let git = matches!(expected, Expected::GitBlob(_)).then(|| {
            let mut git = Sha1::new();
            git.update(format!("blob {}\0", size.unwrap_or(0)));
            git
        });
        Hasher { sha256: Sha256::new(), git }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// Hex SHA-256 of a file that is what was expected.
    ///
    /// # Errors
    /// [`Code::Tampered`].
    pub(crate) fn finish(self, expected: &Expected) -> Result<String> {
        let sha256 = hex::encode(self.sha256.finalize());
        let (wanted, found) = match (expected, self.git) {
            (Expected::Unknown, _) => return Ok(sha256),
            (Expected::Sha256(wanted), _) => (wanted, sha256.clone()),
            (Expected::GitBlob(wanted), git) => {
                (wanted, git.map(|git| hex::encode(git.finalize())).unwrap_or_default())
            }
        };
        if *wanted == found {
            return Ok(sha256);
        }
        let what = format!("its digest is {found}, not {wanted}");
        Err(Error::new(Code::Tampered, what)
            .hint("The source, or somebody on the way, sends other bytes than it names."))
    }
}
