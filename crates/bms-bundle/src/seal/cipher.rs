//! Keys and chunks: AES-256-GCM under keys derived from a bundle's data key.
//!
//! HKDF-SHA256 (RFC 5869), salted with the bundle's seal id, makes of the data key one key for the header, one for the
//! contents, and a commitment by which a wrong key is told. A chunk's nonce is the number of its file, its own number
//! in the file, and whether it is the last: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) that
//! age uses, so no nonce occurs twice under one key, and a file cannot be cut or continued.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use bms_wire::{Code, Error, Result};
use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::bundle::tampered;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a seal id.
pub(crate) const SEAL_ID_BYTES: usize = 16;
/// Bytes GCM adds to a chunk.
pub(crate) const TAG_BYTES: usize = 16;

/// What a seal is called: random, made with it.
pub(crate) type SealId = [u8; SEAL_ID_BYTES];

/// The key of one sealed bundle. It never prints, and is overwritten when dropped.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl DataKey {
    /// A new key from the operating system's random numbers.
    ///
    /// # Errors
    /// [`Code::Internal`] when there are none.
    pub(crate) fn generate() -> Result<DataKey> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random(&mut *bytes)?;
        Ok(DataKey(bytes))
    }

    /// The key of these bytes.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when there are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<DataKey> {
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| {
            Error::new(Code::InvalidRequest, format!("a data key of {} bytes, not 32", bytes.len()))
        })?;
        Ok(DataKey(Zeroizing::new(bytes)))
    }

    /// The key's bytes, to be wrapped, or handed to the one process that loads the model.
    pub fn expose(&self) -> &[u8] {
        &*self.0
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// Fills `bytes` with the operating system's random numbers.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    OsRng
        .try_fill_bytes(bytes)
        .map_err(|e| Error::new(Code::Internal, "the operating system gave no random numbers").because(e))
}

/// The keys of one seal.
pub(crate) struct SealKeys {
    content: LessSafeKey,
    header: LessSafeKey,
    commitment: [u8; KEY_BYTES],
}

impl SealKeys {
    pub(crate) fn derive(key: &DataKey, seal: &SealId) -> SealKeys {
        let mut bytes = [0; KEY_BYTES];
        let mut of = |purpose: &str| {
            derive(seal, key.expose(), &[b"bms seal 1", purpose.as_bytes()], &mut bytes);
            bytes
        };
        let keys = SealKeys {
            content: cipher(&of("content")),
            header: cipher(&of("header")),
            commitment: of("commitment"),
        };
        bytes.zeroize();
        keys
    }

    /// Tells this key from every other, and nothing about it. AES-GCM alone would not: two keys can be found that both
    /// open one text.
    pub(crate) fn commitment(&self) -> String {
        hex::encode(self.commitment)
    }

    /// Encrypts the header in place; the tag is appended.
    pub(crate) fn seal_header(&self, preamble: &[u8], header: &mut Vec<u8>) -> Result<()> {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        self.header.seal_in_place_append_tag(nonce, Aad::from(preamble), header).map_err(|_| too_long())
    }

    /// Decrypts the header.
    pub(crate) fn open_header(&self, preamble: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let length = match self.header.open_in_place(nonce, Aad::from(preamble), &mut bytes) {
            Ok(plain) => plain.len(),
            Err(_) => return Err(tampered("the header of the sealed files is not what was sealed")),
        };
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Encrypts the chunk `plain` into `sealed`, which has room for it and the tag at the end.
    pub(crate) fn seal_chunk(&self, place: &Place<'_>, plain: &[u8], sealed: &mut [u8]) -> Result<()> {
        let (nonce, bound) = (place.nonce(), place.bound(plain.len()));
        let (bytes, tag) = sealed.split_at_mut_checked(plain.len()).ok_or_else(too_long)?;
        self.content
            .seal_out_of_place_scatter(nonce, Aad::from(bound), plain, bytes, &[], tag)
            .map_err(|_| too_long())
    }

    /// Decrypts the chunk `sealed`, its tag at the end, into `plain`, which is as long as the chunk. After an error nothing of
    /// what was sealed is in `plain`.
    pub(crate) fn open_chunk(&self, place: &Place<'_>, sealed: &[u8], plain: &mut [u8]) -> Result<()> {
        let refused = || tampered(format!("{:?} is not what was sealed (chunk {})", place.path, place.chunk));
        let (bytes, tag) = sealed.split_at_checked(plain.len()).ok_or_else(refused)?;
        let (nonce, bound) = (place.nonce(), place.bound(plain.len()));
        let opened = self.content.open_separate_gather(nonce, Aad::from(bound), bytes, tag, plain);
        opened.map_err(|_| {
            plain.zeroize();
            refused()
        })
    }
}

/// Where a chunk belongs.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Binds model, seal, file and lengths, see [`file_binding`].
    pub(crate) binding: &'a [u8; 32],
    pub(crate) path: &'a str,
    pub(crate) file: u32,
    /// Number in the file.
    pub(crate) chunk: u32,
    pub(crate) is_last: bool,
}

impl Place<'_> {
    fn nonce(&self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.file.to_be_bytes());
        nonce[7..11].copy_from_slice(&self.chunk.to_be_bytes());
        nonce[11] = u8::from(self.is_last);
        Nonce::assume_unique_for_key(nonce)
    }

    fn bound(&self, length: usize) -> [u8; 45] {
        let mut bound = [0; 45];
        bound[..32].copy_from_slice(self.binding);
        bound[32..36].copy_from_slice(&self.chunk.to_be_bytes());
        bound[36..44].copy_from_slice(&(length as u64).to_be_bytes());
        bound[44] = u8::from(self.is_last);
        bound
    }
}

/// What the chunks of one file are authenticated with: a digest of everything that says which file of which model it
/// is. Each part goes in with its length, so that no two lists of parts look alike.
pub(crate) fn file_binding(
    seal: &SealId,
    model: &str,
    digest: &str,
    file: (u32, &str, u64),
    total: u64,
) -> [u8; 32] {
    let (number, path, size) = file;
    let mut hasher = Sha256::new();
    let number = number.to_be_bytes();
    let (size, total) = (size.to_be_bytes(), total.to_be_bytes());
    let parts: [&[u8]; 8] = [
        b"bms sealed file 1",
        seal,
        model.as_bytes(),
        digest.as_bytes(),
        &number,
        path.as_bytes(),
        &size,
        &total,
    ];
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// HKDF-SHA256 of a secret.
pub(crate) fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8; KEY_BYTES]) {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            KEY_BYTES
        }
    }
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Length)
        .and_then(|key| key.fill(out))
        .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
}

/// The cipher of a key.
pub(crate) fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key is as long as AES-256 wants it"))
}

fn too_long() -> Error {
    Error::new(Code::Internal, "a piece to encrypt is over the limit of the cipher")
}

#[cfg(test)]
mod tests;
