//! Keys: ECDSA in PEM files. Ours are on P-256 with SHA-256; those of others also on P-384 with SHA-384 and P-521 with
//! SHA-512, as OpenSSF Model Signing has them.

use std::path::Path;

use bms_wire::{Code, Error, Result};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{self, Signature};
use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::folder;

/// Bytes of a PEM file with one key.
const PEM_BYTES_MAX: u64 = 64 << 10;

/// A private key that signs bundles. It never prints.
pub struct SigningKey {
    key: ecdsa::SigningKey,
    public: PublicKey,
}

/// A public key that bundles are verified with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: Curve,
    pem: String,
    id: String,
}

/// A point, with the curve it is on.
#[derive(Clone, PartialEq, Eq)]
enum Curve {
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    P521(p521::PublicKey),
}

impl SigningKey {
    /// A new key from the operating system's random numbers.
    pub fn generate() -> SigningKey {
        SigningKey::from(p256::SecretKey::random(&mut OsRng))
    }

    /// Reads a PEM file: PKCS#8 (`BEGIN PRIVATE KEY`) or SEC 1 (`BEGIN EC PRIVATE KEY`).
    ///
    /// # Errors
    /// [`Code::NotFound`] or [`Code::Io`] for the file, [`Code::InvalidRequest`] for its content.
    pub fn load(path: &Path) -> Result<SigningKey> {
        let pem = read_pem(path)?;
        let secret = p256::SecretKey::from_pkcs8_pem(&pem).or_else(|_| p256::SecretKey::from_sec1_pem(&pem));
        // The cause is dropped on purpose: nothing derived from a private key goes into a log.
        secret.map(SigningKey::from).map_err(|_| {
            Error::new(Code::InvalidRequest, format!("`{}` holds no P-256 private key", path.display()))
                .hint("Expected an unencrypted PKCS#8 PEM; `bms key generate` writes one.")
        })
    }

    /// Writes the key as PKCS#8 PEM, readable by its owner only.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the file exists, since overwriting a key loses it; [`Code::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let secret = p256::SecretKey::from(&self.key);
        let pem = secret
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| Error::new(Code::Internal, format!("failed to encode a key: {e}")))?;
        write_private(path, pem.as_bytes()).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::new(Code::Conflict, format!("the key `{}` exists already", path.display()))
                    .hint("Move it away first; bundles signed with a lost key cannot be signed again.")
            }
            _ => Error::io("write the key", path, e),
        })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as PEM text.
    pub fn public_pem(&self) -> &str {
        self.public.pem()
    }

    /// The key's name, see [`PublicKey::id`].
    pub fn key_id(&self) -> &str {
        self.public.id()
    }

    /// What this key and another's public half agree on (ECDH): the x-coordinate of their product.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the other is on another curve.
    pub(crate) fn agree(&self, other: &PublicKey) -> Result<Zeroizing<[u8; 32]>> {
        let Curve::P256(point) = &other.key else {
            return Err(Error::new(Code::InvalidRequest, "bundles are sealed for keys on P-256 only")
                .hint("`bms key sealing` prints such a key."));
        };
        let shared = p256::ecdh::diffie_hellman(self.key.as_nonzero_scalar(), point.as_affine());
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(shared.raw_secret_bytes());
        Ok(bytes)
    }

    /// A secret only the holder of this key has, for one purpose.
    pub(crate) fn secret_for(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = Sha256::new();
        hasher.update((purpose.len() as u64).to_be_bytes());
        hasher.update(purpose.as_bytes());
        let secret = Zeroizing::new(<[u8; 32]>::from(self.key.to_bytes()));
        hasher.update(*secret);
        Zeroizing::new(hasher.finalize().into())
    }

    /// Signs a message: DER of a deterministic (RFC 6979) ECDSA signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.to_der().as_bytes().to_vec()
    }
}

impl From<p256::SecretKey> for SigningKey {
    fn from(secret: p256::SecretKey) -> SigningKey {
        let key = ecdsa::SigningKey::from(&secret);
        let public = PublicKey::new(Curve::P256(secret.public_key()));
        SigningKey { key, public }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

impl PublicKey {
    fn new(key: Curve) -> PublicKey {
        let pem = match &key {
            Curve::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Curve::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Curve::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        let pem = pem.expect("a point on the curve always has a SubjectPublicKeyInfo of a few dozen bytes");
        let id = hex::encode(Sha256::digest(pem.as_bytes()));
        PublicKey { key, pem, id }
    }

    /// Reads PEM text (`BEGIN PUBLIC KEY`).
    ///
    /// # Errors
    /// [`Code::InvalidRequest`].
    pub fn from_pem(pem: &str) -> Result<PublicKey> {
        let pem = pem.trim();
        let key = p256::PublicKey::from_public_key_pem(pem)
            .map(Curve::P256)
            .or_else(|_| p384::PublicKey::from_public_key_pem(pem).map(Curve::P384))
            .or_else(|_| p521::PublicKey::from_public_key_pem(pem).map(Curve::P521));
        key.map(PublicKey::new).map_err(|e| {
            Error::new(Code::InvalidRequest, format!("not a public key on P-256, P-384 or P-521 in PEM: {e}"))
                .hint("Expected a block that begins with `-----BEGIN PUBLIC KEY-----`.")
        })
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Io`] or [`Code::InvalidRequest`].
    pub fn load(path: &Path) -> Result<PublicKey> {
        PublicKey::from_pem(&read_pem(path)?)
            .map_err(|e| e.while_doing(format_args!("read the key `{}`", path.display())))
    }

    /// SubjectPublicKeyInfo as PEM with final newline, always in the same spelling.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key's name: hex SHA-256 of [`PublicKey::pem`], as OpenSSF Model Signing hints at keys.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` (DER) is this key's signature of `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Curve::P256(key) => Signature::from_der(signature)
                .is_ok_and(|signature| ecdsa::VerifyingKey::from(key).verify(message, &signature).is_ok()),
            Curve::P384(key) => p384::ecdsa::Signature::from_der(signature).is_ok_and(|signature| {
                p384::ecdsa::VerifyingKey::from(key).verify(message, &signature).is_ok()
            }),
            Curve::P521(key) => p521::ecdsa::Signature::from_der(signature).is_ok_and(|signature| {
                // This curve's type knows no shorter way.
                let point = p521::elliptic_curve::sec1::ToEncodedPoint::to_encoded_point(key, false);
                p521::ecdsa::VerifyingKey::from_encoded_point(&point)
                    .is_ok_and(|key| key.verify(message, &signature).is_ok())
            }),
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

fn read_pem(path: &Path) -> Result<String> {
    // Through `canonicalize`, since keys are commonly mounted as links.
    let real = path.canonicalize().map_err(|e| Error::io("read the key", path, e))?;
    let bytes = folder::read_file(&real, PEM_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::new(Code::InvalidRequest, format!("`{}` is not PEM text", path.display())))
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
