//! The home folder: this user's signing key and trust policy.

use std::path::{Path, PathBuf};

use bms_bundle::{Policy, SigningKey};
use bms_wire::{Code, Error, Result};
use clap::Args;

use crate::secrets::{AccessOptions, KeyOptions};

/// File of the key pair sealed bundles are sealed for. Another than the one that signs: each key for one purpose.
const SEALING_KEY: &str = "sealing-key.pem";

/// `~/.bms` unless told otherwise; made when something is first kept in it.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: Option<PathBuf>,
}

impl Home {
    /// The folder given, or the default.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Home { dir: dir.or_else(|| std::env::home_dir().map(|home| home.join(".bms"))) }
    }

    /// Where it is.
    ///
    /// # Errors
    /// When neither an option nor the system names one.
    pub(crate) fn dir(&self) -> Result<&Path> {
        self.dir.as_deref().ok_or_else(|| {
            Error::new(Code::NotFound, "this user has no home folder")
                .hint("Name a folder with --home or BMS_HOME.")
        })
    }

    /// The server's data (registry, store, quarantine) when no other folder is named.
    pub(crate) fn server_dir(&self) -> Result<PathBuf> {
        Ok(self.dir()?.join("server"))
    }

    /// The key that signs what is made here; generated, and trusted here, at first use.
    pub(crate) fn signing_key(&self) -> Result<SigningKey> {
        let path = self.key_path()?;
        if path.exists() {
            return SigningKey::load(&path);
        }
        first(self.dir()?, &path)
    }

    /// The key pair sealed bundles are sealed for; generated at first use.
    pub(crate) fn sealing_key(&self) -> Result<SigningKey> {
        if let Some(key) = self.sealing_key_if_there()? {
            return Ok(key);
        }
        let dir = self.dir()?;
        first(dir, &dir.join(SEALING_KEY))
    }

    /// The same, if there is one.
    pub(crate) fn sealing_key_if_there(&self) -> Result<Option<SigningKey>> {
        let Ok(dir) = self.dir() else { return Ok(None) };
        let path = dir.join(SEALING_KEY);
        path.exists().then(|| SigningKey::load(&path)).transpose()
    }

    /// The key that signs where the audit log of a server ends; generated at first use. Kept apart from the server's
    /// data, and never rotated with the one that signs models.
    pub(crate) fn audit_key(&self) -> Result<SigningKey> {
        let (dir, path) = (self.dir()?, self.dir()?.join("audit-key.pem"));
        if path.exists() {
            return SigningKey::load(&path);
        }
        first(dir, &path)
    }

    /// Keeps the old signing key beside a new one, which signs from now on. Returns both, the old one first.
    pub(crate) fn replace_signing_key(&self) -> Result<(SigningKey, SigningKey)> {
        let old = self.signing_key()?;
        let path = self.key_path()?;
        let kept = path.with_file_name(format!("signing-key-{}.pem", &old.key_id()[..16]));
        let (new, staged) = (SigningKey::generate(), path.with_extension("new"));
        // A key left by an earlier try that did not come to its end signed nothing yet.
        let _ = std::fs::remove_file(&staged);
        new.save(&staged)?;
        std::fs::hard_link(&path, &kept).or_else(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(Error::io("keep the old key as", &kept, e)),
        })?;
        std::fs::rename(&staged, &path).map_err(|e| Error::io("put in place", &path, e))?;
        Ok((old, new))
    }

    /// The trust policy; at first use one that admits only what this folder's key has signed.
    pub(crate) fn policy(&self) -> Result<Policy> {
        let path = self.policy_path()?;
        if path.exists() {
            return Policy::load(&path);
        }
        let policy = Policy::trusting(self.signing_key()?.public(), "local");
        policy.save(&path)?;
        Ok(policy)
    }

    /// The policy's file, made if it is not there yet.
    pub(crate) fn policy_file(&self) -> Result<PathBuf> {
        self.policy()?;
        self.policy_path()
    }

    fn key_path(&self) -> Result<PathBuf> {
        Ok(self.dir()?.join("signing-key.pem"))
    }

    fn policy_path(&self) -> Result<PathBuf> {
        Ok(self.dir()?.join("policy.toml"))
    }
}

/// Which trust policy.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PolicyOption {
    /// Trust policy: what may be published and loaded [default: the home folder's].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyOptions,
}

impl PolicyOption {
    /// The policy named, or the home folder's, with the keys that are at hand.
    pub(crate) fn load(&self, home: &Home) -> Result<Policy> {
        let mut policy = match &self.policy {
            Some(path) => Policy::load(path)?,
            None => home.policy()?,
        };
        policy.keys = self.keys.load(home, &policy)?;
        Ok(policy)
    }

    /// The file the policy is read from.
    pub(crate) fn file(&self, home: &Home) -> Result<PathBuf> {
        match &self.policy {
            Some(path) => Ok(path.clone()),
            None => home.policy_file(),
        }
    }

    /// How to reach key-management services.
    pub(crate) fn access(&self) -> &AccessOptions {
        self.keys.access()
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Writes a new file, and waits until it is on disk.
///
/// # Errors
/// [`Code::Conflict`] when it exists; [`Code::Io`] and its kin.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let write = || {
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Code::Conflict, format!("`{}` exists already", path.display()))
        }
        _ => Error::io("write", path, e),
    })
}

/// Keeps a new key at `path` in `dir`, whole or not at all. Of several processes that do so at once, one key is everybody's.
fn first(dir: &Path, path: &Path) -> Result<SigningKey> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    let staging = tempfile::tempdir_in(dir).map_err(|e| Error::io("create a folder in", dir, e))?;
    let staged = staging.path().join("key.pem");
    let key = SigningKey::generate();
    key.save(&staged)?;
    match std::fs::hard_link(&staged, path) {
        Ok(()) => Ok(key),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => SigningKey::load(path),
        Err(e) => Err(Error::io("put in place", path, e)),
    }
}
