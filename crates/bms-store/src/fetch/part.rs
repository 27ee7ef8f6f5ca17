//! A file that is being fetched, under another name until it is whole.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};

use super::{Digests, not_the_file};
use crate::{ChunkRef, Cutter, Digest, Recipe};

/// Bytes read from another file at once.
const READ_BYTES: usize = 8 << 20;

/// Chunks that files on this machine have: the file, and where in it.
pub(super) type Known = HashMap<Digest, (PathBuf, u64)>;

/// A file that grows from its beginning. Every byte in it was verified as part of a chunk.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    place: PathBuf,
    digests: Digests,
    /// Chunks that are in it.
    chunks: usize,
}

impl Part {
    /// Opens what an earlier try left, cut after its last whole chunk, and looks what else the files `like` have.
    pub(super) fn open(recipe: &Recipe, place: &Path, like: &[PathBuf]) -> Result<(Part, Known)> {
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = place.with_file_name(name);
        let io = |doing: &'static str| {
            let path = path.clone();
            move |e| Error::io(doing, &path, e)
        };
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("make the folder", parent, e))?;
        }
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open().map_err(io("open"))?;
        // Two that fetch the same file to the same place take turns; the later finds all of it.
        file.lock().map_err(io("lock"))?;
        while !is_at(&file, &path) {
            file = open().map_err(io("open"))?;
            file.lock().map_err(io("lock"))?;
        }
        let mut digests = Digests::default();
        let (mut chunks, mut length) = (0, 0);
        let mut buffer = Vec::new();
        for chunk in &recipe.chunks {
            buffer.resize(chunk.size as usize, 0);
            if file.read_exact(&mut buffer).is_err() || Digest::of(&buffer) != chunk.id {
                break;
            }
            digests.update(&buffer);
            chunks += 1;
            length += u64::from(chunk.size);
        }
        file.set_len(length).map_err(io("shorten"))?;
        file.seek(SeekFrom::Start(length)).map_err(io("write"))?;
        let wanted = &recipe.chunks[chunks..];
        let known = if wanted.is_empty() { Known::new() } else { look(recipe.size, wanted, like) };
        Ok((Part { file, path, place: place.to_owned(), digests, chunks }, known))
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    pub(super) fn append(mut self, bytes: &[u8]) -> Result<Part> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.digests.update(bytes);
        Ok(self)
    }

    /// Appends chunks that other files have, verified once more: those files may change.
    pub(super) fn copy(mut self, chunks: &[ChunkRef], known: &Known) -> Result<Part> {
        let mut open: Option<(&PathBuf, File)> = None;
        let mut buffer = Vec::new();
        for chunk in chunks {
            let Some((path, offset)) = known.get(&chunk.id) else { continue };
            if open.as_ref().is_none_or(|(of, _)| *of != path) {
                open = Some((path, File::open(path).map_err(|e| Error::io("open", path, e))?));
            }
            buffer.resize(chunk.size as usize, 0);
            if let Some((_, file)) = &open {
                file.read_exact_at(&mut buffer, *offset).map_err(|e| Error::io("read", path, e))?;
            }
            if Digest::of(&buffer) != chunk.id {
                let what = format!("`{}` changed while it was read", path.display());
                return Err(Error::new(Code::Conflict, what).hint("Try again."));
            }
            self = self.append(&buffer)?;
        }
        Ok(self)
    }

    /// Gives the file its name.
    pub(super) fn finish(self, digest: Digest, sha256: [u8; 32]) -> Result<()> {
        if !self.digests.are(digest, sha256) {
            // Its chunks are what the recipe says, so the recipe is wrong, and so is all of this.
            let _ = fs::remove_file(&self.path);
            return Err(not_the_file(digest));
        }
        self.file.sync_all().map_err(|e| Error::io("flush", &self.path, e))?;
        fs::rename(&self.path, &self.place).map_err(|e| Error::io("put in place", &self.place, e))?;
        let Some(parent) = self.place.parent() else { return Ok(()) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let synced = File::open(parent).and_then(|folder| folder.sync_all());
        synced.map_err(|e| Error::io("flush", parent, e))
    }
}

/// Whether the open file is the one at `path`; another process may have put it in place while this one waited.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(here), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (here.dev(), here.ino()) == (there.dev(), there.ino())
}

/// Which of the chunks wanted are in these files, by cutting them as a file of this size is. One that cannot be read has none.
fn look(size: u64, wanted: &[ChunkRef], like: &[PathBuf]) -> Known {
    let wanted: std::collections::HashSet<Digest> = wanted.iter().map(|chunk| chunk.id).collect();
    let mut known = Known::new();
    for path in like {
        if known.len() == wanted.len() {
            break;
        }
        let found = cut(&Cutter::for_size(Some(size)), path, |id, offset| {
            if wanted.contains(&id) {
                known.entry(id).or_insert_with(|| (path.clone(), offset));
            }
        });
        if let Err(error) = found {
            tracing::debug!(path = %path.display(), %error, "a file that could save a transfer cannot be read");
        }
    }
    known
}

/// Cuts a file on this machine, without keeping more of it in memory than a window.
fn cut(cutter: &Cutter, path: &Path, mut each: impl FnMut(Digest, u64)) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let (mut window, mut offset) = (Vec::new(), 0);
    loop {
        let before = window.len();
        (&mut file).take(READ_BYTES as u64).read_to_end(&mut window)?;
        let ends = window.len() - before < READ_BYTES;
        let mut at = 0;
        while let Some(length) = cutter.cut(&window[at..], ends) {
            each(Digest::of(&window[at..at + length]), offset + at as u64);
            at += length;
        }
        offset += at as u64;
        window.drain(..at);
        if ends {
            return Ok(());
        }
    }
}
