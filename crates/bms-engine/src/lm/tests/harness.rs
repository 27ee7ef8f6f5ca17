//! A core without threads: tests make its steps.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::fake::{FakeClock, FakeDecoder, FakeVocabulary, Strings};
use crate::lm::constraint::Forms;
use crate::lm::core::{Bounds, Core};
use crate::lm::sequence::{Listener, Seat, Submission};
use crate::lm::{Event, FinishReason, Request, Ticket, TokenOut, Usage};

/// What one request heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) prompt: Option<(String, Vec<TokenOut>)>,
    pub(crate) text: HashMap<usize, String>,
    pub(crate) tokens: HashMap<usize, Vec<TokenOut>>,
    pub(crate) done: HashMap<usize, (FinishReason, Usage)>,
    pub(crate) failed: Option<String>,
    /// Steps at which tokens came, by answer.
    pub(crate) times: HashMap<usize, Vec<std::time::Instant>>,
}

impl Heard {
    pub(crate) fn ids(&self, index: usize) -> Vec<u32> {
        self.tokens.get(&index).map(|t| t.iter().map(|t| t.id).collect()).unwrap_or_default()
    }
}

/// A request under way.
pub(crate) struct Ask {
    pub(crate) heard: Arc<Mutex<Heard>>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) request: Request,
}

impl Ask {
    pub(crate) fn ids(&self, index: usize) -> Vec<u32> {
        self.heard.lock().unwrap().ids(index)
    }

    pub(crate) fn reason(&self, index: usize) -> Option<FinishReason> {
        self.heard.lock().unwrap().done.get(&index).map(|(reason, _)| reason.clone())
    }

    pub(crate) fn usage(&self, index: usize) -> Usage {
        self.heard.lock().unwrap().done[&index].1
    }

    pub(crate) fn text(&self, index: usize) -> String {
        self.heard.lock().unwrap().text.get(&index).cloned().unwrap_or_default()
    }

    pub(crate) fn failed(&self) -> Option<String> {
        self.heard.lock().unwrap().failed.clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.failed.is_some() || heard.done.len() == self.request.n
    }
}

/// The core and its surroundings.
pub(crate) struct Rig {
    pub(crate) core: Core,
    pub(crate) clock: FakeClock,
    pub(crate) strings: Strings,
    forms: Arc<Forms>,
}

pub(crate) fn bounds() -> Bounds {
    Bounds {
        sequences_max: 16,
        step_target: Duration::from_millis(80),
        chunk_min: 16,
        chunk_max: 512,
        speculate: false,
        threads: 1,
    }
}

impl Rig {
    pub(crate) fn new(pages: usize) -> Rig {
        Rig::with(pages, bounds(), usize::MAX)
    }

    pub(crate) fn with(pages: usize, bounds: Bounds, memory: usize) -> Rig {
        let clock = FakeClock::new();
        let mut decoder = FakeDecoder::new(pages, 4096, clock.clone());
        decoder.memory = memory;
        let strings = decoder.strings.clone();
        let now = clock.clone();
        let vocabulary = Arc::new(FakeVocabulary::new());
        let core = Core::new(
            Box::new(decoder),
            vocabulary.clone(),
            bounds,
            Box::new(move || now.now()),
            Box::new(|listener: &Listener, event| listener.hear(event)),
        );
        let forms = Arc::new(Forms::new(vocabulary).unwrap());
        Rig { core, clock, strings, forms }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Ask {
        self.ask_with(request, None)
    }

    pub(crate) fn ask_with(&mut self, request: Request, adapter: Option<usize>) -> Ask {
        request.check(super::fake::VOCAB, 4096.min(self.core.cache.total() * 16)).unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (sink, clock) = (heard.clone(), self.clock.clone());
        let hear = move |event| {
            let mut heard = sink.lock().unwrap();
            match event {
                Event::Prompt { text, tokens } => {
                    assert!(
                        heard.tokens.is_empty() && heard.prompt.is_none(),
                        "the prompt comes first, once"
                    );
                    heard.prompt = Some((text, tokens));
                }
                Event::Tokens { index, text, tokens } => {
                    assert!(!heard.done.contains_key(&index), "nothing follows the end");
                    heard.text.entry(index).or_default().push_str(&text);
                    if !tokens.is_empty() {
                        heard.times.entry(index).or_default().push(clock.now());
                    }
                    heard.tokens.entry(index).or_default().extend(tokens);
                }
                Event::Done { index, reason, usage } => {
                    assert!(heard.done.insert(index, (reason, usage)).is_none(), "an answer ends once");
                }
                Event::Failed(error) => {
                    assert!(heard.failed.replace(error.to_string()).is_none(), "a request fails once");
                }
            }
            true
        };
        let ticket = self.submit(&request, adapter, hear);
        Ask { heard, ticket: Some(ticket), request }
    }

    /// Submits a request whose events somebody else hears.
    pub(crate) fn listen(
        &mut self,
        request: &Request,
        hear: impl FnMut(Event) -> bool + Send + 'static,
    ) -> Ticket {
        request.check(super::fake::VOCAB, 4096.min(self.core.cache.total() * 16)).unwrap();
        self.submit(request, None, hear)
    }

    fn submit(
        &mut self,
        request: &Request,
        adapter: Option<usize>,
        hear: impl FnMut(Event) -> bool + Send + 'static,
    ) -> Ticket {
        let listener = Listener::new(hear);
        let ticket = Ticket::new(listener.interest.clone());
        let form = request.constraint.as_ref().map(|c| self.forms.compile(c).unwrap());
        let seat = Seat::take(&Arc::new(AtomicUsize::new(0)), 1).unwrap();
        let submitted = self.clock.now();
        self.core.submit(Submission { request: request.clone(), form, adapter, listener, submitted, seat });
        ticket
    }

    /// One step, and everything that must hold after it.
    pub(crate) fn step(&mut self) -> bool {
        let moved = self.core.step();
        self.check();
        moved
    }

    /// Steps until nothing is left to do.
    pub(crate) fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.core.is_idle() {
                self.check_all_given_back();
                return;
            }
            assert!(self.step() || self.core.is_idle(), "work is there, and nothing moves");
        }
        panic!("it does not end");
    }

    /// Every page is held as often as sequences and tree name it.
    pub(crate) fn check(&self) {
        let chains = self.core.running.values().chain(self.core.parked.values()).map(|s| &s.chain);
        self.core.cache.audit(chains);
        assert!(self.core.running.len() <= self.core.bounds.sequences_max);
        for sequence in self.core.parked.values() {
            assert!(sequence.chain.pages.is_empty(), "what is parked holds nothing");
        }
    }

    pub(crate) fn check_all_given_back(&mut self) {
        self.check();
        assert_eq!(self.core.cache.available(), self.core.cache.total(), "all pages are to be had");
        assert!(self.core.groups.is_empty());
    }

    /// Tokens of prompts and answers that the decoder computed.
    pub(crate) fn computed(&self) -> usize {
        let batches = self.strings.batches.lock().unwrap();
        batches.iter().flat_map(|b| &b.segments).map(|(tokens, _)| tokens).sum()
    }
}

/// A prompt of so many tokens, none of them the end, that differs by `seed` from the first token on.
pub(crate) fn prompt(seed: u32, tokens: usize) -> Vec<u32> {
    (0..tokens as u32).map(|i| 1 + (seed.wrapping_mul(31) + i * i * 7 + i * seed) % 95).collect()
}

/// A request of so many tokens.
pub(crate) fn request(prompt: Vec<u32>, tokens: usize) -> Request {
    Request { max_tokens: Some(tokens), ..Request::new(prompt) }
}
