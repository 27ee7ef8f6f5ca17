//! What a file consists of: its recipe.
//!
//! ```text
//! "BMSRECI1" | size u64 | BLAKE3 of the file | SHA-256 of the file | chunks u32 | (BLAKE3, size u32)… | BLAKE3 of all before
//! ```
//! Numbers are little-endian. A recipe is written after every chunk it names is stored: what has a recipe is complete.

use bms_wire::{Code, Error, Result, limits};

use crate::Digest;
use crate::cut::CHUNK_BYTES_MAX;

const MAGIC: &[u8; 8] = b"BMSRECI1";
const HEAD_BYTES: usize = 8 + 8 + 32 + 32 + 4;
const CHUNK_ENTRY_BYTES: usize = 32 + 4;
/// Bytes of the largest recipe there can be.
pub(crate) const RECIPE_BYTES_MAX: u64 = limits::RECIPE_BYTES_MAX as u64;

/// One chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// BLAKE3 of its bytes.
    pub id: Digest,
    /// Its bytes.
    pub size: u32,
}

/// A file as the list of its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// BLAKE3 of the file.
    pub digest: Digest,
    /// SHA-256 of the file, which signatures name.
    pub sha256: [u8; 32],
    /// Bytes of the file.
    pub size: u64,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkRef>,
}

impl Recipe {
    /// Whether the sizes of the chunks can be those of a file.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when they do not add up, [`Code::TooLarge`] over [`limits::BLOB_BYTES_MAX`].
    pub fn check(&self) -> Result<()> {
        if limits::BLOB_BYTES_MAX < self.size {
            let what = format!("a file of a bundle has at most {} bytes", limits::BLOB_BYTES_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        let invalid =
            |what: &str| Err(Error::new(Code::InvalidRequest, format!("the recipe of a file {what}")));
        if self.chunks.iter().any(|chunk| chunk.size == 0 || CHUNK_BYTES_MAX < chunk.size as usize) {
            return invalid("has a chunk of an impossible size");
        }
        let total: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.size)).sum();
        match total == self.size {
            true => Ok(()),
            false => invalid("has chunks of another size in total"),
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.chunks.len() * CHUNK_ENTRY_BYTES + 32);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(self.digest.as_bytes());
        out.extend_from_slice(&self.sha256);
        out.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        for chunk in &self.chunks {
            out.extend_from_slice(chunk.id.as_bytes());
            out.extend_from_slice(&chunk.size.to_le_bytes());
        }
        seal(out)
    }

    /// Reads what `write` wrote.
    ///
    /// # Errors
    /// [`Code::Tampered`] for anything else.
    pub fn read(bytes: &[u8]) -> Result<Recipe> {
        let rotten = || Error::new(Code::Tampered, "a stored recipe holds other bytes than were written");
        let mut from = Fields(unseal(bytes).ok_or_else(rotten)?);
        let mut parse = || {
            if from.take::<8>()? != *MAGIC {
                return None;
            }
            let size = u64::from_le_bytes(from.take()?);
            let digest = Digest::from_bytes(from.take()?);
            let sha256 = from.take()?;
            let count = u32::from_le_bytes(from.take()?) as usize;
            if from.0.len() != count.checked_mul(CHUNK_ENTRY_BYTES)? {
                return None;
            }
            let mut chunks = Vec::with_capacity(count);
            for _ in 0..count {
                let id = Digest::from_bytes(from.take()?);
                chunks.push(ChunkRef { id, size: u32::from_le_bytes(from.take()?) });
            }
            Some(Recipe { digest, sha256, size, chunks })
        };
        let recipe = parse().ok_or_else(rotten)?;
        recipe.check().map_err(|e| rotten().because(e))?;
        Ok(recipe)
    }
}

/// Appends the digest of everything before it.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// What [`seal`] was given, when nothing of it changed.
pub(crate) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (content, digest) = bytes.split_last_chunk::<32>()?;
    (blake3::hash(content) == *digest).then_some(content)
}

/// Takes fields of fixed size from the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests;
