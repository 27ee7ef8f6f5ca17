//! The content of one file: in memory when it is small, mapped when it is large.

use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bms_kernels::MappedFile;
use bms_wire::{Code, Error, Result};

use crate::seal::Secret;

/// Files over this many bytes are mapped. Below it a copy costs less than the faults of a mapping, and cannot change.
pub(crate) const MAPPED_FROM: u64 = 8 << 20;
/// Bytes handed out at once by a pass over the whole content.
pub(crate) const PIECE_BYTES: usize = 4 << 20;
/// A file system's clock ticks no slower than this: a write that comes later is seen in the file's times.
const TICK: Duration = Duration::from_millis(20);

/// The bytes of one file. Cloning shares them.
///
/// A small file is a copy in memory. A large one is mapped read-only, so that gigabytes of weights need no memory
/// of this process: their pages are the system's file cache, which takes them back when it needs room. Another
/// process that writes to a mapped file changes what is read here; [`Content::unchanged`] tells.
#[derive(Clone)]
pub struct Content(Bytes);

#[derive(Clone)]
enum Bytes {
    Owned(Arc<[u8]>),
    Secret(Arc<Secret>),
    Mapped(Arc<MappedFile>),
}

impl Content {
    /// The content of an open regular file of `size` bytes.
    pub(crate) fn of_file(mut file: File, size: u64) -> std::io::Result<Content> {
        if MAPPED_FROM <= size {
            settle(&file)?;
            return Ok(Content(Bytes::Mapped(Arc::new(MappedFile::open(file)?))));
        }
        // Below `MAPPED_FROM`, hence within the address space. Filling a shared slice in place saves a copy.
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0_u8, size as usize).collect();
        let buffer = Arc::get_mut(&mut bytes).expect("nobody else holds a slice made on the line above");
        file.read_exact(buffer)?;
        Ok(Content(Bytes::Owned(bytes)))
    }

    /// Decrypted bytes, which are overwritten once nobody holds them any more.
    pub(crate) fn secret(bytes: Secret) -> Content {
        Content(Bytes::Secret(Arc::new(bytes)))
    }

    /// The content of the regular file at `path`; links are followed.
    ///
    /// # Errors
    /// [`Code::NotFound`] or [`Code::Io`]; [`Code::InvalidInput`] when it is no regular file.
    pub fn open(path: &Path) -> Result<Content> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io("read", path, e))?;
        if !metadata.is_file() {
            return Err(Error::new(Code::InvalidInput, format!("`{}` is no file", path.display())));
        }
        Content::of_file(file, metadata.len()).map_err(|e| Error::io("read", path, e))
    }

    /// Whether the bytes are the file's own pages rather than a copy.
    pub fn is_mapped(&self) -> bool {
        matches!(self.0, Bytes::Mapped(_))
    }

    /// Whether the bytes are those that were there when it was opened, as far as the file's identity, length and
    /// times tell. A copy in memory always is.
    pub fn unchanged(&self) -> bool {
        match &self.0 {
            Bytes::Owned(_) | Bytes::Secret(_) => true,
            Bytes::Mapped(file) => file.unchanged(),
        }
    }

    /// Gives the memory of a range back to the system until it is read again. Without effect on a copy.
    pub fn release(&self, range: Range<usize>) {
        if let Bytes::Mapped(file) = &self.0 {
            file.release(range);
        }
    }

    /// Where in this content these bytes lie, when they are a part of it.
    pub(crate) fn place_of(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let from = (bytes.as_ptr() as usize).checked_sub(self.as_ptr() as usize)?;
        let to = from.checked_add(bytes.len())?;
        (to <= self.len()).then_some(from..to)
    }

    /// The bytes as a shared slice: of a mapped or decrypted file a copy.
    pub fn to_shared(&self) -> Arc<[u8]> {
        match &self.0 {
            Bytes::Owned(bytes) => Arc::clone(bytes),
            Bytes::Mapped(_) | Bytes::Secret(_) => self.copied(),
        }
    }

    fn copied(&self) -> Arc<[u8]> {
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0_u8, self.len()).collect();
        let buffer = Arc::get_mut(&mut bytes).expect("nobody else holds a slice made on the line above");
        for range in self.pieces() {
            buffer[range.clone()].copy_from_slice(&self[range.clone()]);
            self.release(range);
        }
        bytes
    }

    /// Hex BLAKE3 of the content. Its memory is given back on the way.
    pub fn blake3(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for range in self.pieces() {
            hasher.update(&self[range.clone()]);
            self.release(range);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Reads the content from its beginning. The memory of what was read is given back.
    pub fn reader(&self) -> impl Read + Send + 'static {
        Reader { content: self.clone(), at: 0, released: 0 }
    }

    /// The whole range in pieces.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let length = self.len();
        (0..length).step_by(PIECE_BYTES).map(move |from| from..length.min(from + PIECE_BYTES))
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(file) => file,
            Bytes::Secret(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content(Bytes::Owned(bytes.into()))
    }
}

impl From<Arc<[u8]>> for Content {
    fn from(bytes: Arc<[u8]>) -> Content {
        Content(Bytes::Owned(bytes))
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Bytes::Owned(_) => "owned",
            Bytes::Mapped(_) => "mapped",
            Bytes::Secret(_) => "decrypted",
        };
        write!(f, "Content({} bytes, {kind})", self.len())
    }
}

/// Waits until a write to the file would be seen in its times: one within the tick of the clock in which it was last
/// written would not.
fn settle(file: &File) -> std::io::Result<()> {
    let metadata = file.metadata()?;
    let newest = [metadata.modified().ok(), status_changed(&metadata)].into_iter().flatten().max();
    // A time in the future is a wrong clock, which no waiting helps.
    let age = newest.map_or(TICK, |newest| SystemTime::now().duration_since(newest).unwrap_or(TICK));
    if age < TICK {
        std::thread::sleep(TICK - age);
    }
    Ok(())
}

#[cfg(unix)]
fn status_changed(metadata: &std::fs::Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

#[cfg(not(unix))]
fn status_changed(_metadata: &std::fs::Metadata) -> Option<SystemTime> {
    None
}

/// Reads a content from its beginning to its end.
struct Reader {
    content: Content,
    at: usize,
    released: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = (&self.content[self.at..]).read(buffer)?;
        self.at += read;
        if PIECE_BYTES <= self.at - self.released || read == 0 {
            self.content.release(self.released..self.at);
            self.released = self.at;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
