//! The cipher's work apart from the rest, for benchmarks.

use std::sync::{Mutex, PoisonError};

use bms_wire::{Code, Error, Result};

use super::cipher::{DataKey, Place, SealId, SealKeys, TAG_BYTES};
use super::header::{CHUNK_BYTES, Header, Layout, SealedFile};
use super::{Secret, open, write};
use crate::Content;

/// A file, sealed in memory: the very passes a bundle's files go through, without disk, digests and scan.
pub struct Trial {
    keys: SealKeys,
    layout: Layout,
    plain: Content,
    sealed: Content,
    /// As large as `plain`, made by the first who asks for it.
    loaded: Mutex<Option<Secret>>,
}

impl Trial {
    /// A trial over so many bytes.
    ///
    /// # Errors
    /// [`Code::TooLarge`] when there is no memory for them.
    pub fn new(bytes: usize) -> Result<Trial> {
        let seal = SealId::default();
        let keys = SealKeys::derive(&DataKey::generate()?, &seal);
        let file = SealedFile { path: "trial".to_owned(), size: bytes as u64 };
        let header = Header { model: "trial".to_owned(), digest: String::new(), files: vec![file] };
        let layout = Layout::new(&header, &seal, 0, CHUNK_BYTES)?;
        let mut plain = Secret::zeroed(bytes)?;
        // Pages that nothing was written to are all the same page of zeros, which stays in the cache.
        plain.fill(0x5a);
        let mut trial = Trial {
            keys,
            layout,
            plain: Content::secret(plain),
            sealed: Content::from(Vec::new()),
            loaded: Mutex::new(None),
        };
        let end = usize::try_from(trial.layout.end)
            .map_err(|e| Error::new(Code::TooLarge, "over memory").because(e))?;
        let mut sealed = vec![0; end];
        trial.seal_with(|at, piece| sealed[at..at + piece.len()].copy_from_slice(piece))?;
        trial.sealed = Content::from(sealed);
        Ok(trial)
    }

    /// Bytes one pass goes over.
    pub fn bytes(&self) -> usize {
        self.plain.len()
    }

    /// Encrypts the file once, on this thread.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub fn seal(&self) -> Result<()> {
        self.seal_with(|_, piece| {
            std::hint::black_box(piece);
        })
    }

    fn seal_with(&self, mut take: impl FnMut(usize, &[u8])) -> Result<()> {
        let mut buffer = Vec::new();
        for piece in write::pieces(&self.layout, std::iter::once(&self.plain)) {
            let at = write::encrypt_piece(&self.layout, &self.keys, piece, &mut buffer)?;
            take(at as usize, &buffer);
        }
        Ok(())
    }

    /// Decrypts the file once into memory that was used before, on all processors.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is not what was sealed; [`Code::TooLarge`] when there is no memory for it.
    pub fn load(&self) -> Result<()> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let region = match loaded.take() {
            Some(region) => region,
            None => Secret::zeroed(self.plain.len())?,
        };
        let mut regions = [region];
        let opened = open::decrypt(&self.layout, &self.sealed, &self.keys, &mut regions);
        let [region] = regions;
        *loaded = Some(region);
        opened
    }

    /// Decrypts the file once into fresh memory, on all processors, and overwrites that again.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is not what was sealed.
    pub fn open(&self) -> Result<()> {
        let mut regions = [Secret::zeroed(self.plain.len())?];
        open::decrypt(&self.layout, &self.sealed, &self.keys, &mut regions)?;
        std::hint::black_box(&regions);
        Ok(())
    }

    /// Decrypts the file once, chunk by chunk into one place, on this thread: the cipher alone.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is not what was sealed.
    pub fn decipher(&self) -> Result<()> {
        let size = self.layout.chunk_bytes;
        let file = &self.layout.files[0];
        let mut place = vec![0; size as usize];
        for number in 0..file.chunks(size) {
            let (from, to) = (file.sealed_range(number, size), file.plain_range(number, size));
            let at = Place {
                binding: &file.binding,
                path: &file.path,
                file: file.number,
                chunk: number as u32,
                is_last: number + 1 == file.chunks(size),
            };
            let length = from.end - from.start - TAG_BYTES as u64;
            debug_assert_eq!(length, to.end - to.start);
            let sealed = &self.sealed[from.start as usize..from.end as usize];
            self.keys.open_chunk(&at, sealed, &mut place[..length as usize])?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trial({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests;
