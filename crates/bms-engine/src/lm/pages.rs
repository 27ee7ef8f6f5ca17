//! Which pages of the cache are taken, and by how many.

use bms_nn::lm::PageId;

/// Counts of the holders of each page.
#[derive(Debug)]
pub(crate) struct Pages {
    holders: Vec<u32>,
    free: Vec<PageId>,
}

impl Pages {
    pub(crate) fn new(total: usize) -> Pages {
        // Page 0 is taken first.
        Pages { holders: vec![0; total], free: (0..total as PageId).rev().collect() }
    }

    pub(crate) fn total(&self) -> usize {
        self.holders.len()
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn holders(&self, page: PageId) -> u32 {
        self.holders[page as usize]
    }

    /// A free page with one holder.
    pub(crate) fn take(&mut self) -> Option<PageId> {
        let page = self.free.pop()?;
        self.holders[page as usize] = 1;
        Some(page)
    }

    /// One holder more; how many there are then.
    pub(crate) fn share(&mut self, page: PageId) -> u32 {
        let holders = &mut self.holders[page as usize];
        debug_assert_ne!(*holders, 0, "a free page cannot be shared");
        *holders += 1;
        *holders
    }

    /// One holder less; how many are left. Without any the page is free.
    pub(crate) fn release(&mut self, page: PageId) -> u32 {
        let holders = &mut self.holders[page as usize];
        debug_assert_ne!(*holders, 0, "a free page cannot be released");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
        *holders
    }
}
