//! A real language model against llama.cpp: the same tokens in, the same probabilities out.
//!
//! Answers are not compared token by token: llama.cpp's own runs with f32 and with quantised activations part ways
//! after some tokens. Each answer of the oracle is given to the model instead, and at every token the probabilities
//! are compared, and the most probable one where the oracle is sure. `BMS_SMOLLM2` names the GGUF file.

use bms_kernels::{Isa, KvKind};
use bms_nn::lm::gguf::GgufFile;
use bms_nn::lm::{self, Decoder, LoadOptions, LogitRows, ModelFiles, Network, PageId, Segment, Tokenizer};
use serde::Deserialize;

const ORACLE: &str = include_str!("../data/smollm2/llama_cpp.json");
/// A text that lies in every checkout, and its bytes that count.
const TEXT: &str = include_str!("../../../../LICENSE-APACHE");
const TEXT_BYTES: usize = 6144;
/// Tokens of a chunk, the second half of which is scored.
const CHUNK: usize = 512;
/// The perplexity of the text as `llama-perplexity -c 512` of llama.cpp gives it for the weights as f32.
const PERPLEXITY: f64 = 13.2345;
/// What activations in eight bits may cost.
const PERPLEXITY_TOLERANCE: f64 = 0.01;
/// How far logarithms of probabilities may lie apart, in the middle and at most.
const MEDIAN_MAX: f64 = 0.05;
const DIFFERENCE_MAX: f64 = 0.4;
/// A lead of the oracle's most probable token over the next that no rounding turns round.
const SURE: f64 = 0.5;

#[derive(Deserialize)]
struct Oracle {
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    prompt: String,
    tokens: Vec<u32>,
    answer: Vec<u32>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    at: usize,
    top: Vec<(u32, f64)>,
}

/// The model's file, or `None` after saying loudly that there is none.
fn model() -> Option<Vec<u8>> {
    let Some(path) = std::env::var_os("BMS_SMOLLM2") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BMS_SMOLLM2 must be set in CI; `cargo xtask fixtures` gets the model"
        );
        eprintln!("SKIPPED: no language model was compared with llama.cpp, because BMS_SMOLLM2 is not set");
        return None;
    };
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("BMS_SMOLLM2 {path:?}: {error}")))
}

fn oracle() -> Vec<Answer> {
    serde_json::from_str::<Oracle>(ORACLE).unwrap().answers
}

fn load(bytes: &[u8], isa: Isa, kv: KvKind, threads: usize) -> Box<dyn Decoder> {
    let options = LoadOptions {
        threads,
        isa,
        kv,
        context: Some(CHUNK),
        // All answers at once.
        kv_bytes: 256 << 20,
        quantise: None,
        release: &|_| {},
    };
    match lm::load(&ModelFiles::Gguf(bytes), &options).unwrap() {
        Network::Decoder(decoder) => decoder,
        Network::Embedder(_) => panic!("SmolLM2 continues texts"),
    }
}

/// Pages for `tokens` tokens, from `first` on.
fn pages(first: usize, tokens: usize) -> Vec<PageId> {
    (first..first + tokens.div_ceil(16)).map(|page| page as PageId).collect()
}

/// The logits of all positions of a text in one pass.
fn read(decoder: &mut dyn Decoder, tokens: &[u32]) -> Vec<Vec<f32>> {
    let pages = pages(0, tokens.len());
    let segment = Segment { tokens, start: 0, pages: &pages, logits: LogitRows::All, adapter: None };
    rows(decoder, &[segment])
}

fn rows(decoder: &mut dyn Decoder, batch: &[Segment<'_>]) -> Vec<Vec<f32>> {
    let mut logits = Vec::new();
    decoder.forward(batch, &mut logits).unwrap();
    logits.chunks_exact(decoder.info().vocab).map(<[f32]>::to_vec).collect()
}

/// Logarithms of the probabilities.
fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - highest) - sum.ln()).collect()
}

fn most_probable(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32
}

/// Differences of logarithms over all steps; fails where a sure choice is another.
fn differences(answer: &Answer, logits: &[Vec<f32>]) -> Vec<f64> {
    let mut found = Vec::new();
    for step in &answer.steps {
        let row = &logits[answer.tokens.len() - 1 + step.at];
        let ours = log_probabilities(row);
        if SURE < step.top[0].1 - step.top[1].1 {
            assert_eq!(most_probable(row), step.top[0].0, "step {} of {:?}", step.at, answer.prompt);
        }
        // Of the chosen token: small probabilities scatter more.
        let (id, log) = step.top[0];
        found.push((ours[id as usize] - log).abs());
    }
    found
}

fn assert_close(mut found: Vec<f64>, what: &str) {
    found.sort_by(f64::total_cmp);
    let (median, most) = (found[found.len() / 2], found[found.len() - 1]);
    eprintln!("{what}: {} values, median {median:.4}, most {most:.3}", found.len());
    assert!(median < MEDIAN_MAX && most < DIFFERENCE_MAX, "{what}: median {median:.4}, most {most:.3}");
}

#[test]
fn probabilities_are_those_of_llama_cpp_on_every_instruction_set() {
    let Some(bytes) = model() else { return };
    let oracle = oracle();
    for isa in Isa::available() {
        // The plain code takes its time.
        let few = isa == Isa::Scalar;
        let kinds: &[KvKind] = if few { &[KvKind::F16] } else { &[KvKind::F16, KvKind::Q8] };
        for &kv in kinds {
            let mut decoder = load(&bytes, isa, kv, 2);
            let mut found = Vec::new();
            for answer in oracle.iter().take(if few { 2 } else { usize::MAX }) {
                let tokens = [&answer.tokens[..], &answer.answer].concat();
                found.extend(differences(answer, &read(&mut *decoder, &tokens)));
            }
            assert_close(found, &format!("{isa}, cache {kv:?}"));
        }
    }
}

#[test]
fn a_token_at_a_time_and_all_sequences_at_once_come_to_the_same() {
    let Some(bytes) = model() else { return };
    let oracle = oracle();
    let mut decoder = load(&bytes, Isa::best(), KvKind::F16, 2);
    let texts: Vec<Vec<u32>> =
        oracle.iter().map(|answer| [&answer.tokens[..], &answer.answer].concat()).collect();
    // Sequences of different lengths side by side, each in pages of its own.
    let each = texts.iter().map(Vec::len).max().unwrap().div_ceil(16);
    let own: Vec<Vec<PageId>> =
        texts.iter().enumerate().map(|(i, text)| pages(i * each, text.len())).collect();
    let mut logits: Vec<Vec<Vec<f32>>> = vec![Vec::new(); texts.len()];
    for position in 0..texts.iter().map(Vec::len).max().unwrap() {
        let running: Vec<usize> = (0..texts.len()).filter(|i| position < texts[*i].len()).collect();
        let batch: Vec<Segment<'_>> = running
            .iter()
            .map(|i| Segment {
                tokens: &texts[*i][position..=position],
                start: position,
                pages: &own[*i],
                logits: LogitRows::Last,
                adapter: None,
            })
            .collect();
        for (i, row) in running.iter().zip(rows(&mut *decoder, &batch)) {
            logits[*i].push(row);
        }
    }
    let found = oracle.iter().zip(&logits).flat_map(|(answer, rows)| differences(answer, rows)).collect();
    assert_close(found, "a token at a time, all at once");
}

#[test]
fn threads_change_nothing_that_counts() {
    let Some(bytes) = model() else { return };
    let answer = &oracle()[0];
    let tokens = [&answer.tokens[..], &answer.answer].concat();
    let of = |threads| read(&mut *load(&bytes, Isa::best(), KvKind::F16, threads), &tokens);
    let (one, three) = (of(1), of(3));
    for (one, three) in one.iter().flatten().zip(three.iter().flatten()) {
        assert!((one - three).abs() < 0.05, "{one} with one thread, {three} with three");
    }
}

#[test]
fn the_tokeniser_cuts_prompts_as_llama_cpp_does() {
    let Some(bytes) = model() else { return };
    let tokenizer = Tokenizer::from_gguf(&GgufFile::parse(&bytes).unwrap().metadata).unwrap();
    for answer in oracle() {
        assert_eq!(tokenizer.encode(&answer.prompt, true, true).unwrap(), answer.tokens);
    }
}

#[test]
fn the_perplexity_of_a_text_is_that_of_llama_cpp() {
    let Some(bytes) = model() else { return };
    let tokenizer = Tokenizer::from_gguf(&GgufFile::parse(&bytes).unwrap().metadata).unwrap();
    let tokens = tokenizer.encode(&TEXT[..TEXT_BYTES], true, false).unwrap();
    let mut decoder = load(&bytes, Isa::best(), KvKind::F16, 2);
    let (mut sum, mut count) = (0.0, 0);
    for chunk in tokens.chunks_exact(CHUNK) {
        let logits = read(&mut *decoder, chunk);
        // The last position predicts what is not in the chunk.
        for (row, next) in logits[CHUNK / 2..CHUNK - 1].iter().zip(&chunk[CHUNK / 2 + 1..]) {
            sum -= log_probabilities(row)[*next as usize];
            count += 1;
        }
    }
    let perplexity = (sum / f64::from(count)).exp();
    eprintln!("perplexity {perplexity:.4} over {count} tokens");
    assert!((perplexity / PERPLEXITY - 1.0).abs() < PERPLEXITY_TOLERANCE, "{perplexity} is not {PERPLEXITY}");
}
