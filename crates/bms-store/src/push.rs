//! Putting files in: cut, hashed, compressed and sent a window at a time, so that memory does not depend on their size.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::writer::PackWriter;
use crate::cut::CHUNK_BYTES_MAX;
use crate::index::{self, Index};
use crate::lease::Lease;
use crate::objects::{self, Name};
use crate::pack::{Contents, PACK_BYTES, Packed};
use crate::{ChunkRef, Cutter, Digest, Recipe, Store};

pub(crate) mod writer;

/// Bytes of a file that are worked on at once. What cannot be cut yet goes into the next window.
const WINDOW_BYTES: usize = 16 << 20;
/// Bytes read from a file at once.
const READ_BYTES: usize = 1 << 20;
/// Recipes written at the same time.
const WRITES: usize = 4;
/// From this many packs on a push also writes an index object; readers of fewer ask the packs.
const INDEXED_FROM: usize = 4;

/// What a push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Files that were given.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their chunks.
    pub chunks: u64,
    /// Chunks the store did not have.
    pub chunks_new: u64,
    /// Bytes of those, before compression.
    pub bytes_new: u64,
    /// Bytes sent to the store in all: chunks as they are stored, lists, recipes.
    pub bytes_moved: u64,
}

/// A file that was given to a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// BLAKE3.
    pub digest: Digest,
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: u64,
}

/// Files on their way into a store. Nothing of them is visible before [`Push::finish`] returns; one that is dropped before
/// leaves chunks that the next push of the same files finds.
#[derive(Debug)]
pub struct Push {
    store: Store,
    lease: Lease,
    known: Known,
    pack: Option<PackWriter>,
    packs: Vec<Contents>,
    recipes: Vec<Recipe>,
    pushed: Pushed,
}

/// What need not be sent.
#[derive(Clone, Debug)]
struct Known {
    index: Arc<RwLock<Index>>,
    /// What this push sent.
    fresh: Arc<Mutex<HashSet<Digest>>>,
}

impl Known {
    fn holds(&self, chunk: &Digest) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).holds(chunk).is_some()
            || self.fresh.lock().unwrap_or_else(PoisonError::into_inner).contains(chunk)
    }
}

/// A file on its way: what is known of it so far.
#[derive(Debug)]
pub struct FileWriter {
    cutter: Cutter,
    window: Vec<u8>,
    /// Bytes at the front of the window that were hashed with the last one.
    hashed: usize,
    hashes: Hashes,
    chunks: Vec<ChunkRef>,
    size: u64,
}

#[derive(Clone, Debug, Default)]
struct Hashes {
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        // Pieces that stay in the processor's cache for the second pass.
        for piece in bytes.chunks(256 << 10) {
            self.blake3.update(piece);
            self.sha256.update(piece);
        }
    }
}

impl FileWriter {
    /// A file of this size, or of one that is not known yet. The size decides how finely it is cut; a wrong one does no harm
    /// but that less is found again.
    pub fn new(size: Option<u64>) -> FileWriter {
        FileWriter {
            cutter: Cutter::for_size(size),
            window: Vec::new(),
            hashed: 0,
            hashes: Hashes::default(),
            chunks: Vec::new(),
            size: 0,
        }
    }
}

impl Store {
    /// Begins to put files in.
    ///
    /// # Errors
    /// Of the store.
    pub async fn push(&self) -> Result<Push> {
        let lease = self.lease().await?;
        Ok(Push {
            store: self.clone(),
            lease,
            known: Known { index: Arc::clone(&self.index), fresh: Arc::default() },
            pack: None,
            packs: Vec::new(),
            recipes: Vec::new(),
            pushed: Pushed::default(),
        })
    }

    /// Puts one file in.
    ///
    /// # Errors
    /// As those of [`Push`]; [`Code::Io`] when `from` fails.
    pub async fn put(&self, from: impl Read + Send + 'static, size: Option<u64>) -> Result<(Stored, Pushed)> {
        let mut push = self.push().await?;
        let stored = push.read(from, size).await?;
        Ok((stored, push.finish().await?))
    }
}

impl Push {
    /// Takes the next bytes of a file.
    ///
    /// # Errors
    /// [`Code::TooLarge`] over [`limits::BLOB_BYTES_MAX`], [`Code::StorageFull`]; errors of the store. The push is of no use
    /// afterwards.
    pub async fn write(&mut self, file: &mut FileWriter, mut bytes: &[u8]) -> Result<()> {
        file.size += bytes.len() as u64;
        if limits::BLOB_BYTES_MAX < file.size {
            let what = format!("a file of a bundle has at most {} bytes", limits::BLOB_BYTES_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        while WINDOW_BYTES <= file.window.len() + bytes.len() {
            let (now, later) = bytes.split_at(WINDOW_BYTES - file.window.len());
            file.window.extend_from_slice(now);
            bytes = later;
            self.work(file, false).await?;
        }
        file.window.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends a file. With `expected`, it must have turned out to be that one.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is another; errors of the store.
    pub async fn end(&mut self, mut file: FileWriter, expected: Option<Digest>) -> Result<Stored> {
        self.work(&mut file, true).await?;
        let digest = Digest::from(file.hashes.blake3.finalize());
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let what = format!("the bytes received are `{digest}`, not `{expected}`");
            return Err(Error::new(Code::Tampered, what)
                .hint("The transfer was damaged or the file changed meanwhile; send it again."));
        }
        let sha256 = file.hashes.sha256.finalize().into();
        let recipe = Recipe { digest, sha256, size: file.size, chunks: file.chunks };
        let stored = Stored { digest, sha256, size: file.size };
        self.queue(recipe).await?;
        Ok(stored)
    }

    /// Puts one file in from a reader, which is read ahead while its bytes are worked on.
    ///
    /// # Errors
    /// As [`Push::write`] and [`Push::end`]; [`Code::Io`] when `from` fails.
    pub async fn read(&mut self, from: impl Read + Send + 'static, size: Option<u64>) -> Result<Stored> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>>>(WINDOW_BYTES / READ_BYTES);
        let reading = tokio::task::spawn_blocking(move || read_into(from, &sender));
        let mut file = FileWriter::new(size);
        while let Some(piece) = receiver.recv().await {
            self.write(&mut file, &piece?).await?;
        }
        reading.await.map_err(|e| Error::new(Code::Internal, "a file was not read").because(e))?;
        self.end(file, None).await
    }

    /// Takes a chunk. One that the store has already is not sent.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the bytes are not those of `id`, [`Code::TooLarge`]; errors of the store.
    pub async fn put_chunk(&mut self, id: Digest, chunk: Bytes) -> Result<()> {
        if chunk.is_empty() || CHUNK_BYTES_MAX < chunk.len() {
            let what = format!("a chunk has 1 to {CHUNK_BYTES_MAX} bytes, not {}", chunk.len());
            return Err(Error::new(Code::TooLarge, what));
        }
        let known = self.known.clone();
        let packed = blocking(move || {
            if Digest::of(&chunk) != id {
                let what = format!("the bytes received are not those of the chunk `{id}`");
                return Err(Error::new(Code::Tampered, what).hint("The transfer was damaged; send it again."));
            }
            Ok((!known.holds(&id)).then(|| Packed::new(id, chunk)))
        })
        .await??;
        self.pushed.chunks += 1;
        match packed {
            Some(packed) => self.append(packed).await,
            None => Ok(()),
        }
    }

    /// Takes the recipe of a file whose chunks are here. Whether they are the file is for the caller to have found out, by
    /// [`Store::compose`].
    ///
    /// # Errors
    /// [`Code::NotFound`] when chunks are missing, [`Code::InvalidRequest`] when it is no recipe.
    pub async fn put_recipe(&mut self, recipe: Recipe) -> Result<()> {
        recipe.check()?;
        let lacking = self.lacking(&recipe);
        if let Some(chunk) = lacking.first() {
            let what =
                format!("{} chunks of the file are not in the store, `{chunk}` among them", lacking.len());
            return Err(Error::new(Code::NotFound, what).hint("Send them first."));
        }
        self.queue(recipe).await
    }

    /// The chunks of a recipe on which it could not rely.
    pub fn lacking(&self, recipe: &Recipe) -> Vec<Digest> {
        let index = self.known.index.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.known.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks = |chunk: &&ChunkRef| match index.holds(&chunk.id) {
            Some(size) => size != chunk.size,
            None => !fresh.contains(&chunk.id),
        };
        let mut seen = HashSet::new();
        recipe.chunks.iter().filter(lacks).map(|chunk| chunk.id).filter(|id| seen.insert(*id)).collect()
    }

    async fn queue(&mut self, recipe: Recipe) -> Result<()> {
        self.pushed.files += 1;
        self.pushed.bytes += recipe.size;
        let queued = self.recipes.iter().any(|other| other.digest == recipe.digest);
        if !queued && self.store.complete(recipe.digest).await?.is_none() {
            self.recipes.push(recipe);
        }
        Ok(())
    }

    /// Hashes and cuts what the window holds, and sends what is new. What could not be cut stays.
    async fn work(&mut self, file: &mut FileWriter, ends: bool) -> Result<()> {
        self.lease.keep().await?;
        let window = Bytes::from(std::mem::take(&mut file.window));
        let mut hashes = std::mem::take(&mut file.hashes);
        let unhashed = window.slice(file.hashed..);
        let hashing = blocking(move || {
            hashes.update(&unhashed);
            hashes
        });
        let (cutter, known, bytes) = (file.cutter.clone(), self.known.clone(), window.clone());
        let cutting = blocking(move || cut(&cutter, &known, &bytes, ends));
        let (hashes, cut) = tokio::join!(hashing, cutting);
        file.hashes = hashes?;
        let cut = cut?;
        let rest = &window[cut.end..];
        file.window = Vec::with_capacity(if ends { 0 } else { WINDOW_BYTES });
        file.window.extend_from_slice(rest);
        file.hashed = rest.len();
        self.pushed.chunks += cut.chunks.len() as u64;
        file.chunks.extend(cut.chunks);
        for packed in cut.new {
            self.append(packed).await?;
        }
        Ok(())
    }

    pub(crate) async fn append(&mut self, packed: Packed) -> Result<()> {
        let fresh = self.known.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(packed.entry.id);
        if !fresh {
            return Ok(());
        }
        self.pushed.chunks_new += 1;
        self.pushed.bytes_new += u64::from(packed.entry.size);
        let objects = &self.store.objects;
        let pack = self.pack.get_or_insert_with(|| PackWriter::new(Arc::clone(objects)));
        pack.add(packed).await?;
        match PACK_BYTES <= pack.bytes() {
            true => self.close_pack().await,
            false => Ok(()),
        }
    }

    async fn close_pack(&mut self) -> Result<()> {
        if let Some(pack) = self.pack.take() {
            let contents = pack.close().await?;
            self.pushed.bytes_moved += contents.size;
            self.packs.push(contents);
            self.lease.keep().await?;
        }
        Ok(())
    }

    /// Makes everything durable and visible.
    ///
    /// # Errors
    /// [`Code::StorageFull`]; [`Code::Unavailable`] when the push stood still for so long that it was given up; errors of the
    /// store. Then files may be visible or not, but never in part.
    pub async fn finish(mut self) -> Result<Pushed> {
        self.close_pack().await?;
        let objects = self.store.objects.as_ref();
        if INDEXED_FROM <= self.packs.len() {
            let list = index::write(&self.packs);
            self.pushed.bytes_moved += list.len() as u64;
            objects::write(objects, &objects::index(Name::new()), list).await?;
        }
        {
            let mut index = self.store.index.write().unwrap_or_else(PoisonError::into_inner);
            self.packs.iter().for_each(|contents| index.add_new(contents));
        }
        let recipes = std::mem::take(&mut self.recipes);
        let written: Vec<u64> = futures_util::stream::iter(recipes)
            .map(async |recipe| {
                let bytes = recipe.write();
                let size = bytes.len() as u64;
                objects::write(objects, &objects::recipe(recipe.digest, Name::new()), bytes).await?;
                Ok::<_, Error>(size)
            })
            .buffer_unordered(WRITES)
            .try_collect()
            .await?;
        self.pushed.bytes_moved += written.iter().sum::<u64>();
        // Held until after the recipes were visible: a collector that breaks it from now on sees them.
        self.lease.check().await?;
        self.lease.end().await;
        Ok(self.pushed)
    }

    /// The names of the packs written so far, with what they hold.
    pub(crate) fn packs(&self) -> &[Contents] {
        &self.packs
    }

    /// Ends the pack that is being written.
    pub(crate) async fn seal_pack(&mut self) -> Result<()> {
        self.close_pack().await
    }
}

/// What was made of a window.
struct Cut {
    chunks: Vec<ChunkRef>,
    new: Vec<Packed>,
    /// Bytes of the window that are chunks now.
    end: usize,
}

fn cut(cutter: &Cutter, known: &Known, window: &Bytes, ends: bool) -> Cut {
    let mut ranges = Vec::new();
    let mut end = 0;
    while let Some(length) = cutter.cut(&window[end..], ends) {
        ranges.push(end..end + length);
        end += length;
    }
    let made: Vec<(ChunkRef, Option<Packed>)> = ranges
        .into_par_iter()
        .map(|range| {
            let chunk = window.slice(range);
            let id = Digest::of(&chunk);
            let reference = ChunkRef { id, size: chunk.len() as u32 };
            (reference, (!known.holds(&id)).then(|| Packed::new(id, chunk)))
        })
        .collect();
    let (chunks, new): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    Cut { chunks, new: new.into_iter().flatten().collect(), end }
}

fn read_into(mut from: impl Read, to: &tokio::sync::mpsc::Sender<Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; READ_BYTES];
        let mut filled = 0;
        let failed = loop {
            match from.read(&mut piece[filled..]) {
                Ok(0) => break None,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break Some(e),
            }
            if filled == piece.len() {
                break None;
            }
        };
        let ends = filled < piece.len();
        piece.truncate(filled);
        let piece = match failed {
            Some(e) => Err(Error::new(Code::Io, format!("failed to read the file: {e}")).because(e)),
            None => Ok(piece),
        };
        // A push that failed takes no more.
        if to.blocking_send(piece).is_err() || ends {
            return;
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(Code::Internal, format!("work on the store ended early: {e}")).because(e))
}
