//! What a sender needs to know of a file before it sends any of it.

use std::io::Read;

use bms_wire::{Code, Error, Result};
use bytes::{Buf, Bytes};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use sha2::{Digest as _, Sha256};

use crate::cut::CHUNK_BYTES_MAX;
use crate::{ChunkRef, Cutter, Digest, Recipe};

/// Bytes read before they are cut.
const WINDOW_BYTES: usize = 16 << 20;

impl Recipe {
    /// Cuts a file of about this size as a store does, keeping a window of it in memory.
    ///
    /// # Errors
    /// [`Code::Io`] when `from` fails; as [`Recipe::check`].
    pub fn of(mut from: impl Read, size: u64) -> Result<Recipe> {
        let cutter = Cutter::for_size(Some(size));
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), Sha256::new());
        let (mut window, mut chunks, mut total) = (Vec::new(), Vec::new(), 0_u64);
        loop {
            let before = window.len();
            let read = (&mut from).take(WINDOW_BYTES as u64).read_to_end(&mut window);
            let read =
                read.map_err(|e| Error::new(Code::Io, format!("failed to read the file: {e}")).because(e))?;
            let new = &window[before..];
            total += read as u64;
            let ends = read < WINDOW_BYTES;
            let hashes = || {
                blake3.update(new);
                sha256.update(new);
            };
            let (made, ()) = rayon::join(|| cut(&cutter, &window, ends), hashes);
            let end: usize = made.iter().map(|chunk| chunk.size as usize).sum();
            chunks.extend(made);
            window.drain(..end);
            if ends {
                break;
            }
        }
        let recipe = Recipe {
            digest: blake3.finalize().into(),
            sha256: sha256.finalize().into(),
            size: total,
            chunks,
        };
        recipe.check()?;
        Ok(recipe)
    }

    /// The form in which it is stored and sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.write()
    }
}

fn cut(cutter: &Cutter, window: &[u8], ends: bool) -> Vec<ChunkRef> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(length) = cutter.cut(&window[at..], ends) {
        ranges.push(at..at + length);
        at += length;
    }
    let one = |range: std::ops::Range<usize>| ChunkRef {
        id: Digest::of(&window[range.clone()]),
        size: range.len() as u32,
    };
    ranges.into_par_iter().map(one).collect()
}

/// Appends a chunk in the form in which chunks are sent: its digest, its length as four bytes, its bytes.
pub fn frame(id: Digest, chunk: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
    out.extend_from_slice(chunk);
}

/// Reads chunks that were sent. Whether the bytes are those of the digests is for the reader to find out.
///
/// # Errors
/// [`Code::InvalidRequest`] when this is something else.
pub fn unframe(mut bytes: Bytes) -> Result<Vec<(Digest, Bytes)>> {
    let invalid = || Error::new(Code::InvalidRequest, "these are not chunks: digest, length, bytes of each");
    let mut chunks = Vec::new();
    while bytes.has_remaining() {
        let (Some(id), Some(length)) = (bytes.first_chunk::<32>(), bytes.get(32..36)) else {
            return Err(invalid());
        };
        let id = Digest::from_bytes(*id);
        let length = length.iter().rev().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        bytes.advance(36);
        if length == 0 || CHUNK_BYTES_MAX < length || bytes.len() < length {
            return Err(invalid());
        }
        chunks.push((id, bytes.split_to(length)));
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests;
