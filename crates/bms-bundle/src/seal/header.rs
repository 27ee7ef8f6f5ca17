//! The layout of `sealed.bms`: preamble, encrypted header, then the files in chunks.
//!
//! ```text
//! 0   8  "BMSSEAL1"
//! 8  16  seal id
//! 24  4  bytes of a chunk's plaintext, little-endian
//! 28  4  bytes of the encrypted header, tag included, little-endian
//! 32  8  bytes of the whole file, little-endian
//! 40     header: JSON, padded with spaces, AES-256-GCM with the 40 bytes above as associated data
//!        for each file its chunks one after the other, a 16-byte tag behind each; an empty file has one empty chunk
//! ```

use std::ops::Range;

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use super::cipher::{SealId, SealKeys, TAG_BYTES, file_binding};
use crate::{MANIFEST, path};

/// Bytes before the header.
pub(crate) const PREAMBLE_BYTES: usize = 40;
/// Bytes of a chunk's plaintext: large enough that a call costs nothing beside the cipher, small enough for a
/// processor's cache.
pub(crate) const CHUNK_BYTES: u32 = 256 << 10;
const CHUNK_BYTES_MIN: u32 = 64 << 10;
const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// The header is padded to a multiple of this, so that its length says little about the names in it.
const PADDING_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"BMSSEAL1";

/// The unencrypted beginning of `sealed.bms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub(crate) seal: SealId,
    pub(crate) chunk_bytes: u32,
    pub(crate) header_bytes: u32,
    pub(crate) file_bytes: u64,
}

impl Preamble {
    pub(crate) fn to_bytes(&self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.seal);
        bytes[24..28].copy_from_slice(&self.chunk_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.header_bytes.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes
    }

    /// Reads the preamble of a file of `length` bytes.
    pub(crate) fn parse(bytes: &[u8], length: u64) -> Result<Preamble> {
        let (head, _) = bytes.split_first_chunk::<PREAMBLE_BYTES>().ok_or_else(|| invalid("is too short"))?;
        if &head[..8] != MAGIC {
            return Err(invalid("does not begin as sealed files do"));
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let preamble = Preamble {
            seal: head[8..24].try_into().map_err(|_| invalid("is too short"))?,
            chunk_bytes: number(24),
            header_bytes: number(28),
            file_bytes: u64::from(number(32)) | u64::from(number(36)) << 32,
        };
        let chunk = preamble.chunk_bytes;
        if !chunk.is_power_of_two() || !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk) {
            return Err(invalid("has chunks of a length that is not supported"));
        }
        let header = preamble.header_bytes as usize;
        if !(TAG_BYTES..=limits::SEAL_HEADER_BYTES_MAX + TAG_BYTES).contains(&header) {
            return Err(invalid("has a header of a length that is not supported"));
        }
        if preamble.file_bytes != length || length < (PREAMBLE_BYTES + header) as u64 {
            return Err(invalid("is not as long as it says"));
        }
        Ok(preamble)
    }

    pub(crate) fn header_range(&self) -> Range<usize> {
        PREAMBLE_BYTES..PREAMBLE_BYTES + self.header_bytes as usize
    }
}

/// The list of sealed files: the header's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Name of the model.
    pub(crate) model: String,
    /// Digest of the bundle inside.
    pub(crate) digest: String,
    /// The files in their order.
    pub(crate) files: Vec<SealedFile>,
}

/// One file inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedFile {
    pub(crate) path: String,
    pub(crate) size: u64,
}

impl Header {
    /// Reads and checks the decrypted header. Public for fuzzing.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`].
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let header: Header = serde_json::from_slice(bytes)
            .map_err(|e| invalid(&format!("has a malformed header: {e}")).because(e))?;
        if limits::BUNDLE_FILES_MAX + 2 < header.files.len() {
            return Err(invalid("holds too many files"));
        }
        path::check_set(header.files.iter().map(|file| file.path.as_str()))?;
        if !header.files.iter().any(|file| file.path == MANIFEST) {
            return Err(invalid("holds no manifest"));
        }
        if header.total().is_none_or(|total| limits::BUNDLE_BYTES_MAX < total) {
            return Err(Error::new(Code::TooLarge, "the sealed files are over the limit of a bundle"));
        }
        Ok(header)
    }

    /// The header's bytes, padded.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|e| Error::new(Code::Internal, format!("failed to write a header: {e}")).because(e))?;
        bytes.resize(bytes.len().next_multiple_of(PADDING_BYTES), b' ');
        match limits::SEAL_HEADER_BYTES_MAX < bytes.len() {
            true => Err(Error::new(Code::TooLarge, "the list of files is over the limit of a sealed header")),
            false => Ok(bytes),
        }
    }

    /// Bytes of all files.
    fn total(&self) -> Option<u64> {
        self.files.iter().try_fold(0_u64, |total, file| total.checked_add(file.size))
    }
}

/// Where everything lies in `sealed.bms`.
pub(crate) struct Layout {
    pub(crate) files: Vec<FilePlace>,
    pub(crate) chunk_bytes: u64,
    /// Bytes of the whole file.
    pub(crate) end: u64,
}

/// Where one file lies.
pub(crate) struct FilePlace {
    pub(crate) path: String,
    pub(crate) number: u32,
    pub(crate) size: u64,
    pub(crate) binding: [u8; 32],
    /// Where its first chunk begins.
    pub(crate) begin: u64,
}

impl Layout {
    pub(crate) fn new(header: &Header, seal: &SealId, header_bytes: u32, chunk_bytes: u32) -> Result<Layout> {
        let total = header.total().ok_or_else(|| invalid("is too large"))?;
        let chunk_bytes = u64::from(chunk_bytes);
        let mut at = (PREAMBLE_BYTES as u64) + u64::from(header_bytes);
        let mut files = Vec::with_capacity(header.files.len());
        for (number, file) in (0_u32..).zip(&header.files) {
            let of = (number, file.path.as_str(), file.size);
            let binding = file_binding(seal, &header.model, &header.digest, of, total);
            let place = FilePlace { path: file.path.clone(), number, size: file.size, binding, begin: at };
            // Within the limit of a bundle plus one part in 4096: far from the end of the numbers.
            at += file.size + place.chunks(chunk_bytes) * TAG_BYTES as u64;
            files.push(place);
        }
        Ok(Layout { files, chunk_bytes, end: at })
    }
}

impl FilePlace {
    pub(crate) fn chunks(&self, chunk_bytes: u64) -> u64 {
        self.size.div_ceil(chunk_bytes).max(1)
    }

    /// Where chunk `number` lies in `sealed.bms`, tag included.
    pub(crate) fn sealed_range(&self, number: u64, chunk_bytes: u64) -> Range<u64> {
        let begin = self.begin + number * (chunk_bytes + TAG_BYTES as u64);
        let plain = self.plain_range(number, chunk_bytes);
        begin..begin + (plain.end - plain.start) + TAG_BYTES as u64
    }

    /// Where chunk `number` lies in the file.
    pub(crate) fn plain_range(&self, number: u64, chunk_bytes: u64) -> Range<u64> {
        let begin = number * chunk_bytes;
        begin..self.size.min(begin + chunk_bytes)
    }
}

/// Checks the unencrypted beginning of `sealed.bms`. Public for fuzzing.
///
/// # Errors
/// [`Code::InvalidBundle`].
pub fn check_preamble(sealed: &[u8]) -> Result<()> {
    Preamble::parse(sealed, sealed.len() as u64).map(drop)
}

/// Opens the header of `sealed.bms`.
pub(crate) fn read(sealed: &[u8], keys: &SealKeys) -> Result<(Preamble, Header, Layout)> {
    let preamble = Preamble::parse(sealed, sealed.len() as u64)?;
    // `parse` made sure that the header lies within the file.
    let bytes = keys.open_header(&sealed[..PREAMBLE_BYTES], &sealed[preamble.header_range()])?;
    let header = Header::parse(&bytes)?;
    let layout = Layout::new(&header, &preamble.seal, preamble.header_bytes, preamble.chunk_bytes)?;
    if layout.end != preamble.file_bytes {
        return Err(invalid("is not as long as its files"));
    }
    Ok((preamble, header, layout))
}

fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidBundle, format!("`{}` {what}", super::SEALED))
        .hint("Fetch the bundle again from its publisher.")
}

#[cfg(test)]
mod tests;
