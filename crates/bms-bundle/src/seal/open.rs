//! Decrypting into memory, on all processors.

use bms_wire::{Code, Error, Result};

use super::cipher::{DataKey, Place, SealKeys};
use super::header::{self, FilePlace, Layout};
use super::pieces::each_piece;
use super::{SealInfo, Secret};
use crate::Content;
use crate::bundle::tampered;

/// Bytes one thread decrypts before it takes more work.
const PIECE_BYTES: u64 = 4 << 20;

/// The derived keys, when `key` is that of the seal.
pub(crate) fn keys(info: &SealInfo, key: &DataKey) -> Result<SealKeys> {
    let keys = SealKeys::derive(key, &info.seal_id()?);
    match keys.commitment() == info.commitment {
        true => Ok(keys),
        false => {
            Err(Error::new(Code::Tampered, "the key in the envelope is not the key of the sealed files")
                .hint("Fetch the bundle again from its publisher; do not use this copy."))
        }
    }
}

/// Decrypts every file of a sealed bundle.
///
/// # Errors
/// [`Code::Tampered`] or [`Code::InvalidBundle`] when anything is not what was sealed; [`Code::TooLarge`] when there
/// is no memory for it.
pub(crate) fn open(
    info: &SealInfo,
    model: &str,
    sealed: &Content,
    key: &DataKey,
) -> Result<Vec<(String, Content)>> {
    let keys = keys(info, key)?;
    let (preamble, header, layout) = header::read(sealed, &keys)?;
    if preamble.seal != info.seal_id()? || header.digest != info.digest || header.model != model {
        return Err(tampered("the sealed files are those of another bundle"));
    }
    let mut regions = Vec::with_capacity(layout.files.len());
    for file in &layout.files {
        let length = usize::try_from(file.size)
            .map_err(|_| Error::new(Code::TooLarge, "a sealed file is over this machine's address space"))?;
        regions.push(Secret::zeroed(length)?);
    }
    decrypt(&layout, sealed, &keys, &mut regions)?;
    let paths = layout.files.into_iter().map(|file| file.path);
    Ok(paths.zip(regions.into_iter().map(Content::secret)).collect())
}

/// Some chunks of one file, and where they go.
struct Piece<'a> {
    file: &'a FilePlace,
    first: u64,
    into: &'a mut [u8],
}

pub(super) fn decrypt(
    layout: &Layout,
    sealed: &Content,
    keys: &SealKeys,
    regions: &mut [Secret],
) -> Result<()> {
    let piece_chunks = PIECE_BYTES / layout.chunk_bytes;
    let mut pieces = Vec::new();
    for (file, region) in layout.files.iter().zip(regions) {
        if file.size == 0 {
            pieces.push(Piece { file, first: 0, into: &mut [] });
            continue;
        }
        let parts = region.chunks_mut((piece_chunks * layout.chunk_bytes) as usize);
        pieces.extend((0_u64..).zip(parts).map(|(number, into)| Piece {
            file,
            first: number * piece_chunks,
            into,
        }));
    }
    each_piece(pieces, || (), |(), piece| decrypt_piece(layout, sealed, keys, piece))
}

fn decrypt_piece(layout: &Layout, sealed: &Content, keys: &SealKeys, piece: Piece<'_>) -> Result<()> {
    let Piece { file, first, into } = piece;
    let size = layout.chunk_bytes;
    let chunks = file.chunks(size);
    let count = (into.len() as u64).div_ceil(size).max(1);
    let begin = file.sealed_range(first, size).start as usize;
    let end = file.sealed_range(first + count - 1, size).end as usize;
    for number in first..first + count {
        // The layout ends where the file does, so these lie within it; a number of chunks fits 32 bits below the
        // limit of a bundle.
        let from = file.sealed_range(number, size);
        let to = file.plain_range(number, size);
        let offset = (first * size) as usize;
        let place = Place {
            binding: &file.binding,
            path: &file.path,
            file: file.number,
            chunk: u32::try_from(number).map_err(|_| tampered("a sealed file has too many chunks"))?,
            is_last: number + 1 == chunks,
        };
        let plain = &mut into[to.start as usize - offset..to.end as usize - offset];
        keys.open_chunk(&place, &sealed[from.start as usize..from.end as usize], plain)?;
    }
    sealed.release(begin..end);
    Ok(())
}
