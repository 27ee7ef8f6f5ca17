//! The home folder: this user's signing key and trust policy.

use std::path::{Path, PathBuf};

use bms_bundle::{Policy, SigningKey};
use bms_wire::{Code, Error, Result};
use clap::Args;

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
        let key = SigningKey::generate();
        std::fs::create_dir_all(self.dir()?)
            .map_err(|e| Error::io("create", self.dir.as_deref().unwrap_or(&path), e))?;
        key.save(&path)?;
        Ok(key)
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
}

impl PolicyOption {
    /// The policy named, or the home folder's.
    pub(crate) fn load(&self, home: &Home) -> Result<Policy> {
        match &self.policy {
            Some(path) => Policy::load(path),
            None => home.policy(),
        }
    }
}
