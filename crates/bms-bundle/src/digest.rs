//! Digests of whole bundles, as fast as the slower of the two algorithms, and in little memory.
//!
//! SHA-256 and BLAKE3 each have a thread and go over the same piece of a mapped file at about the same time: the
//! second finds it in the processor's cache, and then its pages are given back. So gigabytes pass by while a few
//! megabytes are resident.

use std::sync::{Condvar, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::{Content, FileEntry};

/// Pieces one algorithm may be ahead of the other.
const AHEAD_MAX: usize = 8;
/// The two algorithms.
const READERS: usize = 2;

/// The entries of files given by path and content, in their order.
pub(crate) fn entries(files: &[(&str, &Content)]) -> Vec<FileEntry> {
    let passages: Vec<Passage<'_>> = files.iter().map(|(_, content)| Passage::of(content)).collect();
    let (sha256, blake3) = std::thread::scope(|scope| {
        let sha256 = scope.spawn(|| passages.iter().map(sha256).collect::<Vec<_>>());
        let blake3: Vec<_> = passages.iter().map(blake3).collect();
        (sha256.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), blake3)
    });
    let digests = sha256.into_iter().zip(blake3);
    let entry = |((path, content), (sha256, blake3)): (&(&str, &Content), _)| FileEntry {
        path: (*path).to_owned(),
        size: content.len() as u64,
        sha256,
        blake3,
    };
    files.iter().zip(digests).map(entry).collect()
}

fn sha256(passage: &Passage<'_>) -> String {
    let mut hasher = Sha256::new();
    passage.walk(0, |piece| hasher.update(piece));
    hex::encode(hasher.finalize())
}

fn blake3(passage: &Passage<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    passage.walk(1, |piece| {
        hasher.update(piece);
    });
    hasher.finalize().to_hex().to_string()
}

/// One content on its way past both readers.
struct Passage<'a> {
    content: &'a Content,
    /// Pieces each reader has behind it.
    passed: Mutex<[usize; READERS]>,
    moved: Condvar,
}

impl<'a> Passage<'a> {
    fn of(content: &'a Content) -> Self {
        Passage { content, passed: Mutex::default(), moved: Condvar::new() }
    }

    /// Takes the content past one reader.
    fn walk(&self, reader: usize, mut read: impl FnMut(&[u8])) {
        for (number, range) in self.content.pieces().enumerate() {
            self.wait_until_close(number);
            read(&self.content[range.clone()]);
            let is_last = {
                let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                passed[reader] = number + 1;
                passed.iter().all(|passed| number < *passed)
            };
            self.moved.notify_all();
            if is_last {
                self.content.release(range);
            }
        }
    }

    /// Waits while the reader is too far ahead of the other: what lies between them is resident.
    fn wait_until_close(&self, number: usize) {
        if !self.content.is_mapped() {
            return;
        }
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        // Neither hash function can panic, so the other reader always comes.
        let is_far_ahead =
            |passed: &mut [usize; READERS]| passed.iter().any(|passed| passed + AHEAD_MAX < number);
        drop(self.moved.wait_while(passed, is_far_ahead));
    }
}

#[cfg(test)]
mod tests;
