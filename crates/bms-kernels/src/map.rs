//! Files mapped into memory.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::MetadataExt;

use memmap2::{Advice, Mmap, UncheckedAdvice};

/// A file mapped read-only.
///
/// The kernel shares a mapping's pages with the file: whoever may write the file can change what is read here, and
/// shortening it makes reads beyond its end kill the process (SIGBUS). So map only files that nobody but this program's
/// user may write, and ask [`MappedFile::unchanged`] after the last read that matters.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
    file: File,
    identity: Identity,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Identity> {
        let m = file.metadata()?;
        Ok(Identity {
            device: m.dev(),
            inode: m.ino(),
            len: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        })
    }
}

impl MappedFile {
    /// Maps a whole regular file. Nothing is read yet.
    ///
    /// # Errors
    /// Those of the system, and `InvalidInput` for what is not a regular file.
    pub fn open(file: File) -> io::Result<MappedFile> {
        let identity = Identity::of(&file)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the mapping is read-only and private to this value; that its pages change when the file does is the
        // documented condition of this type, which callers check with `unchanged`.
        let map = unsafe { Mmap::map(&file)? };
        Ok(MappedFile { map, file, identity })
    }

    /// Whether the file is still the one that was opened: same length, and not written since.
    pub fn unchanged(&self) -> bool {
        Identity::of(&self.file).is_ok_and(|now| now == self.identity)
    }

    /// Says that reading will be from front to back.
    pub fn expect_sequential(&self) {
        // Advice only; a system without it is slower, not wrong.
        let _ = self.map.advise(Advice::Sequential);
    }

    /// Gives the memory of these bytes back to the system; reading them again fetches them from the file.
    pub fn release(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.map.len());
        if bytes.start < end {
            // SAFETY: `DontNeed` on a read-only file mapping drops page-table entries; the bytes come back from the file.
            let _ = unsafe {
                self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, bytes.start, end - bytes.start)
            };
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
