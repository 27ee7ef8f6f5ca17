//! The readers of what lies in a store, for the fuzzer: they are private, and most look at nothing whose digest is not right,
//! which somebody who can write to the bucket gives it.

use bytes::Bytes;

use crate::encode::{self, Encoding};
use crate::objects::Name;
use crate::recipe::seal;
use crate::{CHUNK_BYTES_MAX, Digest, Recipe, condemned, frame, index, pack, unframe};

/// Reads `bytes` as everything the store reads. What is read has to be written back as it was.
///
/// # Panics
/// When it is not, which is for the fuzzer to find.
pub fn read(bytes: &[u8]) {
    let sealed = seal(bytes.to_vec());
    for recipe in [bytes, &sealed] {
        if let Ok(read) = Recipe::read(recipe) {
            assert_eq!(read.write(), recipe);
        }
    }
    if let Some(packs) = index::parse(&sealed) {
        assert_eq!(index::write(&packs), sealed);
    }
    drop(condemned::parse(&sealed));
    read_pack(bytes);
    read_chunk(bytes);
    if let Ok(chunks) = unframe(Bytes::copy_from_slice(bytes)) {
        let mut again = Vec::new();
        chunks.iter().for_each(|(id, chunk)| frame(*id, chunk, &mut again));
        assert_eq!(again, bytes);
    }
}

/// As the end of a pack: as it is, and as a list with its trailer in a pack of the size it says.
fn read_pack(bytes: &[u8]) {
    let name = Name::new();
    drop(pack::read_list(name, bytes.len() as u64, bytes));
    let mut fields = crate::recipe::Fields(bytes);
    let Some(entries) = pack::read_entries(&mut fields) else { return };
    let list = pack::write_list(&entries);
    let body: u64 = entries.iter().map(|entry| u64::from(entry.stored)).sum();
    let size = pack::MAGIC.len() as u64 + body + list.len() as u64;
    match pack::read_list(name, size, &list) {
        Ok(pack::List::Whole(contents)) => {
            assert_eq!(contents.entries, entries);
            let end = contents
                .places()
                .last()
                .map_or(pack::MAGIC.len() as u64, |(at, entry)| at + u64::from(entry.stored));
            assert_eq!(end + list.len() as u64, size);
        }
        other => panic!("a list that was written is not read: {other:?}"),
    }
    assert!(pack::read_list(name, size + 1, &list).is_err());
}

/// As the compressed form of a chunk, whose size the first bytes say.
fn read_chunk(bytes: &[u8]) {
    let Some((size, stored)) = bytes.split_first_chunk::<4>() else { return };
    let size = u32::from_le_bytes(*size) % (CHUNK_BYTES_MAX as u32 + 1);
    drop(encode::decode(stored, Encoding::Zstd, size, Digest::of(stored)));
}
