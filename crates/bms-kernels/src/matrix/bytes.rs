//! Zeroed memory at the start of a cache line.

use memmap2::{Advice, MmapMut};

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// From this size on memory comes in huge pages where the system gives them: a product walks through all of it, and
/// with small pages the walk waits for address translation.
const HUGE_FROM: usize = 4 << 20;

/// Bytes aligned to 64, zero at first.
pub(crate) struct AlignedBytes {
    storage: Storage,
    len: usize,
}

enum Storage {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl AlignedBytes {
    /// `len` zero bytes, unless there is not enough memory.
    pub(crate) fn zeroed(len: usize) -> Option<AlignedBytes> {
        let storage = if len < HUGE_FROM {
            let count = len.div_ceil(64);
            let mut lines = Vec::new();
            lines.try_reserve_exact(count).ok()?;
            lines.resize(count, Line([0; 64]));
            Storage::Lines(lines)
        } else {
            let pages = MmapMut::map_anon(len).ok()?;
            // Advice only; a system without huge pages is slower, not wrong.
            let _ = pages.advise(Advice::HugePage);
            Storage::Pages(pages)
        };
        Some(AlignedBytes { storage, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.storage {
            // SAFETY: a `Line` is 64 initialised bytes, and `len` is at most 64 times their number.
            Storage::Lines(lines) => unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), self.len) },
            Storage::Pages(pages) => &pages[..self.len],
        }
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            // SAFETY: as above, and the borrow is exclusive.
            Storage::Lines(lines) => unsafe {
                std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), self.len)
            },
            Storage::Pages(pages) => &mut pages[..self.len],
        }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}
