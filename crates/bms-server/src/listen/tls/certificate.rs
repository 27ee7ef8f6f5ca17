//! A certificate and its key, read from two files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bms_wire::{Code, Error, Result, limits};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use zeroize::Zeroizing;

use crate::validity::validity;

/// Permission of everybody to read a file.
const READ_BY_OTHERS: u32 = 0o004;

/// A certificate that can be shown.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// Between which times it is good, in seconds since 1970.
    pub(super) from: i64,
    pub(super) until: i64,
    /// Every user of this machine can read the key.
    pub(super) key_is_open: bool,
}

impl Pair {
    /// Reads both files, and refuses what clients would refuse at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// See [`super::Tls::load`].
    pub(super) fn load(certificate: &Path, key: &Path, now: i64) -> Result<Pair> {
        let (pem, _) = read(certificate, "certificate", "--tls-cert")?;
        let chain = chain(&pem, certificate)?;
        let (from, until) = validity(&chain[0]).map_err(|e| {
            let what = format!("the certificate in `{}` cannot be read: {e}", certificate.display());
            Error::new(Code::InvalidRequest, what).hint("Have it made anew.")
        })?;
        let (pem, key_is_open) = read(key, "key", "--tls-key")?;
        let secret = secret(&pem, key)?;
        let provider = rustls::crypto::ring::default_provider();
        let key =
            CertifiedKey::from_der(chain, secret, &provider).map_err(|e| unusable(e, certificate, key))?;
        if until < now {
            let what = format!("the certificate in `{}` expired {}", certificate.display(), ago(now - until));
            return Err(Error::new(Code::InvalidRequest, what)
                .hint("Have it renewed; check this machine's clock, too."));
        }
        Ok(Pair { key: Arc::new(key), from, until, key_is_open })
    }
}

/// A file's text, and whether everybody may read it.
fn read(path: &Path, what: &str, option: &str) -> Result<(Zeroizing<Vec<u8>>, bool)> {
    let cannot = |e: std::io::Error| {
        let hint = match e.kind() {
            std::io::ErrorKind::NotFound => format!("Check the path that {option} gives."),
            std::io::ErrorKind::PermissionDenied => {
                "Let the user that runs the server read it, e.g. through its group.".to_owned()
            }
            _ => format!("Name a file in PEM form with {option}."),
        };
        Error::io(&format!("read the server's {what} in"), path, e).hint(hint)
    };
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode();
    let mut text = Zeroizing::new(Vec::new());
    file.take(limits::TLS_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(cannot)?;
    if limits::TLS_FILE_BYTES_MAX < text.len() as u64 {
        let what = format!("`{}` is too large for a {what}", path.display());
        return Err(Error::new(Code::TooLarge, what).hint(format!("Name a file in PEM form with {option}.")));
    }
    Ok((text, mode & READ_BY_OTHERS != 0))
}

/// At least one certificate, the server's own first.
fn chain(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let broken = |why: String| {
        Error::new(Code::InvalidRequest, format!("`{}` {why}", path.display())).hint(
            "--tls-cert is to name a PEM file with the server's certificate first, then those between it and its authority.",
        )
    };
    let chain = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| broken(format!("is no PEM file: {e}")))?;
    if chain.is_empty() {
        return Err(broken("holds no certificate".to_owned()));
    }
    Ok(chain)
}

fn secret(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>> {
    let broken = |why: &dyn std::fmt::Display, hint: &str| {
        Error::new(Code::InvalidRequest, format!("`{}` {why}", path.display())).hint(hint)
    };
    let is_encrypted = |marker: &[u8]| memchr::memmem::find(pem, marker).is_some();
    if is_encrypted(b"ENCRYPTED PRIVATE KEY") || is_encrypted(b"Proc-Type: 4,ENCRYPTED") {
        let hint = "Decrypt it with `openssl pkey -in FILE -out DECRYPTED`, and let nobody else read that.";
        return Err(broken(&"holds a key that a passphrase protects", hint));
    }
    let hint =
        "--tls-key is to name a PEM file with the certificate's private key: PKCS #8, PKCS #1 or SEC1.";
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(broken(&"holds no private key", hint)),
        Err(e) => Err(broken(&format_args!("is no PEM file: {e}"), hint)),
    }
}

fn unusable(error: TlsError, certificate: &Path, key: &Path) -> Error {
    let (certificate, key) = (certificate.display(), key.display());
    let (what, hint) = match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => (
            format!("the key in `{key}` does not belong to the certificate in `{certificate}`"),
            "The server's own certificate has to be the first in its file; name the key it was made with.",
        ),
        TlsError::InvalidCertificate(why) => (
            format!("the certificate in `{certificate}` cannot be read: {why}"),
            "Have it made anew: X.509, version 3.",
        ),
        error => (
            format!("the key in `{key}` cannot be used: {error}"),
            "RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, and Ed25519 are understood.",
        ),
    };
    Error::new(Code::InvalidRequest, what).hint(hint)
}

/// A time that lies `seconds` back, for people.
fn ago(seconds: i64) -> String {
    match seconds {
        ..7200 => format!("{} minutes ago", seconds / 60),
        7200..172_800 => format!("{} hours ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) mod tests;
