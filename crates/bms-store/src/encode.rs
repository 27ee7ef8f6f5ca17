//! Chunks as they are stored: as they are, or compressed where that helps.

use std::borrow::Cow;

use bms_wire::{Code, Error, Result};

use crate::Digest;

/// Level of zstd. Higher ones hardly gain on weights.
const LEVEL: i32 = 3;
/// Level of the probe.
const PROBE_LEVEL: i32 = 1;
/// Bytes of the probe, from the middle of the chunk.
const PROBE_BYTES: usize = 8 << 10;
/// Compressed is kept when it takes less than this share, in percent: reading it costs time each time.
const WORTH_PERCENT: usize = 92;

/// How the bytes of a chunk are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Raw,
    Zstd,
}

/// The stored form of a chunk, `None` when it is the chunk itself.
pub(crate) fn compress(chunk: &[u8]) -> Option<Vec<u8>> {
    let begin = (chunk.len() / 2).saturating_sub(PROBE_BYTES / 2);
    let probe = &chunk[begin..chunk.len().min(begin + PROBE_BYTES)];
    squeezed(probe, PROBE_LEVEL)?;
    if probe.len() == chunk.len() {
        return squeezed(chunk, PROBE_LEVEL);
    }
    squeezed(chunk, LEVEL)
}

fn squeezed(bytes: &[u8], level: i32) -> Option<Vec<u8>> {
    let room = bytes.len() * WORTH_PERCENT / 100;
    let mut out = vec![0; room];
    // With no more room than what is worth it, the compressor gives up by itself.
    let length = zstd::bulk::compress_to_buffer(bytes, &mut out, level).ok()?;
    out.truncate(length);
    Some(out)
}

/// The chunk of its stored form, checked against its digest.
///
/// # Errors
/// [`Code::Tampered`] when it is another one.
pub(crate) fn decode(stored: &[u8], encoding: Encoding, size: u32, digest: Digest) -> Result<Cow<'_, [u8]>> {
    let chunk = match encoding {
        Encoding::Raw => Cow::Borrowed(stored),
        Encoding::Zstd => {
            let chunk = zstd::bulk::decompress(stored, size as usize);
            Cow::Owned(chunk.map_err(|e| rotten(digest).because(e))?)
        }
    };
    match chunk.len() == size as usize && Digest::of(&chunk) == digest {
        true => Ok(chunk),
        false => Err(rotten(digest)),
    }
}

pub(crate) fn rotten(chunk: Digest) -> Error {
    Error::new(Code::Tampered, format!("the stored chunk `{chunk}` holds other bytes"))
        .hint("The disk is failing or someone changed the store; `bms scrub` finds what is rotten and repairs it from another store.")
}

pub(crate) fn misnamed(file: Digest) -> Error {
    Error::new(Code::Tampered, format!("the recipe of `{file}` is that of another file"))
}

#[cfg(test)]
mod tests;
