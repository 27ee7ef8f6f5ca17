//! Memory that holds what nobody else shall read: kept out of core dumps, overwritten when let go.

use std::ops::{Deref, DerefMut};

use bms_wire::{Code, Error, Result};
use memmap2::MmapMut;
use zeroize::Zeroize;

/// From this many bytes on pages of their own are asked for.
const PAGES_FROM: usize = 1 << 20;

/// Decrypted bytes. They are overwritten with zeros before their memory goes back to the system.
pub(crate) enum Secret {
    Heap(Vec<u8>),
    Pages(MmapMut),
}

impl Secret {
    /// `length` zeros.
    pub(crate) fn zeroed(length: usize) -> Result<Secret> {
        if length < PAGES_FROM {
            return Ok(Secret::Heap(vec![0; length]));
        }
        let pages = MmapMut::map_anon(length).map_err(|e| {
            Error::new(Code::TooLarge, format!("there is no memory for {length} decrypted bytes: {e}"))
                .hint("A sealed model is decrypted into memory as a whole; use a machine with more.")
                .because(e)
        })?;
        #[cfg(target_os = "linux")]
        for advice in [memmap2::Advice::DontDump, memmap2::Advice::HugePage] {
            // A kernel without them loses a precaution and some speed.
            let _ = pages.advise(advice);
        }
        Ok(Secret::Pages(pages))
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Secret::Heap(bytes) => bytes,
            Secret::Pages(pages) => pages,
        }
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Secret::Heap(bytes) => bytes,
            Secret::Pages(pages) => pages,
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.deref_mut().zeroize();
    }
}
