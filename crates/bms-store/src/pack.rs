//! Packs: many chunks in one object, with a list of them at its end.
//!
//! ```text
//! "BMSPACK1" | chunks, one after the other | entries | BLAKE3 of the entries | bytes of the entries u32 | "BMSPEND1"
//! entry: BLAKE3 of the chunk | its bytes u32 | stored bytes u32 | 0 raw, or 1 zstd and BLAKE3 of the stored bytes
//! ```
//! Every byte is covered: chunks by their digests, the list by its own, the rest has one value only. The stored form of a
//! compressed chunk has a digest of its own because flipped bits may go unseen through a decompressor.

use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore};

use crate::Digest;
use crate::encode::{self, Encoding};
use crate::objects::{self, Name, failure};
use crate::recipe::Fields;

pub(crate) const MAGIC: &[u8; 8] = b"BMSPACK1";
const END: &[u8; 8] = b"BMSPEND1";
/// Digest, length and end mark.
const TRAILER_BYTES: usize = 32 + 4 + 8;
/// Bytes of the end of a pack read at first: most lists fit.
const TAIL_BYTES: u64 = 256 << 10;
/// Bytes of a list that are believed.
const LIST_BYTES_MAX: usize = 64 << 20;
/// A pack is closed when it has this many bytes.
pub(crate) const PACK_BYTES: u64 = 64 << 20;

/// One chunk in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Digest,
    /// Bytes of the chunk.
    pub(crate) size: u32,
    /// Bytes it takes in the pack.
    pub(crate) stored: u32,
    /// Digest of the stored bytes of a compressed chunk.
    pub(crate) squeezed: Option<Digest>,
}

impl Entry {
    pub(crate) fn encoding(&self) -> Encoding {
        if self.squeezed.is_some() { Encoding::Zstd } else { Encoding::Raw }
    }

    /// Whether these are the bytes that were stored, to the last bit.
    pub(crate) fn holds(&self, stored: &[u8]) -> bool {
        match self.squeezed {
            None => Digest::of(stored) == self.id,
            Some(squeezed) => {
                Digest::of(stored) == squeezed
                    && encode::decode(stored, Encoding::Zstd, self.size, self.id).is_ok()
            }
        }
    }
}

/// What a pack holds, in the order of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) name: Name,
    /// Bytes of the whole object.
    pub(crate) size: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Contents {
    /// The entries with the place of each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let mut at = MAGIC.len() as u64;
        self.entries.iter().map(move |entry| {
            let place = at;
            at += u64::from(entry.stored);
            (place, entry)
        })
    }
}

/// A chunk as it goes into a pack.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) entry: Entry,
    pub(crate) stored: Bytes,
}

impl Packed {
    /// Compresses where that helps.
    pub(crate) fn new(id: Digest, chunk: Bytes) -> Packed {
        let size = chunk.len() as u32;
        match encode::compress(&chunk) {
            None => Packed { entry: Entry { id, size, stored: size, squeezed: None }, stored: chunk },
            Some(stored) => {
                let squeezed = Some(Digest::of(&stored));
                let entry = Entry { id, size, stored: stored.len() as u32, squeezed };
                Packed { entry, stored: stored.into() }
            }
        }
    }
}

/// The end of a pack with these entries.
pub(crate) fn write_list(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    write_entries(entries, &mut out);
    let (digest, length) = (blake3::hash(&out), out.len() as u32);
    out.extend_from_slice(digest.as_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(END);
    out
}

pub(crate) fn write_entries(entries: &[Entry], out: &mut Vec<u8>) {
    for entry in entries {
        out.extend_from_slice(entry.id.as_bytes());
        out.extend_from_slice(&entry.size.to_le_bytes());
        out.extend_from_slice(&entry.stored.to_le_bytes());
        out.push(u8::from(entry.squeezed.is_some()));
        if let Some(squeezed) = entry.squeezed {
            out.extend_from_slice(squeezed.as_bytes());
        }
    }
}

/// Entries up to the end of `from`.
pub(crate) fn read_entries(from: &mut Fields<'_>) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !from.0.is_empty() {
        let id = Digest::from_bytes(from.take()?);
        let (size, stored) = (u32::from_le_bytes(from.take()?), u32::from_le_bytes(from.take()?));
        let squeezed = match from.take::<1>()? {
            [0] => None,
            [1] => Some(Digest::from_bytes(from.take()?)),
            _ => return None,
        };
        if crate::CHUNK_BYTES_MAX < size as usize || size < stored || (squeezed.is_none() && size != stored) {
            return None;
        }
        entries.push(Entry { id, size, stored, squeezed });
    }
    Some(entries)
}

/// What the end of a pack says. `tail` may be any end of it that is long enough.
pub(crate) fn read_list(name: Name, size: u64, tail: &[u8]) -> Result<List> {
    let rotten = || {
        Error::new(
            Code::Tampered,
            format!("the list of the pack `{name}` holds other bytes than were written"),
        )
    };
    let (rest, trailer) = tail.split_last_chunk::<TRAILER_BYTES>().ok_or_else(rotten)?;
    let mut trailer = Fields(trailer);
    let parts = (trailer.take::<32>(), trailer.take::<4>(), trailer.take::<8>());
    let (Some(digest), Some(length), Some(end)) = parts else { return Err(rotten()) };
    let length = u32::from_le_bytes(length) as usize;
    if end != *END || LIST_BYTES_MAX < length || size < (length + TRAILER_BYTES + MAGIC.len()) as u64 {
        return Err(rotten());
    }
    let Some(begin) = rest.len().checked_sub(length) else {
        return Ok(List::Longer((length + TRAILER_BYTES) as u64));
    };
    let list = &rest[begin..];
    if blake3::hash(list) != digest {
        return Err(rotten());
    }
    let entries = read_entries(&mut Fields(list)).ok_or_else(rotten)?;
    let body: u64 = entries.iter().map(|entry| u64::from(entry.stored)).sum();
    match body + (MAGIC.len() + length + TRAILER_BYTES) as u64 == size {
        true => Ok(List::Whole(Contents { name, size, entries })),
        false => Err(rotten()),
    }
}

/// A list that was read, or how many bytes it takes to read it.
#[derive(Debug)]
pub(crate) enum List {
    Whole(Contents),
    Longer(u64),
}

/// Reads the list of a pack from its end; `None` when the pack is gone.
///
/// # Errors
/// [`Code::Tampered`] when the list rotted.
pub(crate) async fn contents(objects: &dyn ObjectStore, name: Name, size: u64) -> Result<Option<Contents>> {
    if size < (MAGIC.len() + TRAILER_BYTES) as u64 {
        return Err(Error::new(Code::Tampered, format!("the pack `{name}` was cut short")));
    }
    let mut bytes = TAIL_BYTES;
    loop {
        let options = GetOptions {
            range: Some(GetRange::Bounded(size.saturating_sub(bytes)..size)),
            ..GetOptions::default()
        };
        let got = match objects.get_opts(&objects::pack(name), options).await {
            Ok(got) => got.bytes().await,
            Err(e) => Err(e),
        };
        let tail = match got {
            Ok(tail) => tail,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(failure("read the list of a pack", e)),
        };
        match read_list(name, size, &tail)? {
            List::Whole(contents) => return Ok(Some(contents)),
            List::Longer(needed) if bytes < needed => bytes = needed,
            List::Longer(_) => {
                let what = format!("the pack `{name}` is shorter than its list");
                return Err(Error::new(Code::Tampered, what));
            }
        }
    }
}

#[cfg(test)]
mod tests;
