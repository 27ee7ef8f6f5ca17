//! Values that stand in files of their own, and reading such files.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result, limits};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The value of a variable: as it stands, or what a file holds.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    /// As it stands; may hold placeholders.
    Text(String),
    /// What this file holds when the engine starts, without white space at its ends.
    Secret(SecretFile),
}

/// Where a secret lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretFile {
    file: PathBuf,
}

impl Value {
    /// The text, when it is no secret.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Secret(_) => None,
        }
    }

    /// The secret, when it is one.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub(crate) fn secret(&self) -> Result<Option<Zeroizing<String>>> {
        match self {
            Value::Text(_) => Ok(None),
            Value::Secret(SecretFile { file }) => read(file).map(Some),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A text may be a secret that somebody wrote down in the wrong place.
            Value::Text(_) => f.write_str("Text(…)"),
            Value::Secret(secret) => secret.fmt(f),
        }
    }
}

/// A secret from its file, without white space at its ends.
///
/// # Errors
/// [`Code::NotFound`], [`Code::Io`]; [`Code::InvalidRequest`] when it is empty, too long or not of printable ASCII, which
/// is what a header can hold.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>> {
    let text = Zeroizing::new(read_text(path)?);
    let secret = Zeroizing::new(text.trim().to_owned());
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = format!("`{}` holds no key: one line of printable characters", path.display());
        return Err(Error::new(Code::InvalidRequest, what));
    }
    Ok(secret)
}

/// A small file of text.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut text = String::new();
    let most = limits::KEY_FILE_BYTES_MAX;
    let read = file.take(most + 1).read_to_string(&mut text).map_err(|e| Error::io("read", path, e))?;
    if most < read as u64 {
        let what = format!("`{}` is over the limit of {most} bytes", path.display());
        return Err(Error::new(Code::TooLarge, what));
    }
    Ok(text)
}
