//! Getting files out: ranges of packs in parallel, every chunk verified before it is handed on.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bms_wire::{Code, Error, Result};
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::part::Part;
use crate::encode;
use crate::index::Place;
use crate::objects::{self, Name, failure};
use crate::push::blocking;
use crate::{ChunkRef, Digest, Recipe, Store};

mod assemble;
mod part;

pub use assemble::assemble;

/// Bytes of one request to the store, about.
const RUN_BYTES: u64 = 4 << 20;
/// Requests on their way at once: with the bytes of each, what a transfer keeps in memory.
const RUNS: usize = 4;
/// Bytes [`Store::read`] gives at once.
pub const RANGE_BYTES_MAX: u64 = 64 << 20;

/// What fetching a file took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Bytes of the file.
    pub bytes: u64,
    /// Its chunks.
    pub chunks: u64,
    /// Chunks that were read from the store; the others were there.
    pub chunks_moved: u64,
    /// Bytes read from the store.
    pub bytes_moved: u64,
}

/// Chunks that lie one after the other in a pack, and are read at once.
#[derive(Clone, Debug)]
struct Run {
    pack: Name,
    range: Range<u64>,
    chunks: Vec<(ChunkRef, Place)>,
}

/// Reads a file, or a range of it, in parts, in order.
pub struct FileReader {
    recipe: Recipe,
    parts: BoxStream<'static, Result<Bytes>>,
    /// Of the whole file; a range has only its chunks' digests.
    hasher: Option<blake3::Hasher>,
    /// Bytes before the range in its first chunk.
    skip: usize,
    left: u64,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileReader({}, {} bytes left)", self.recipe.digest, self.left)
    }
}

impl FileReader {
    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.recipe.size
    }

    /// The next part, some megabytes at most; `None` after the last.
    ///
    /// # Errors
    /// [`Code::Tampered`] in place of the first part that is not what was stored: a reader who stops at an error never
    /// takes a wrong file for a whole one.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(part) = self.parts.next().await else {
            return match self.left {
                0 => Ok(None),
                _ => Err(Error::new(Code::Internal, "a file of the store ended early")),
            };
        };
        let mut part = part?;
        // A run has whole chunks, and the range begins in the first of the first run.
        let _ = part.split_to(std::mem::take(&mut self.skip).min(part.len()));
        part.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= part.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&part);
            if self.left == 0 && Digest::from(hasher.finalize()) != self.recipe.digest {
                return Err(not_the_file(self.recipe.digest));
            }
        }
        Ok(Some(part))
    }
}

impl Store {
    /// Opens a file for reading from its beginning to its end.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it is not here, [`Code::Tampered`] when its recipe rotted; errors of the store.
    pub async fn reader(&self, file: Digest) -> Result<FileReader> {
        let recipe = self.recipe(file).await?;
        if recipe.size == 0 && Digest::of(b"") != file {
            return Err(not_the_file(file));
        }
        let parts = self.stream(recipe.chunks.clone()).await?;
        Ok(FileReader { left: recipe.size, recipe, parts, hasher: Some(blake3::Hasher::new()), skip: 0 })
    }

    /// Opens a range of a file for reading, of whatever length. Each of its chunks is verified; one that goes over the end
    /// is cut there.
    ///
    /// # Errors
    /// As [`Store::reader`].
    pub async fn reader_of(&self, file: Digest, range: Range<u64>) -> Result<FileReader> {
        let recipe = self.recipe(file).await?;
        let (chunks, skip) = covering(&recipe, &range);
        let left = range.end.min(recipe.size).saturating_sub(range.start);
        let parts = self.stream(chunks).await?;
        Ok(FileReader { left, recipe, parts, hasher: None, skip })
    }

    /// Some bytes of a file, at most [`RANGE_BYTES_MAX`]. A range that goes over the end is cut there.
    ///
    /// # Errors
    /// As [`Store::reader`]; [`Code::TooLarge`].
    pub async fn read(&self, file: Digest, range: Range<u64>) -> Result<Bytes> {
        let recipe = self.recipe(file).await?;
        let range = range.start.min(recipe.size)..range.end.min(recipe.size);
        if RANGE_BYTES_MAX < range.end.saturating_sub(range.start) {
            return Err(Error::new(
                Code::TooLarge,
                format!("at most {RANGE_BYTES_MAX} bytes are read at once"),
            ));
        }
        let (chunks, skipped) = covering(&recipe, &range);
        let mut bytes = BytesMut::new();
        let mut parts = self.stream(chunks).await?;
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze().slice(skipped..skipped + (range.end.saturating_sub(range.start)) as usize))
    }

    /// One chunk.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is not here any more or rotted; errors of the store.
    pub async fn chunk(&self, id: Digest) -> Result<Bytes> {
        let place = self.locate(&id).await?;
        let mut parts = self.stream(vec![ChunkRef { id, size: place.size }]).await?;
        let chunk = parts.try_next().await?;
        chunk.ok_or_else(|| Error::new(Code::Internal, "a chunk of the store is empty"))
    }

    /// Writes a file to `path`, where it appears in one step, whole, verified and flushed. What an earlier try left in
    /// `path` with `.part` at its end is used, and so are chunks that one of the files `like` has; only the others
    /// are read from the store. Memory does not depend on the file's size.
    ///
    /// # Errors
    /// As [`Store::reader`]; [`Code::StorageFull`] and others of the disk. What was written stays for the next try.
    pub async fn fetch(&self, file: Digest, path: &Path, like: &[PathBuf]) -> Result<Fetched> {
        self.compose(&self.recipe(file).await?, path, like).await
    }

    /// Writes the file of a recipe, which need not be in the store, as [`Store::fetch`] does.
    ///
    /// # Errors
    /// As [`Store::fetch`]; [`Code::Tampered`] also when the recipe is not that of the file it names.
    pub async fn compose(&self, recipe: &Recipe, path: &Path, like: &[PathBuf]) -> Result<Fetched> {
        let (part, known) = {
            let (recipe, path, like) = (recipe.clone(), path.to_owned(), like.to_vec());
            blocking(move || Part::open(&recipe, &path, &like)).await??
        };
        let mut part = part;
        let missing: Vec<ChunkRef> = recipe.chunks[part.chunks()..]
            .iter()
            .filter(|chunk| !known.contains_key(&chunk.id))
            .copied()
            .collect();
        let mut fetched =
            Fetched { bytes: recipe.size, chunks: recipe.chunks.len() as u64, ..Fetched::default() };
        let known = Arc::new(known);
        // Stretches that come from the store, and those between them that other files have.
        let mut rest = &recipe.chunks[part.chunks()..];
        fetched.chunks_moved = missing.len() as u64;
        while let Some(first) = rest.first() {
            let here = known.contains_key(&first.id);
            let length = rest.iter().take_while(|chunk| known.contains_key(&chunk.id) == here).count();
            let (stretch, later) = rest.split_at(length);
            rest = later;
            if here {
                let (stretch, known) = (stretch.to_vec(), Arc::clone(&known));
                part = blocking(move || part.copy(&stretch, &known)).await??;
                continue;
            }
            let mut parts = self.stream(stretch.to_vec()).await?;
            while let Some(bytes) = parts.try_next().await? {
                fetched.bytes_moved += bytes.len() as u64;
                part = blocking(move || part.append(&bytes)).await??;
            }
        }
        let (digest, sha256) = (recipe.digest, recipe.sha256);
        blocking(move || part.finish(digest, sha256)).await??;
        Ok(fetched)
    }

    /// The bytes of these chunks, in order, each part of it one run.
    async fn stream(&self, chunks: Vec<ChunkRef>) -> Result<BoxStream<'static, Result<Bytes>>> {
        // Asked once for all, so that a file of which one chunk is gone does not ask for each.
        if chunks.iter().any(|chunk| self.find(&chunk.id).is_none()) {
            self.refresh().await?;
        }
        let store = self.clone();
        let runs = futures_util::stream::iter(Runs { store: self.clone(), chunks, at: 0 });
        let parts = runs.map(move |run| {
            let store = store.clone();
            async move { store.read_run(run?).await }
        });
        Ok(parts.buffered(RUNS).boxed())
    }

    async fn read_run(&self, run: Run) -> Result<Bytes> {
        match self.objects.get_range(&objects::pack(run.pack), run.range.clone()).await {
            Ok(bytes) => {
                let decoding = run.clone();
                match blocking(move || decode(&decoding, &bytes)).await? {
                    // Another process may have repaired it since this one looked where it is.
                    Err(error) if error.code() == Code::Tampered => {
                        self.refresh().await?;
                        let moved = |(chunk, place): &(ChunkRef, Place)| self.find(&chunk.id) != Some(*place);
                        if run.chunks.iter().any(moved) { self.read_again(run).await } else { Err(error) }
                    }
                    read => read,
                }
            }
            // Collected meanwhile: its chunks are in another pack now.
            Err(object_store::Error::NotFound { .. }) => {
                self.refresh().await?;
                self.read_again(run).await
            }
            Err(e) => Err(self.is_short(&run).await.unwrap_or_else(|| failure("read a pack", e))),
        }
    }

    /// The error to report when a pack has fewer bytes than it was written with.
    async fn is_short(&self, run: &Run) -> Option<Error> {
        let meta = self.objects.head(&objects::pack(run.pack)).await.ok()?;
        let (chunk, _) = run.chunks.first()?;
        (meta.size < run.range.end).then(|| encode::rotten(chunk.id))
    }

    /// Reads chunks one by one, from where they are now.
    async fn read_again(&self, run: Run) -> Result<Bytes> {
        let mut all = BytesMut::new();
        for (chunk, _) in run.chunks {
            let place = self.locate(&chunk.id).await?;
            let range = place.offset..place.offset + u64::from(place.stored);
            let bytes = self.objects.get_range(&objects::pack(place.pack), range.clone()).await;
            let bytes = bytes.map_err(|e| failure("read a pack", e))?;
            let run = Run { pack: place.pack, range, chunks: vec![(chunk, place)] };
            all.extend_from_slice(&blocking(move || decode(&run, &bytes)).await??);
        }
        Ok(all.freeze())
    }
}

/// The chunks that a range needs, and the bytes before it in the first of them.
fn covering(recipe: &Recipe, range: &Range<u64>) -> (Vec<ChunkRef>, usize) {
    let (mut begin, mut skipped, mut chunks) = (0, None, Vec::new());
    for chunk in &recipe.chunks {
        let end = begin + u64::from(chunk.size);
        if range.start < end && begin < range.end {
            skipped.get_or_insert((range.start - begin) as usize);
            chunks.push(*chunk);
        }
        begin = end;
    }
    (chunks, skipped.unwrap_or(0))
}

fn decode(run: &Run, bytes: &Bytes) -> Result<Bytes> {
    let stored = |place: &Place| {
        let begin = (place.offset - run.range.start) as usize;
        bytes.get(begin..begin + place.stored as usize)
    };
    let one = |(chunk, place): &(ChunkRef, Place)| {
        let stored = stored(place).ok_or_else(|| encode::rotten(chunk.id))?;
        encode::decode(stored, place.encoding, chunk.size, chunk.id)
    };
    // A run of raw chunks is the bytes as they came.
    if run.chunks.iter().all(|(_, place)| place.encoding == encode::Encoding::Raw) {
        run.chunks.iter().try_for_each(|chunk| one(chunk).map(drop))?;
        return Ok(bytes.clone());
    }
    let mut all = BytesMut::with_capacity(run.chunks.iter().map(|(chunk, _)| chunk.size as usize).sum());
    for chunk in &run.chunks {
        all.extend_from_slice(&one(chunk)?);
    }
    Ok(all.freeze())
}

/// Joins chunks that lie one after the other.
struct Runs {
    store: Store,
    chunks: Vec<ChunkRef>,
    at: usize,
}

impl Iterator for Runs {
    type Item = Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut run: Option<Run> = None;
        while let Some(chunk) = self.chunks.get(self.at) {
            let Some(place) = self.store.find(&chunk.id) else {
                if run.is_some() {
                    break;
                }
                self.at = self.chunks.len();
                let what = format!("the store does not hold the chunk `{}` any more", chunk.id);
                return Some(Err(Error::new(Code::Tampered, what).hint(
                    "`bms scrub` tells which files are affected and repairs them from another store.",
                )));
            };
            let end = place.offset + u64::from(place.stored);
            match &mut run {
                None => {
                    run = Some(Run {
                        pack: place.pack,
                        range: place.offset..end,
                        chunks: vec![(*chunk, place)],
                    });
                }
                Some(run)
                    if run.pack == place.pack
                        && run.range.end == place.offset
                        && end - run.range.start <= RUN_BYTES =>
                {
                    run.range.end = end;
                    run.chunks.push((*chunk, place));
                }
                Some(_) => break,
            }
            self.at += 1;
        }
        run.map(Ok)
    }
}

fn not_the_file(file: Digest) -> Error {
    Error::new(Code::Tampered, format!("the stored file `{file}` holds other bytes"))
        .hint("Someone changed the store; upload the file again.")
}

/// BLAKE3 and SHA-256 of a file that is written or read in order.
#[derive(Clone, Default)]
struct Digests {
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl Digests {
    fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(256 << 10) {
            self.blake3.update(piece);
            self.sha256.update(piece);
        }
    }

    fn are(self, digest: Digest, sha256: [u8; 32]) -> bool {
        Digest::from(self.blake3.finalize()) == digest && <[u8; 32]>::from(self.sha256.finalize()) == sha256
    }
}
