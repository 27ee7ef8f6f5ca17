//! Zeroed memory for weights, in huge pages where the system gives them.
//!
//! A product walks through all weights of a model. With small pages the walk waits for address translation, so matrices
//! lie one after the other in large regions that begin at the boundary of a huge page.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::{Advice, MmapMut};

/// A huge page.
const HUGE: usize = 2 << 20;
/// Bytes of a region, unless one matrix needs more. What no matrix takes is never touched, but for the rest of a huge page: the
/// fewer regions the better.
const REGION: usize = 256 << 20;
/// Matrices begin at a cache line.
const LINE: usize = 64;

/// Anonymous memory that several matrices share.
struct Region {
    /// Never borrowed again; parts are reached by address.
    _map: MmapMut,
    /// The first byte at the boundary of a huge page.
    start: *mut u8,
    len: usize,
}

// SAFETY: the address is only handed out in disjoint parts, each to one owner.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(len: usize) -> Option<Region> {
        let mut map = MmapMut::map_anon(len.checked_add(HUGE)?).ok()?;
        // Advice only; a system without huge pages is slower, not wrong.
        let _ = map.advise(Advice::HugePage);
        let start = map.as_mut_ptr();
        // SAFETY: there is a huge page more than asked for.
        let start = unsafe { start.add(start.align_offset(HUGE)) };
        Some(Region { _map: map, start, len })
    }
}

/// The region that has room, while something in it lives, and the bytes taken from it.
static CURRENT: Mutex<(Weak<Region>, usize)> = Mutex::new((Weak::new(), 0));

/// Bytes aligned to a cache line, zero at first.
pub(crate) struct AlignedBytes {
    start: *mut u8,
    len: usize,
    /// Keeps the memory.
    _region: Option<Arc<Region>>,
}

// SAFETY: the bytes are this value's alone, as a `Vec`'s are: regions are handed out in disjoint parts.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// No bytes.
    pub(crate) fn empty() -> AlignedBytes {
        AlignedBytes { start: std::ptr::NonNull::dangling().as_ptr(), len: 0, _region: None }
    }

    /// `len` zero bytes, unless there is not enough memory.
    pub(crate) fn zeroed(len: usize) -> Option<AlignedBytes> {
        if len == 0 {
            return Some(AlignedBytes::empty());
        }
        let taken = len.checked_next_multiple_of(LINE)?;
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = current.0.upgrade().filter(|region| taken <= region.len - current.1);
        let (region, offset) = match fitting {
            Some(region) => (region, current.1),
            None => {
                let region = Arc::new(Region::new(taken.max(REGION).checked_next_multiple_of(HUGE)?)?);
                current.0 = Arc::downgrade(&region);
                (region, 0)
            }
        };
        current.1 = offset + taken;
        // SAFETY: `offset + taken` is at most `len` bytes past `start`, which the mapping was made to hold. Zero, since
        // anonymous memory is and no part is handed out twice.
        let start = unsafe { region.start.add(offset) };
        Some(AlignedBytes { start, len, _region: Some(region) })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that live as long as the region this value holds.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

#[cfg(test)]
mod tests;
