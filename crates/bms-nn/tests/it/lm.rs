//! Language models against what others compute with the same weights.

mod adapters;
mod converted;
mod embedder;
mod guard;
mod hf;
mod refusals;
mod smollm2;

use bms_kernels::{Isa, KvKind};
use bms_nn::lm::{Decoder, LoadOptions, LogitRows, ModelFiles, Network, PageId, Segment, Transformer, load};

/// Options for a test.
fn options(threads: usize, isa: Isa) -> LoadOptions<'static> {
    LoadOptions {
        threads,
        isa,
        kv: KvKind::F32,
        context: None,
        kv_bytes: 64 << 20,
        quantise: None,
        release: &|_| {},
    }
}

fn decoder(files: &ModelFiles<'_>, options: &LoadOptions<'_>) -> Transformer {
    match load(files, options).unwrap_or_else(|error| panic!("{error}")) {
        Network::Decoder(transformer) => *transformer,
        Network::Embedder(_) => panic!("an encoder"),
    }
}

/// One sequence and its pages, from the first of the cache on.
struct Sequence {
    pages: Vec<PageId>,
    len: usize,
}

impl Sequence {
    fn new(pages: usize) -> Sequence {
        Sequence { pages: (0..pages as PageId).collect(), len: 0 }
    }

    /// The logits of all the tokens, computed after those before.
    fn extend(&mut self, model: &mut Transformer, tokens: &[u32], logits: LogitRows) -> Vec<f32> {
        let mut out = Vec::new();
        let segment = Segment { tokens, start: self.len, pages: &self.pages, logits, adapter: None };
        model.forward(&[segment], &mut out).unwrap_or_else(|error| panic!("{error}"));
        self.len += tokens.len();
        out
    }
}

fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(index, _)| index as u32)
}
