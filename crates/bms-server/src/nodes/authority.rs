//! The authority of one centre, and the keys and certificates of those it knows.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_wire::{Code, Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// The file of an authority in its folder.
const FILE: &str = "authority.json";
/// How long the authority's own certificate is good for.
const AUTHORITY_DAYS: i64 = 3650;
/// How far a machine's clock may be behind.
const CLOCKS_APART: Duration = Duration::from_secs(300);
/// Bytes of a public key on the curve P-256, uncompressed.
const KEY_BYTES: usize = 65;

/// What an authority's file holds, in base64.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(with = "super::secret")]
    key: Zeroizing<String>,
    certificate: String,
}

/// Signs the certificates of workers and of the centre's replicas.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin()).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority in `dir`, made there at first use; its file can be read by this user only. Of several processes that
    /// make one at once, one's is everybody's.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin; [`Code::Tampered`] for a file that holds something else.
    pub(crate) fn load_or_make(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.exists() {
            std::fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, e))?;
            write_once(&path, &Authority::make()?)?;
        }
        let broken = |why: &dyn std::fmt::Display| {
            Error::new(Code::Tampered, format!("`{}` holds no authority: {why}", path.display()))
                .hint("Put back a copy; workers that joined believe that one only.")
        };
        let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?);
        let kept: Kept = serde_json::from_str(&text).map_err(|e| broken(&e))?;
        let key = Zeroizing::new(STANDARD.decode(kept.key.as_bytes()).map_err(|e| broken(&e))?);
        let certificate = STANDARD.decode(&kept.certificate).map_err(|e| broken(&e))?;
        let issuer = Issuer::new(authority_params(), key_pair(&key).map_err(|e| broken(&e))?);
        let certificate = CertificateDer::from(certificate);
        match key_id_of(&certificate) {
            Some(id) if id == key_id(&issuer.key().subject_public_key_info()) => {
                Ok(Authority { issuer, certificate })
            }
            _ => Err(broken(&"its key and its certificate do not belong together")),
        }
    }

    fn make() -> Result<Vec<u8>> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = authority_params().self_signed(&key).map_err(failed)?;
        let kept = Kept {
            key: Zeroizing::new(STANDARD.encode(key.serialized_der())),
            certificate: STANDARD.encode(certificate.der()),
        };
        serde_json::to_vec(&kept).map_err(|e| Error::new(Code::Internal, "a key is not written").because(e))
    }

    /// Its certificate, for whoever shall believe it.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Hex SHA-256 of its public key, by which a join token knows it.
    pub(crate) fn pin(&self) -> String {
        key_id(&self.issuer.key().subject_public_key_info())
    }

    /// A certificate for who holds this key and goes by `host`, good for `length` from now on.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is no key.
    pub(crate) fn issue(
        &self,
        host: &str,
        key: &PublicKey,
        length: Duration,
    ) -> Result<CertificateDer<'static>> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
        params.distinguished_name = named(host);
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - CLOCKS_APART, now + length);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer).map_err(failed)?.der().clone())
    }

    /// A certificate as workers get it.
    pub(crate) fn issue_to_worker(
        &self,
        worker: &str,
        key: &PublicKey,
        length: Duration,
    ) -> Result<CertificateDer<'static>> {
        self.issue(&super::worker_host(worker), key, length)
    }
}

/// A public key on the curve P-256, without anything around it.
pub(crate) struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key in these bytes.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when that cannot be.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self> {
        match bytes.len() == KEY_BYTES && bytes[0] == 4 {
            true => Ok(PublicKey(bytes)),
            false => Err(Error::new(Code::InvalidRequest, "this is no public key on the curve P-256")),
        }
    }

    /// Hex SHA-256 of it, as it stands in a certificate.
    pub(crate) fn id(&self) -> String {
        key_id(&self.subject_public_key_info())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Somebody's key pair.
pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn generate() -> Result<Self> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Key).map_err(failed)
    }

    /// The key that [`Key::secret`] gave.
    pub(crate) fn read(secret: &[u8]) -> Result<Self> {
        key_pair(secret).map(Key).map_err(failed)
    }

    /// All of it, to be kept or used; PKCS #8.
    pub(crate) fn secret(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key_raw().to_vec())
    }

    /// As connections use it.
    pub(crate) fn signing(&self) -> Result<Arc<dyn rustls::sign::SigningKey>> {
        let der = PrivatePkcs8KeyDer::from(self.0.serialize_der());
        rustls::crypto::ring::sign::any_ecdsa_type(&der.into())
            .map_err(|e| Error::new(Code::Internal, "a key cannot be used").because(e))
    }
}

/// Hex SHA-256 of the public key in a certificate; `None` when it is none.
pub(crate) fn key_id_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).ok()?;
    Some(key_id(&parsed.subject_public_key_info()))
}

fn key_id(public_key_info: &[u8]) -> String {
    Sha256::digest(public_key_info).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_pair(secret: &[u8]) -> std::result::Result<KeyPair, rcgen::Error> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(secret), &PKCS_ECDSA_P256_SHA256)
}

fn authority_params() -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - CLOCKS_APART;
    params.not_after = now + time::Duration::days(AUTHORITY_DAYS);
    params.distinguished_name = named("AI-BMS workers");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn failed(error: rcgen::Error) -> Error {
    Error::new(Code::Internal, format!("failed to make a key or certificate: {error}")).because(error)
}

/// Writes a file for this user's eyes, whole or not at all, and not over another.
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = stage(path, bytes)?;
    let linked = std::fs::hard_link(&staged, path);
    let _ = std::fs::remove_file(&staged);
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("put in place", path, e)),
        _ => Ok(()),
    }
}

/// The same, over what is there.
pub(crate) fn write_over(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = stage(path, bytes)?;
    std::fs::rename(&staged, path).map_err(|e| Error::io("put in place", path, e))
}

fn stage(path: &Path, bytes: &[u8]) -> Result<std::path::PathBuf> {
    let staged = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let _ = std::fs::remove_file(&staged);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Error::io("write", &staged, e))?;
    Ok(staged)
}

#[cfg(test)]
mod tests;
