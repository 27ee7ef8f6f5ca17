//! Putting a file together of chunks that come from anywhere: how an edge node fetches a version that is like the last one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};
use bytes::Bytes;

use super::Fetched;
use super::part::Part;
use crate::{ChunkRef, Digest, Recipe};

/// Bytes of chunks that are asked for at once, about.
const ASKED_BYTES: u64 = 8 << 20;

/// Writes the file of a recipe to `path`, where it appears in one step, whole, verified and flushed. What an earlier try left
/// in `path` with `.part` at its end is used, and so are chunks that one of the files `like` has; `ask` is asked
/// for the others, some at a time, and gives them in any order.
///
/// # Errors
/// [`Code::Tampered`] when `ask` gives other bytes than asked for, or the recipe is not that of the file it names; those of
/// `ask` and of the disk. What was written stays for the next try.
pub fn assemble(
    recipe: &Recipe,
    path: &Path,
    like: &[PathBuf],
    mut ask: impl FnMut(&[ChunkRef]) -> Result<Vec<(Digest, Bytes)>>,
) -> Result<Fetched> {
    let (mut part, known) = Part::open(recipe, path, like)?;
    let mut fetched =
        Fetched { bytes: recipe.size, chunks: recipe.chunks.len() as u64, ..Fetched::default() };
    let mut rest = &recipe.chunks[part.chunks()..];
    while let Some(first) = rest.first() {
        let here = known.contains_key(&first.id);
        let mut bytes = 0;
        let same = |chunk: &&ChunkRef| {
            bytes += u64::from(chunk.size);
            known.contains_key(&chunk.id) == here && (here || bytes <= ASKED_BYTES.max(u64::from(chunk.size)))
        };
        let (stretch, later) = rest.split_at(rest.iter().take_while(same).count().max(1));
        rest = later;
        if here {
            part = part.copy(stretch, &known)?;
            continue;
        }
        let given: HashMap<Digest, Bytes> = ask(stretch)?.into_iter().collect();
        for chunk in stretch {
            let bytes = given.get(&chunk.id).filter(|bytes| Digest::of(bytes) == chunk.id);
            let Some(bytes) = bytes.filter(|bytes| bytes.len() == chunk.size as usize) else {
                let what = format!("other bytes came for the chunk `{}`", chunk.id);
                return Err(Error::new(Code::Tampered, what));
            };
            part = part.append(bytes)?;
            fetched.chunks_moved += 1;
            fetched.bytes_moved += bytes.len() as u64;
        }
    }
    part.finish(recipe.digest, recipe.sha256)?;
    Ok(fetched)
}
