//! How a server is asked: whom to believe at an `https://` address, and the key for one that asks for it, from a file or the
//! environment, never from the command line, which every user of the machine can read.

use std::path::{Path, PathBuf};

use bms_wire::client::{Client, ServerKey};
use bms_wire::{Code, Error, Result, limits};
use clap::Args;

/// Holds the secret itself.
const VARIABLE: &str = "BMS_API_KEY";

/// What asking a server takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ApiKeyOption {
    /// File with the key for the server [default: the variable BMS_API_KEY, which holds the key itself].
    #[arg(long, env = "BMS_API_KEY_FILE", value_name = "FILE", global = true)]
    api_key_file: Option<PathBuf>,
    /// Certificate authorities that vouch for a server at an https:// address, PEM [default: those the system trusts].
    #[arg(long, env = "BMS_CA_FILE", value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
}

impl ApiKeyOption {
    /// The key, if there is one.
    pub(crate) fn key(&self) -> Result<Option<ServerKey>> {
        let Some(path) = &self.api_key_file else {
            let given = std::env::var(VARIABLE).ok().filter(|key| !key.trim().is_empty());
            return given.map(|key| ServerKey::new(&key)).transpose();
        };
        let text = secret_in(path)?;
        ServerKey::new(&text).map(Some)
    }

    /// A client of a server.
    pub(crate) fn client(&self, server: &str) -> Result<Client> {
        Ok(Client::trusting(server, self.authorities())?.with_key(self.key()?))
    }

    /// The file of certificate authorities that vouch for servers; those the system trusts when absent.
    pub(crate) fn authorities(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }
}

/// The text of a file that holds a key.
///
/// # Errors
/// [`Code::TooLarge`] for what can be none; what the system says.
pub(crate) fn secret_in(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(|e| Error::io("read the key in", path, e))?.len();
    if limits::KEY_FILE_BYTES_MAX < size {
        let what = format!("`{}` is too large for a key", path.display());
        return Err(Error::new(Code::TooLarge, what));
    }
    std::fs::read_to_string(path).map_err(|e| Error::io("read the key in", path, e))
}
