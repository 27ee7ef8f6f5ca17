//! The keys of sealed bundles, as a command line names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bms_bundle::seal::{Key, Keyring, Lease, LeasedKey, To};
use bms_bundle::{Policy, PublicKey, SigningKey};
use bms_wire::{Code, Error, Result, limits};
use clap::Args;
use zeroize::Zeroizing;

use crate::home::Home;
use crate::vault::{Access, Vault};

/// Where the help lists them.
const HEADING: &str = "Sealed bundles";

/// What opens sealed bundles.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KeyOptions {
    /// Private key that opens sealed bundles, PEM; besides the home folder's own.
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// File with a passphrase that opens sealed bundles; the end of its line does not count.
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    passphrase_file: Vec<PathBuf>,
    /// Key of a Vault or OpenBao transit engine that opens sealed bundles: https://HOST:PORT/v1/MOUNT/keys/NAME.
    #[arg(long, help_heading = HEADING, value_name = "URL")]
    kms: Vec<String>,
    #[command(flatten)]
    access: AccessOptions,
    /// Lease that opens a sealed bundle for a time, with the home folder's key or one given here.
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    lease: Vec<PathBuf>,
}

/// How to reach a key-management service.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AccessOptions {
    /// File with the token of the key-management service [default: the variable VAULT_TOKEN].
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    kms_token_file: Option<PathBuf>,
    /// Certificate authority of the key-management service, PEM [default: those the system trusts].
    #[arg(long, help_heading = HEADING, value_name = "FILE", env = "VAULT_CACERT")]
    kms_ca: Option<PathBuf>,
}

impl AccessOptions {
    /// The key of a service.
    pub(crate) fn vault(&self, uri: &str) -> Result<Vault> {
        let (token_file, authority) = (self.kms_token_file.clone(), self.kms_ca.clone());
        Vault::new(uri, &Access { token_file, authority })
    }
}

/// Whom to seal for.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RecipientOptions {
    /// Public key of one who shall open it, PEM: `bms key sealing` prints it. Can be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Vec<PathBuf>,
    /// File with a passphrase that shall open it.
    #[arg(long, value_name = "FILE")]
    pub(crate) to_passphrase_file: Vec<PathBuf>,
    /// Key of a Vault or OpenBao transit engine that shall open it: https://HOST:PORT/v1/MOUNT/keys/NAME.
    #[arg(long, value_name = "URL")]
    pub(crate) to_kms: Vec<String>,
}

impl RecipientOptions {
    pub(crate) fn load(&self, access: &AccessOptions) -> Result<Vec<To>> {
        let mut to = Vec::new();
        for path in &self.to {
            to.push(To::Key(PublicKey::load(path)?));
        }
        for path in &self.to_passphrase_file {
            to.push(To::Passphrase(passphrase(path)?, bms_bundle::seal::PassphraseCost::default()));
        }
        for uri in &self.to_kms {
            to.push(To::Kms(Arc::new(access.vault(uri)?)));
        }
        Ok(to)
    }
}

impl KeyOptions {
    /// How to reach services.
    pub(crate) fn access(&self) -> &AccessOptions {
        &self.access
    }

    /// The keys, those of the home folder last. Leases must be signed by somebody `policy` lets lease.
    pub(crate) fn load(&self, home: &Home, policy: &Policy) -> Result<Keyring> {
        let mut keys = Keyring::default();
        let mut private = Vec::new();
        for path in &self.key_file {
            private.push(Arc::new(SigningKey::load(path)?));
        }
        if let Some(own) = home.sealing_key_if_there()? {
            private.push(Arc::new(own));
        }
        for key in &private {
            keys.add(Key::Private(key.clone()));
        }
        for path in &self.lease {
            let lease = Lease::load(path)?;
            policy
                .check_lease(&lease)
                .map_err(|e| e.while_doing(format_args!("use the lease `{}`", path.display())))?;
            let [key, ..] = private.as_slice() else {
                return Err(Error::new(Code::KeyMissing, "a lease needs the key of the node it is for")
                    .hint("Make one with `bms key sealing`, or name it with --key-file."));
            };
            let clock = home.dir()?.join("lease-clock");
            keys.add(Key::Leased(Arc::new(LeasedKey::new(lease, key.clone(), &clock)?)));
        }
        for path in &self.passphrase_file {
            keys.add(Key::Passphrase(Arc::new(passphrase(path)?)));
        }
        for uri in &self.kms {
            keys.add(Key::Kms(Arc::new(self.access.vault(uri)?)));
        }
        Ok(keys)
    }
}

/// A passphrase: the file's content without the end of its line.
fn passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = read(path)?;
    while text.last().is_some_and(|c| matches!(c, b'\n' | b'\r')) {
        text.pop();
    }
    match text.is_empty() {
        false => Ok(text),
        true => {
            Err(Error::new(Code::InvalidRequest, format!("the passphrase in `{}` is empty", path.display())))
        }
    }
}

/// A small secret file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    // One more than allowed shows that there is more.
    let limit = limits::KEY_FILE_BYTES_MAX + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    match (bytes.len() as u64) < limit {
        true => Ok(bytes),
        false => Err(Error::new(Code::TooLarge, format!("`{}` is too large for a secret", path.display()))),
    }
}
