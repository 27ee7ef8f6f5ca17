//! A decoder without weights. The next token follows from the hash of the whole history, read through the page table:
//! a page shared wrongly, copied late or lost in a preemption gives other tokens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bms_nn::lm::{AdapterFiles, Decoder, DecoderInfo, LogitRows, PageId, Segment};
use bms_wire::{Code, Error, Result};

use crate::lm::vocabulary::Vocabulary;

pub(crate) const PAGE: usize = 16;
pub(crate) const VOCAB: usize = 96;
pub(crate) const END: u32 = 0;

/// A clock that the decoder moves.
#[derive(Clone)]
pub(crate) struct FakeClock {
    begin: Instant,
    nanos: Arc<AtomicU64>,
}

impl FakeClock {
    pub(crate) fn new() -> FakeClock {
        FakeClock { begin: Instant::now(), nanos: Arc::default() }
    }

    pub(crate) fn now(&self) -> Instant {
        self.begin + Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }
}

/// What one batch was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// For each segment: tokens, start.
    pub(crate) segments: Vec<(usize, usize)>,
}

/// What tests tell the decoder, and what it tells them.
#[derive(Clone, Default)]
pub(crate) struct Strings {
    pub(crate) batches: Arc<Mutex<Vec<Batch>>>,
    /// What happens to the batch of this number.
    pub(crate) fault: Arc<Mutex<Option<(usize, Fault)>>>,
    pub(crate) copies: Arc<AtomicU64>,
    /// Before which batch which byte of which weight has a bit flipped.
    pub(crate) flips: Arc<Mutex<Vec<(usize, usize, usize)>>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Error,
    Panic,
    Nan,
    Short,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    token: u32,
    position: usize,
    adapter: Option<usize>,
    written: bool,
    /// Computed with a damaged weight.
    damaged: bool,
}

/// The decoder.
pub(crate) struct FakeDecoder {
    info: DecoderInfo,
    pages: Vec<[Slot; PAGE]>,
    clock: FakeClock,
    pub(crate) strings: Strings,
    /// Tokens the next one depends on: all, or so many last ones, whose answers repeat themselves.
    pub(crate) memory: usize,
    adapters: usize,
    /// No answer depends on them, but what is computed while they are damaged must not be read once they are not.
    weights: Vec<Vec<u8>>,
}

/// The weights of the decoder.
pub(crate) fn good_weights() -> Vec<Vec<u8>> {
    (0..40).map(|weight| vec![weight; 8 + usize::from(weight)]).collect()
}

impl FakeDecoder {
    pub(crate) fn new(pages: usize, context: usize, clock: FakeClock) -> FakeDecoder {
        let info = DecoderInfo {
            name: "fake".to_owned(),
            arch: "fake".to_owned(),
            vocab: VOCAB,
            context,
            layers: 1,
            d_model: 4,
            pages,
            page_tokens: PAGE,
            kv_bytes_per_token: 1,
            parameters: 0,
            weight_bytes: 0,
        };
        let pages = vec![[Slot::default(); PAGE]; pages];
        let (strings, weights) = (Strings::default(), good_weights());
        FakeDecoder { info, pages, clock, strings, memory: usize::MAX, adapters: 0, weights }
    }

    /// The history up to a position, as the pages hold it.
    fn history(&self, segment: &Segment<'_>, end: usize) -> Vec<u32> {
        (0..end)
            .map(|position| {
                let slot = self.pages[segment.pages[position / PAGE] as usize][position % PAGE];
                assert!(slot.written, "position {position} was never written");
                assert_eq!(slot.position, position, "a page of another position");
                assert_eq!(slot.adapter, segment.adapter, "a page of another adapter");
                assert!(!slot.damaged || self.is_damaged(), "a page that a damaged weight wrote");
                slot.token
            })
            .collect()
    }

    fn is_damaged(&self) -> bool {
        self.weights != good_weights()
    }

    fn write(&mut self, segment: &Segment<'_>) {
        let damaged = self.is_damaged();
        assert!(!segment.tokens.is_empty(), "a segment has a token");
        assert!(segment.start + segment.tokens.len() <= segment.pages.len() * PAGE, "pages for every token");
        assert!(segment.start + segment.tokens.len() <= self.info.context, "the context");
        for (at, token) in segment.tokens.iter().enumerate() {
            let position = segment.start + at;
            self.pages[segment.pages[position / PAGE] as usize][position % PAGE] =
                Slot { token: *token, position, adapter: segment.adapter, written: true, damaged };
        }
    }

    /// No page is written by two segments, and none that is written is read by another.
    fn check_apart(batch: &[Segment<'_>]) {
        let written = |s: &Segment<'_>| -> Vec<PageId> {
            s.pages[s.start / PAGE..(s.start + s.tokens.len()).div_ceil(PAGE)].to_vec()
        };
        for (a, first) in batch.iter().enumerate() {
            for (b, second) in batch.iter().enumerate().filter(|(b, _)| *b != a) {
                let used = &second.pages[..(second.start + second.tokens.len()).div_ceil(PAGE)];
                for page in written(first) {
                    assert!(
                        !used.contains(&page),
                        "segments {a} and {b} share page {page}, which {a} writes"
                    );
                }
            }
        }
    }
}

/// The logits after a history.
pub(crate) fn logits_after(history: &[u32], adapter: Option<usize>, memory: usize) -> Vec<f32> {
    let visible = &history[history.len().saturating_sub(memory)..];
    let seed = adapter.map_or(17, |a| 1000 + a as u64);
    let hash = visible.iter().fold(seed, |hash, token| mix(hash ^ u64::from(*token) << 7));
    (0..VOCAB as u64)
        .map(|token| (mix(hash.wrapping_add(token)) >> 40) as f32 / (1u64 << 22) as f32)
        .collect()
}

/// The greedy answer.
pub(crate) fn expected(prompt: &[u32], tokens: usize, adapter: Option<usize>, memory: usize) -> Vec<u32> {
    let mut history = prompt.to_vec();
    while history.len() < prompt.len() + tokens {
        let logits = logits_after(&history, adapter, memory);
        let best = (0..VOCAB).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap();
        history.push(best as u32);
        if best as u32 == END {
            break;
        }
    }
    history.split_off(prompt.len())
}

fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).wrapping_add(0x9e37_79b9_7f4a_7c15)
}

impl Decoder for FakeDecoder {
    fn info(&self) -> &DecoderInfo {
        &self.info
    }

    fn weights_mut(&mut self) -> Vec<&mut [u8]> {
        self.weights.iter_mut().map(Vec::as_mut_slice).collect()
    }

    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let number = {
            let mut batches = self.strings.batches.lock().unwrap();
            let segments = batch.iter().map(|s| (s.tokens.len(), s.start)).collect();
            batches.push(Batch { segments });
            batches.len() - 1
        };
        let fault =
            self.strings.fault.lock().unwrap().filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Error) => return Err(Error::new(Code::Internal, "this batch fails")),
            Some(Fault::Panic) => panic!("this batch panics"),
            _ => {}
        }
        for (_, weight, at) in self.strings.flips.lock().unwrap().iter().filter(|flip| flip.0 == number) {
            self.weights[*weight][*at] ^= 0x20;
        }
        Self::check_apart(batch);
        let tokens: usize = batch.iter().map(|s| s.tokens.len()).sum();
        // 20 ms for the pass, 1 ms for each token.
        self.clock.pass(Duration::from_millis(20 + tokens as u64));
        for segment in batch {
            self.write(segment);
            let rows = match segment.logits {
                LogitRows::None => 0,
                LogitRows::Last => 1,
                LogitRows::All => segment.tokens.len(),
            };
            let end = segment.start + segment.tokens.len();
            for end in end - rows + 1..=end {
                let history = self.history(segment, end);
                logits.extend(logits_after(&history, segment.adapter, self.memory));
            }
        }
        match fault {
            Some(Fault::Nan) => logits.fill(f32::NAN),
            Some(Fault::Short) => logits.truncate(1),
            _ => {}
        }
        Ok(())
    }

    fn hidden(&mut self, batch: &[Segment<'_>], states: &mut Vec<f32>) -> Result<()> {
        Self::check_apart(batch);
        for segment in batch {
            self.write(segment);
            for end in segment.start + 1..=segment.start + segment.tokens.len() {
                let history = self.history(segment, end);
                states.extend([history[end - 1] as f32, end as f32, 0.0, history[0] as f32]);
            }
        }
        Ok(())
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        assert_ne!(from, to);
        self.strings.copies.fetch_add(1, Ordering::SeqCst);
        self.pages[to as usize] = self.pages[from as usize];
    }

    fn add_adapter(&mut self, files: &AdapterFiles<'_>) -> Result<usize> {
        if files.weights.is_empty() {
            return Err(Error::new(Code::InvalidInput, "no adapter"));
        }
        self.adapters += 1;
        Ok(self.adapters - 1)
    }

    fn remove_adapter(&mut self, _adapter: usize) {}
}

/// Token 0 ends; 1 to 95 are the printable characters of ASCII.
pub(crate) struct FakeVocabulary {
    bytes: Vec<Vec<u8>>,
}

impl FakeVocabulary {
    pub(crate) fn new() -> FakeVocabulary {
        let mut bytes = vec![b"<end>".to_vec()];
        bytes.extend((0x20..0x7f).map(|byte| vec![byte]));
        assert_eq!(bytes.len(), VOCAB);
        FakeVocabulary { bytes }
    }
}

impl Vocabulary for FakeVocabulary {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn bytes(&self, token: u32) -> &[u8] {
        &self.bytes[token as usize]
    }

    fn ends(&self) -> &[u32] {
        &[END]
    }

    fn is_control(&self, token: u32) -> bool {
        token == END
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().filter(|b| (0x20..0x7f).contains(b)).map(|b| u32::from(b) - 0x1f).collect()
    }
}
