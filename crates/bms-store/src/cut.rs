//! Content-defined chunking: where a file is cut depends on the bytes around the cut alone, so that a change in one place
//! leaves the chunks elsewhere as they were.
//!
//! The algorithm is FastCDC: W. Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
//! Deduplication", USENIX ATC 2016, with the normalised chunking of its section 4.4 (level 2). Gear table and masks are part
//! of the store's format: with others, nothing stored before would be found again. Therefore they stand here and are not
//! taken from a library, whose next release may choose others.

use std::sync::LazyLock;

/// Smallest average of chunk sizes, in bytes: for files up to 32 MiB.
const AVERAGE_MIN: u32 = 8 << 10;
/// Largest average: for files from 4 GiB.
const AVERAGE_MAX: u32 = 1 << 20;
/// Chunks a file is cut into, about, between these sizes. A model has some hundred tensors; a changed tensor costs its own
/// bytes and about one chunk, so chunks have to be much smaller than tensors, whatever the size of the model.
const CHUNKS_PER_FILE: u64 = 4096;
/// Bytes of the largest chunk there can be.
pub const CHUNK_BYTES_MAX: usize = 4 * AVERAGE_MAX as usize;
/// Size assumed of a file whose size is not known before it ends.
const SIZE_UNKNOWN: u64 = 256 << 20;

/// 256 pseudo-random words, one for each byte: the output of BLAKE3 in extendable mode over a fixed text.
static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let mut bytes = [0; 256 * 8];
    blake3::Hasher::new().update(b"bms-store gear table 1").finalize_xof().fill(&mut bytes);
    let mut table = [0; 256];
    for (word, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    table
});

/// Cuts one file.
#[derive(Clone, Debug)]
pub struct Cutter {
    min: usize,
    average: usize,
    max: usize,
    /// More bits than the average asks for: before it cuts are rare.
    mask_before: u64,
    /// Fewer bits: after it they are frequent.
    mask_after: u64,
}

impl Cutter {
    /// The cutter for a file of this size. Versions of one model have about one size, and so one cutter.
    pub fn for_size(size: Option<u64>) -> Cutter {
        let average = (size.unwrap_or(SIZE_UNKNOWN) / CHUNKS_PER_FILE).max(1).next_power_of_two();
        let average = u32::try_from(average).unwrap_or(AVERAGE_MAX).clamp(AVERAGE_MIN, AVERAGE_MAX);
        let bits = average.ilog2();
        Cutter {
            min: average as usize / 4,
            average: average as usize,
            max: average as usize * 4,
            // The high bits of a gear hash depend on the most bytes (64).
            mask_before: u64::MAX << (64 - (bits + 2)),
            mask_after: u64::MAX << (64 - (bits - 2)),
        }
    }

    /// Length of the first chunk of `bytes`, `None` when more bytes are needed to tell. With `ends`, these are the last of
    /// the file, and the answer is `None` only when there are none.
    pub fn cut(&self, bytes: &[u8], ends: bool) -> Option<usize> {
        let known = bytes.len();
        if known < self.max && !ends {
            return None;
        }
        if known <= self.min {
            return (0 < known).then_some(known);
        }
        let end = known.min(self.max);
        let normal = end.min(self.average);
        let gear = &*GEAR;
        let mut hash = 0_u64;
        // No cut is made within the minimum, and the hash forgets a byte after 64 others.
        let begin = self.min - self.min.min(64);
        for byte in &bytes[begin..self.min] {
            hash = (hash << 1).wrapping_add(gear[*byte as usize]);
        }
        for (at, byte) in bytes[..normal].iter().enumerate().skip(self.min) {
            hash = (hash << 1).wrapping_add(gear[*byte as usize]);
            if hash & self.mask_before == 0 {
                return Some(at + 1);
            }
        }
        for (at, byte) in bytes[..end].iter().enumerate().skip(normal) {
            hash = (hash << 1).wrapping_add(gear[*byte as usize]);
            if hash & self.mask_after == 0 {
                return Some(at + 1);
            }
        }
        Some(end)
    }

    /// Bytes of the largest chunk it makes.
    pub fn max(&self) -> usize {
        self.max
    }
}

#[cfg(test)]
mod tests;
