//! Tiny models of every family against Hugging Face transformers. `data/hf/generate.py` made them.

use std::path::{Path, PathBuf};

use bms_kernels::Isa;
use bms_nn::lm::{Decoder, LogitRows, ModelFiles, Segment, Transformer};
use safetensors::SafeTensors;

use super::{Sequence, decoder, options};

/// Everything is computed in 32 bits on both sides.
const TOLERANCE: f32 = 1e-4;

pub(super) const FAMILIES: [&str; 12] = [
    "llama",
    "llama-bias",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2-moe",
    "qwen3",
    "qwen3-moe",
    "gemma2",
    "gemma3",
    "phi3",
    "phi3-partial",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hf").join(name)
}

/// What transformers computed: tokens and logits.
pub(super) struct Expected(Vec<u8>);

impl Expected {
    pub(super) fn of(name: &str) -> Expected {
        Expected(std::fs::read(folder(name).join("expected.safetensors")).unwrap())
    }

    fn bytes(&self, key: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(key).unwrap().data().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    }

    pub(super) fn tokens(&self, key: &str) -> Vec<u32> {
        self.bytes(key).into_iter().map(u32::from_le_bytes).collect()
    }

    pub(super) fn values(&self, key: &str) -> Vec<f32> {
        self.bytes(key).into_iter().map(f32::from_le_bytes).collect()
    }
}

/// The files of a model.
pub(super) struct Files {
    config: Vec<u8>,
    weights: Vec<u8>,
}

impl Files {
    pub(super) fn of(name: &str) -> Files {
        let read = |file: &str| std::fs::read(folder(name).join(file)).unwrap();
        Files { config: read("config.json"), weights: read("model.safetensors") }
    }

    pub(super) fn list(&self) -> [(&str, &[u8]); 2] {
        [("config.json", &self.config), ("model.safetensors", &self.weights)]
    }
}

/// A file of the adapter of `llama`.
pub(super) fn adapter_file(name: &str) -> Vec<u8> {
    std::fs::read(folder("llama/adapter").join(name)).unwrap()
}

/// The context that makes transformers' choice between the two sets of factors of Phi 3 for the short text.
pub(super) fn context(name: &str) -> Option<usize> {
    (name == "phi3").then_some(32)
}

#[track_caller]
pub(super) fn check(what: &str, found: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let worst = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if std::env::var_os("BMS_LM_VERBOSE").is_some() {
        eprintln!("{what}: {worst:.2e}");
    }
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

/// The logits of all tokens, computed in pieces of these lengths.
fn pieces(model: &mut Transformer, tokens: &[u32], lengths: &[usize]) -> Vec<f32> {
    let mut sequence = Sequence::new(4);
    let mut logits = Vec::new();
    let mut rest = tokens;
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*length));
        logits.extend(sequence.extend(model, now, LogitRows::All));
        rest = later;
    }
    logits
}

/// Two sequences side by side, one of which is ahead of the other.
fn together(model: &mut Transformer, tokens: &[u32], vocab: usize) -> Vec<f32> {
    let (first, second) = ([9, 3], [1, 7]);
    let half = tokens.len() / 2;
    let segment = |pages, range: std::ops::Range<usize>, logits| Segment {
        tokens: &tokens[range.clone()],
        start: range.start,
        pages,
        logits,
        adapter: None,
    };
    let (mut one, mut two) = (Vec::new(), Vec::new());
    model.forward(&[segment(&first, 0..half, LogitRows::All)], &mut one).unwrap();
    let batch = [
        segment(&first, half..tokens.len(), LogitRows::All),
        segment(&second, 0..tokens.len() - 1, LogitRows::None),
    ];
    model.forward(&batch, &mut one).unwrap();
    let last = segment(&second, tokens.len() - 1..tokens.len(), LogitRows::Last);
    model.forward(&[last], &mut two).unwrap();
    check("both sequences", &one[one.len() - vocab..], &two, TOLERANCE);
    one
}

#[test]
fn logits_are_those_of_transformers() {
    for name in FAMILIES {
        let (files, expected) = (Files::of(name), Expected::of(name));
        let (tokens, wanted) = (expected.tokens("tokens"), expected.values("logits"));
        let vocab = wanted.len() / tokens.len();
        for isa in Isa::available() {
            for threads in [1, 2] {
                let options = bms_nn::lm::LoadOptions { context: context(name), ..options(threads, isa) };
                let model = &mut decoder(&ModelFiles::Folder(&files.list()), &options);
                assert_eq!(model.info().vocab, vocab);
                let what = |how: &str| format!("{name}, {isa}, {threads} threads, {how}");
                check(&what("at once"), &pieces(model, &tokens, &[tokens.len()]), &wanted, TOLERANCE);
                check(&what("in pieces"), &pieces(model, &tokens, &[5, 1, 8]), &wanted, TOLERANCE);
                check(&what("one by one"), &pieces(model, &tokens, &[1]), &wanted, TOLERANCE);
                check(&what("two"), &together(model, &tokens, vocab), &wanted, TOLERANCE);
            }
        }
    }
}

#[test]
fn long_contexts_have_their_own_factors() {
    let (files, expected) = (Files::of("phi3"), Expected::of("phi3"));
    let (tokens, wanted) = (expected.tokens("long_tokens"), expected.values("long_logits"));
    let mut model = decoder(&ModelFiles::Folder(&files.list()), &options(2, Isa::best()));
    let found = pieces(&mut model, &tokens, &[16]);
    check("a long text", &found[found.len() - wanted.len()..], &wanted, TOLERANCE);
}
