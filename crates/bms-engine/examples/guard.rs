//! Flips bits in the weights of a loaded model and measures what becomes of them, and what looking for them costs:
//! `cargo run --release -p bms-engine --example guard -- MODEL.gguf [--flips N] [--rounds N] [--tokens N]`.
//!
//! The decoder is wrapped in one that flips bits when the audit next asks for the weights, so that the product's own code
//! has no way to do so.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bms_bundle::Content;
use bms_engine::lm::{
    Guarding, LanguageEngine, LanguageMetrics, LanguageOptions, Repair, Request, WeightSource,
};
use bms_kernels::{Isa, KvKind};
use bms_nn::lm::gguf::GgufFile;
use bms_nn::lm::{
    Decoder, DecoderInfo, LoadOptions, ModelFiles, Network, PageId, Segment, Tokenizer, load, weight_part,
};
use serde_json::json;

/// Shares of the time whose cost is measured, with none first.
const SHARES: [f64; 3] = [0.0, 0.01, 0.05];
/// How long something may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(120);

/// What flips bits, and what became of it.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Random numbers for flips that are to be made.
    wanted: Vec<u64>,
    /// When they were made.
    at: Option<Instant>,
    /// The digest of all weights, when it is wanted.
    digest_wanted: bool,
    digest: Option<blake3::Hash>,
    /// From the flips to the end of each repair, what the repair itself took, and its bits.
    repairs: Vec<(Duration, Duration, u64)>,
    lost: Option<String>,
}

impl Faults {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A decoder whose weights are damaged.
struct Damaged {
    decoder: Box<dyn Decoder>,
    faults: Faults,
}

impl Decoder for Damaged {
    fn info(&self) -> &DecoderInfo {
        self.decoder.info()
    }

    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> bms_wire::Result<()> {
        self.decoder.forward(batch, logits)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.decoder.copy_page(from, to);
    }

    fn weights_mut(&mut self) -> Vec<&mut [u8]> {
        let mut weights = self.decoder.weights_mut();
        self.faults.with(|state| {
            let total: u64 = weights.iter().map(|weight| weight.len() as u64).sum();
            if !state.wanted.is_empty() {
                state.at = Some(Instant::now());
            }
            for random in state.wanted.drain(..) {
                let mut at = random % (8 * total);
                let bytes = weights.iter_mut().find_map(|weight| match 8 * weight.len() as u64 {
                    bits if at < bits => Some(weight),
                    bits => {
                        at -= bits;
                        None
                    }
                });
                bytes.expect("a bit of them")[(at / 8) as usize] ^= 1 << (at % 8);
            }
            if std::mem::take(&mut state.digest_wanted) {
                let mut hasher = blake3::Hasher::new();
                weights.iter().for_each(|weight| {
                    hasher.update(weight);
                });
                state.digest = Some(hasher.finalize());
            }
        });
        weights
    }
}

/// The model's file.
struct File {
    model: Content,
    faults: Faults,
}

impl WeightSource for File {
    fn part(&mut self, weight: usize, bytes: &Range<usize>) -> bms_wire::Result<Vec<u8>> {
        weight_part(&ModelFiles::Gguf(&self.model), &load_options(&|_| {}), weight, bytes)
    }

    fn repaired(&mut self, repair: &Repair) {
        self.faults.with(|state| {
            let since = state.at.map_or(Duration::ZERO, |at| at.elapsed());
            state.repairs.push((since, repair.took, repair.bits));
        });
    }

    fn lost(&mut self, error: bms_wire::Error) {
        self.faults.with(|state| state.lost = Some(error.to_string()));
    }
}

fn load_options<'a>(release: &'a dyn Fn(&[u8])) -> LoadOptions<'a> {
    LoadOptions {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        isa: Isa::best(),
        kv: KvKind::F16,
        context: Some(2048),
        kv_bytes: 256 << 20,
        quantise: None,
        release,
    }
}

/// A loaded model behind an engine, with all weights recorded when they are guarded.
struct Bench {
    engine: LanguageEngine,
    faults: Faults,
    prompt: Vec<u32>,
    recorded_in: Duration,
}

impl Bench {
    fn start(model: &Content, share: f64) -> Result<Bench> {
        let words = Arc::new(Tokenizer::from_gguf(&GgufFile::parse(model)?.metadata)?);
        let release = |bytes: &[u8]| {
            let start = bytes.as_ptr() as usize - model.as_ptr() as usize;
            model.release(start..start + bytes.len());
        };
        let Network::Decoder(decoder) = load(&ModelFiles::Gguf(model), &load_options(&release))? else {
            bail!("the model embeds texts; one that continues them is needed")
        };
        let faults = Faults::default();
        let source = File { model: model.clone(), faults: faults.clone() };
        let guarding = (0.0 < share).then(|| Guarding { share, source: Box::new(source) });
        let prompt = words.encode("Once upon a time there was a machine that never forgot", true, false)?;
        let decoder = Box::new(Damaged { decoder, faults: faults.clone() });
        let options = LanguageOptions { speculate: false, ..LanguageOptions::default() };
        let begin = Instant::now();
        let engine = LanguageEngine::start_guarded(decoder, None, words, guarding, &options)?;
        let bench = Bench { engine, faults, prompt, recorded_in: Duration::ZERO };
        if 0.0 < share {
            bench.wait(|metrics| 0 < metrics.weights_audit_passes)?;
        }
        Ok(Bench { recorded_in: begin.elapsed(), ..bench })
    }

    fn wait(&self, wanted: impl Fn(&LanguageMetrics) -> bool) -> Result<LanguageMetrics> {
        let begin = Instant::now();
        loop {
            let metrics = self.engine.metrics();
            if wanted(&metrics) {
                return Ok(metrics);
            }
            if let Some(lost) = self.faults.with(|state| state.lost.clone()) {
                bail!("the engine gave up: {lost}");
            }
            ensure!(begin.elapsed() < PATIENCE, "it took too long");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn request(&self, tokens: usize) -> Request {
        let prompt = self.prompt.clone();
        Request { max_tokens: Some(tokens), ignore_eos: true, ..Request::new(prompt) }
    }

    /// The digest of all weights, as the audit sees them next.
    fn digest(&self) -> Result<blake3::Hash> {
        self.faults.with(|state| (state.digest_wanted, state.digest) = (true, None));
        self.wait(|_| self.faults.with(|state| state.digest.is_some()))?;
        self.faults.with(|state| state.digest).context("there is a digest")
    }

    /// Flips bits, and waits for two passes over everything.
    fn flip(&self, random: &mut Random, flips: usize, busy: bool) -> Result<serde_json::Value> {
        let before = self.digest()?;
        let (found, passes) = {
            let metrics = self.engine.metrics();
            (metrics.weights_faults, metrics.weights_audit_passes)
        };
        self.faults.with(|state| {
            state.repairs.clear();
            state.wanted = (0..flips).map(|_| random.next()).collect();
        });
        let metrics = std::thread::scope(|scope| {
            let answers = busy.then(|| scope.spawn(|| self.answer_until(passes + 2)));
            let metrics = self.wait(|metrics| passes + 2 <= metrics.weights_audit_passes)?;
            if let Some(answers) = answers {
                answers.join().map_err(|_| anyhow::anyhow!("an answer panicked"))??;
            }
            anyhow::Ok(metrics)
        })?;
        let repairs = self.faults.with(|state| std::mem::take(&mut state.repairs));
        let bits: u64 = repairs.iter().map(|(_, _, bits)| bits).sum();
        let (since, took) = (
            repairs.iter().map(|(since, _, _)| since.as_secs_f64()).collect(),
            repairs.iter().map(|(_, took, _)| took.as_secs_f64()).collect(),
        );
        Ok(json!({
            "flipped_bits": flips, "repaired_bits": bits, "faults": metrics.weights_faults - found,
            "all_bytes_as_before": self.digest()? == before,
            "answers_ran": busy,
            "flip_to_repair_seconds": spread(since), "repair_seconds": spread(took),
            "pass_seconds": metrics.weights_last_pass.as_secs_f64(),
        }))
    }

    /// Answers one request after the other until the audit has made so many passes.
    fn answer_until(&self, passes: u64) -> Result<()> {
        while self.engine.metrics().weights_audit_passes < passes {
            self.engine.complete(self.request(16))?;
        }
        Ok(())
    }

    /// Tokens a second of one answer.
    fn speed(&self, tokens: usize) -> Result<f64> {
        self.engine.complete(self.request(4))?;
        let begin = Instant::now();
        self.engine.complete(self.request(tokens))?;
        Ok(tokens as f64 / begin.elapsed().as_secs_f64())
    }
}

/// splitmix64 (<https://prng.di.unimi.it/splitmix64.c>).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> serde_json::Value {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => serde_json::Value::Null,
        [least, .., most] => json!({ "median": values[values.len() / 2], "min": least, "max": most }),
        [only] => json!({ "median": only, "min": only, "max": only }),
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name a GGUF file")?;
    let (mut flips, mut rounds, mut tokens) = (200, 5, 48);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{name}` needs a number"))?.parse()?;
        match name.as_str() {
            "--flips" => flips = value,
            "--rounds" => rounds = value,
            "--tokens" => tokens = value,
            other => bail!("there is no option `{other}`"),
        }
    }
    let model = Content::open(path.as_ref())?;
    let mut random = Random(42);
    let bench = Bench::start(&model, 0.01)?;
    let weights = bench.engine.info().weight_bytes;
    let recorded = bench.recorded_in.as_secs_f64();
    println!("{}", json!({ "model": path, "weight_bytes": weights, "recorded_in_seconds": recorded }));
    if 0 < flips {
        println!("{}", json!({ "share": 0.01, "flips": bench.flip(&mut random, flips, false)? }));
        println!("{}", json!({ "share": 0.01, "flips": bench.flip(&mut random, 4, true)? }));
    }
    drop(bench);
    let mut speeds = vec![Vec::new(); SHARES.len()];
    for round in 0..rounds {
        for turn in 0..SHARES.len() {
            // Another one goes first in each round.
            let which = (turn + round) % SHARES.len();
            speeds[which].push(Bench::start(&model, SHARES[which])?.speed(tokens)?);
        }
    }
    let base = speeds[0].clone();
    for (share, speeds) in SHARES.iter().zip(speeds).filter(|_| 0 < rounds) {
        let ratios = speeds.iter().zip(&base).map(|(speed, base)| speed / base).collect();
        println!(
            "{}",
            json!({ "share": share, "tokens_per_second": spread(speeds), "of_unguarded": spread(ratios) })
        );
    }
    Ok(())
}
