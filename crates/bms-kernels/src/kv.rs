//! The keys and values of attention, in pages of 16 tokens.
//!
//! ```text
//! page ─ layer ─ kv_head ─┬─ keys    [head_dim][16 tokens]   one load is one dimension of 16 tokens
//!                         ├─ scales  [16]                    Q8 only
//!                         ├─ values  [16 tokens][head_dim]
//!                         └─ scales  [16]                    Q8 only
//! ```
//!
//! A store reserves addresses for all its pages; memory becomes resident when a page is first written. Which pages
//! belong to whom is the caller's business: sequences may share pages, as long as nobody writes a shared one.

use memmap2::{MmapMut, MmapOptions};

use crate::attention::AttendSeq;
use crate::{Isa, Pool};

mod rows;

/// Tokens of one page.
pub const PAGE_TOKENS: usize = 16;

/// The number of a page of a [`KvStore`].
pub type PageId = u32;

/// The largest dimension of a head.
pub const HEAD_DIM_MAX: usize = 256;
/// A head's dimension is a multiple of this.
pub const HEAD_DIM_MULTIPLE: usize = 8;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvKind {
    /// Half precision. Values beyond its range are cut to ±65504.
    F16,
    /// Eight bits with one scale for each token and head.
    Q8,
    /// As they are computed, 32 bits.
    F32,
}

/// The shape of one token's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Dimension of a head: a multiple of [`HEAD_DIM_MULTIPLE`], up to [`HEAD_DIM_MAX`].
    pub head_dim: usize,
    /// How they are stored.
    pub kind: KvKind,
}

/// Why a [`KvStore`] could not be made.
#[derive(Debug)]
pub enum KvError {
    /// A size is zero, or not one that the kernels can work with.
    Shape(String),
    /// The store would be larger than the address space.
    TooLarge,
    /// The system refused the memory.
    Memory(std::io::Error),
}

impl std::fmt::Display for KvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KvError::Shape(why) => write!(f, "keys and values cannot be stored: {why}"),
            KvError::TooLarge => {
                f.write_str("the store of keys and values would not fit into the address space")
            }
            KvError::Memory(error) => write!(f, "no memory for keys and values: {error}"),
        }
    }
}

impl std::error::Error for KvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KvError::Memory(error) => Some(error),
            KvError::Shape(_) | KvError::TooLarge => None,
        }
    }
}

/// Keys and values of all layers.
pub struct KvStore {
    memory: MmapMut,
    layers: usize,
    pages: usize,
    layout: KvLayout,
    /// Bytes of one head's keys (or values) of a page, without scales.
    codes_bytes: usize,
    /// The call of [`KvStore::write_rows`] that last wrote a page.
    written: Vec<u64>,
    calls: u64,
}

impl std::fmt::Debug for KvStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvStore")
            .field("layers", &self.layers)
            .field("pages", &self.pages)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Bytes of the scales of one head's keys or values of a page.
fn scales_bytes(kind: KvKind) -> usize {
    match kind {
        KvKind::F16 | KvKind::F32 => 0,
        KvKind::Q8 => PAGE_TOKENS * size_of::<f32>(),
    }
}

fn code_bytes(kind: KvKind) -> usize {
    match kind {
        KvKind::F16 => 2,
        KvKind::Q8 => 1,
        KvKind::F32 => 4,
    }
}

impl KvLayout {
    /// Bytes that one page takes in one layer; `None` when that does not fit.
    pub fn page_bytes(self) -> Option<usize> {
        let head =
            2 * (self.head_dim.checked_mul(PAGE_TOKENS * code_bytes(self.kind))? + scales_bytes(self.kind));
        head.checked_mul(self.kv_heads)
    }

    fn check(self) -> Result<(), KvError> {
        let KvLayout { kv_heads, head_dim, .. } = self;
        if kv_heads == 0 {
            return Err(KvError::Shape("there are no heads".to_owned()));
        }
        if head_dim == 0 || HEAD_DIM_MAX < head_dim || !head_dim.is_multiple_of(HEAD_DIM_MULTIPLE) {
            return Err(KvError::Shape(format!(
                "a head has {head_dim} dimensions, not a multiple of {HEAD_DIM_MULTIPLE} up to {HEAD_DIM_MAX}"
            )));
        }
        Ok(())
    }
}

impl KvStore {
    /// Reserves `pages` pages in each of `layers` layers, all zero.
    ///
    /// # Errors
    /// When a size is not supported or the system refuses the memory.
    pub fn new(layers: usize, pages: usize, layout: KvLayout) -> Result<KvStore, KvError> {
        layout.check()?;
        if layers == 0 || pages == 0 {
            return Err(KvError::Shape(format!("{layers} layers of {pages} pages")));
        }
        let bytes = PageId::try_from(pages)
            .ok()
            .and_then(|_| layout.page_bytes()?.checked_mul(pages)?.checked_mul(layers))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or(KvError::TooLarge)?;
        let memory = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().map_err(KvError::Memory)?;
        #[cfg(target_os = "linux")]
        // Small pages are slower, not wrong.
        let _ = memory.advise(memmap2::Advice::HugePage);
        let codes_bytes = layout.head_dim * PAGE_TOKENS * code_bytes(layout.kind);
        Ok(KvStore { memory, layers, pages, layout, codes_bytes, written: vec![0; pages], calls: 0 })
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Pages of each layer.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The shape of one token's keys and values.
    pub fn layout(&self) -> KvLayout {
        self.layout
    }

    /// Bytes that one token takes in all layers.
    pub fn bytes_per_token(&self) -> usize {
        self.memory.len() / self.pages / PAGE_TOKENS
    }

    /// Address space of the store in bytes: what is resident once every page has been written.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Where a head's part of a page starts.
    ///
    /// # Panics
    /// When the store has no such layer, page or head.
    fn head_start(&self, layer: usize, page: PageId, head: usize) -> usize {
        let page = page as usize;
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        assert!(page < self.pages, "page {page} of {}", self.pages);
        assert!(head < self.layout.kv_heads, "head {head} of {}", self.layout.kv_heads);
        ((page * self.layers + layer) * self.layout.kv_heads + head) * self.head_bytes()
    }

    /// Bytes of one head's part of a page.
    fn head_bytes(&self) -> usize {
        2 * (self.codes_bytes + scales_bytes(self.layout.kind))
    }

    /// One head's keys and values of a page.
    pub(crate) fn head(&self, layer: usize, page: PageId, head: usize) -> HeadPage<'_> {
        let start = self.head_start(layer, page, head);
        let bytes = &self.memory[start..start + self.head_bytes()];
        let (keys, values) = bytes.split_at(bytes.len() / 2);
        let (keys, key_scales) = keys.split_at(self.codes_bytes);
        let (values, value_scales) = values.split_at(self.codes_bytes);
        HeadPage { keys, key_scales: floats(key_scales), values, value_scales: floats(value_scales) }
    }

    /// Stores the keys and values of one token: `kv_heads` × `head_dim` numbers each.
    ///
    /// # Panics
    /// When the store has no such layer, page or slot, or the rows have another length.
    pub fn write(&mut self, layer: usize, page: PageId, slot: usize, keys: &[f32], values: &[f32]) {
        let KvLayout { kv_heads, head_dim, .. } = self.layout;
        assert!(slot < PAGE_TOKENS, "slot {slot} of {PAGE_TOKENS}");
        assert_eq!(keys.len(), kv_heads * head_dim, "the length of the keys");
        assert_eq!(values.len(), kv_heads * head_dim, "the length of the values");
        let isa = Isa::best();
        for head in 0..kv_heads {
            let row = head * head_dim..(head + 1) * head_dim;
            let start = self.head_start(layer, page, head);
            let bytes = self.head_bytes();
            let target = &mut self.memory[start..start + bytes];
            rows::write_token(isa, self.layout, target, slot, &keys[row.clone()], &values[row]);
        }
    }

    /// Stores the keys and values of many rows, those that [`attend`](crate::attend) will be asked about: row
    /// `first_row + i` of a sequence is its token `start + i`. `keys` and `values` hold `kv_heads` × `head_dim`
    /// numbers a row.
    ///
    /// # Panics
    /// When a sequence has too few pages for its tokens, a page lies outside the store, rows are missing, or two
    /// sequences write the same page.
    pub fn write_rows(
        &mut self,
        pool: &Pool,
        layer: usize,
        sequences: &[AttendSeq<'_>],
        keys: &[f32],
        values: &[f32],
    ) {
        let width = self.layout.kv_heads * self.layout.head_dim;
        assert_eq!(keys.len(), values.len(), "as many keys as values");
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        self.calls += 1;
        let mut tasks = Vec::new();
        for sequence in sequences {
            sequence.check(self, keys.len() / width);
            let mut at = sequence.start;
            while at < sequence.start + sequence.rows {
                let page = sequence.pages[at / PAGE_TOKENS];
                let tokens = (PAGE_TOKENS - at % PAGE_TOKENS).min(sequence.start + sequence.rows - at);
                // What makes the parallel writes below disjoint.
                let writer = std::mem::replace(&mut self.written[page as usize], self.calls);
                assert_ne!(writer, self.calls, "page {page} is written twice");
                let first_row = sequence.first_row + (at - sequence.start);
                tasks.push(rows::Task { page, slot: at % PAGE_TOKENS, tokens, first_row });
                at += tokens;
            }
        }
        rows::write(self, pool, layer, &tasks, keys, values);
    }

    /// Copies a page's keys and values in all layers.
    ///
    /// # Panics
    /// When a page lies outside the store.
    pub fn copy_page(&mut self, from: PageId, to: PageId) {
        let (from, to) = (self.head_start(0, from, 0), self.head_start(0, to, 0));
        let bytes = self.memory.len() / self.pages;
        self.memory.copy_within(from..from + bytes, to);
    }
}

/// One head's keys and values of a page, as stored.
#[derive(Clone, Copy)]
pub(crate) struct HeadPage<'a> {
    pub(crate) keys: &'a [u8],
    /// Of each token; empty for kinds other than [`KvKind::Q8`].
    pub(crate) key_scales: &'a [f32],
    pub(crate) values: &'a [u8],
    pub(crate) value_scales: &'a [f32],
}

/// The scales behind a page's codes.
fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bits are a number. Nothing is cut off: the store is aligned to a system page, and the parts of a head
    // are multiples of 64 bytes, as `HEAD_DIM_MULTIPLE` codes of 16 tokens are.
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    debug_assert!(before.is_empty() && after.is_empty());
    floats
}

#[cfg(test)]
mod tests;
