//! The handle on a language model: checks on the caller's thread, work on the engine's, events on a third.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bms_nn::lm::{AdapterFiles, Decoder, DecoderInfo};
use bms_wire::{Code, Error, Result, limits};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::Progress;
use crate::lm::audit::{Audit, Guarding};
use crate::lm::constraint::Forms;
use crate::lm::core::Core;
use crate::lm::draft::DraftModel;
use crate::lm::embedding::Embedding;
use crate::lm::request::invalid;
use crate::lm::sequence::{Listener, Seat, Submission};
use crate::lm::vocabulary::Vocabulary;
use crate::lm::{Completion, Event, LanguageMetrics, LanguageOptions, Request, Ticket};

/// Events on their way to sinks. Sinks are quick, so that there are few; when they are not, that much output waits here before
/// the engine waits for them.
const EVENTS_MAX: usize = 1 << 14;

/// How long the engine sleeps when work is there that cannot go on, before it looks again.
const STALLED: Duration = Duration::from_millis(5);

type Done<T> = Sender<Result<T>>;

/// What the engine's thread is told.
enum Command {
    Submit(Box<Submission>),
    Embed(Embedding),
    LoadAdapter { weights: Vec<u8>, config: Option<Vec<u8>>, done: Done<usize> },
    RetireAdapter(usize),
}

/// What handle and thread share.
struct Shared {
    info: DecoderInfo,
    options: LanguageOptions,
    vocabulary: Arc<dyn Vocabulary>,
    forms: OnceLock<Result<Forms>>,
    adapters: RwLock<BTreeMap<String, usize>>,
    metrics: Mutex<LanguageMetrics>,
    seats: Arc<AtomicUsize>,
    refused: AtomicU64,
    stops: AtomicBool,
}

/// A loaded language model. Share it between threads by reference; dropping it fails what is not done.
pub struct LanguageEngine {
    shared: Arc<Shared>,
    /// `None` only while being dropped.
    sender: Option<Sender<Command>>,
    threads: Vec<JoinHandle<()>>,
}

impl LanguageEngine {
    /// Serves a decoder.
    ///
    /// # Errors
    /// [`Code::Internal`] when a thread cannot be started; [`Code::InvalidBundle`] when the decoder has no pages.
    pub fn start(
        decoder: Box<dyn Decoder>,
        vocabulary: Arc<dyn Vocabulary>,
        options: &LanguageOptions,
    ) -> Result<LanguageEngine> {
        LanguageEngine::start_with_draft(decoder, None, vocabulary, options)
    }

    /// As [`LanguageEngine::start`], with a small model of the same vocabulary that guesses what the large one will say,
    /// for it to check several tokens in one pass. Answers are the same without; they come faster where the guesses are
    /// good and few answers run.
    ///
    /// # Errors
    /// As [`LanguageEngine::start`]; [`Code::InvalidInput`] when the vocabularies differ.
    pub fn start_with_draft(
        decoder: Box<dyn Decoder>,
        draft: Option<Box<dyn Decoder>>,
        vocabulary: Arc<dyn Vocabulary>,
        options: &LanguageOptions,
    ) -> Result<LanguageEngine> {
        LanguageEngine::start_guarded(decoder, draft, vocabulary, None, options)
    }

    /// As [`LanguageEngine::start_with_draft`], with an eye on the decoder's weights: bits that flip in memory are found
    /// and put back between two steps. The draft model has none on it, since what it guesses is checked.
    ///
    /// # Errors
    /// As [`LanguageEngine::start_with_draft`]; [`Code::InvalidInput`] for a share that is none and
    /// [`Code::UnsupportedModel`] for a decoder that shows no weights.
    pub fn start_guarded(
        mut decoder: Box<dyn Decoder>,
        draft: Option<Box<dyn Decoder>>,
        vocabulary: Arc<dyn Vocabulary>,
        guarding: Option<Guarding>,
        options: &LanguageOptions,
    ) -> Result<LanguageEngine> {
        let info = decoder.info().clone();
        if info.pages == 0 || info.page_tokens == 0 || info.vocab == 0 || vocabulary.is_empty() {
            return Err(Error::new(Code::InvalidBundle, "the model has no tokens or no memory for them"));
        }
        let shared = Arc::new(Shared {
            info,
            options: options.clone(),
            vocabulary: vocabulary.clone(),
            forms: OnceLock::new(),
            adapters: RwLock::default(),
            metrics: Mutex::default(),
            seats: Arc::default(),
            refused: AtomicU64::new(0),
            stops: AtomicBool::new(false),
        });
        let (outbox, events) = bounded::<(Listener, Event)>(EVENTS_MAX);
        let deliver = move |listener: &Listener, event| {
            // The delivery thread lives as long as this sender.
            let _ = outbox.send((listener.clone(), event));
        };
        let clock = Box::new(Instant::now);
        let draft = draft.map(|draft| DraftModel::new(draft, decoder.info().vocab)).transpose()?;
        let audit =
            guarding.map(|guarding| Audit::new(&mut *decoder, guarding, Instant::now())).transpose()?;
        let mut core = Core::new(decoder, vocabulary, options.bounds(), clock, Box::new(deliver));
        (core.draft, core.audit) = (draft, audit);
        let (sender, commands) = bounded(limits::GENERATE_QUEUE_MAX);
        let threads = vec![
            spawn("bms-lm-delivery", move || {
                events.iter().for_each(|(listener, event)| listener.hear(event))
            })?,
            spawn("bms-lm", {
                let shared = shared.clone();
                move || work(core, &commands, &shared)
            })?,
        ];
        Ok(LanguageEngine { shared, sender: Some(sender), threads })
    }

    /// Takes a request. `sink` hears its events on a thread of the engine that all requests share, so it must be quick;
    /// it returns whether anybody still listens.
    ///
    /// # Errors
    /// At once, and `sink` hears nothing then: [`Code::QueueFull`] when too much waits; [`Code::InvalidInput`] when a
    /// parameter is out of range or the context too small; [`Code::InvalidRequest`] when the constraint cannot be used;
    /// [`Code::ModelNotFound`] when there is no such adapter.
    pub fn generate(
        &self,
        request: Request,
        sink: impl FnMut(Event) -> bool + Send + 'static,
    ) -> Result<Ticket> {
        let shared = &self.shared;
        request.check(shared.info.vocab.min(shared.vocabulary.len()), shared.positions())?;
        let seats = shared.options.queue_max.clamp(1, limits::GENERATE_QUEUE_MAX);
        let seat = Seat::take(&shared.seats, seats).ok_or_else(|| {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            let pause = self.retry_after();
            Error::new(Code::QueueFull, format!("{seats} requests wait already"))
                .hint(format!("Send it again in about {} s, or add slots.", pause.as_secs()))
                .retry_after(pause)
        })?;
        let form = request.constraint.as_ref().map(|c| shared.forms()?.compile(c)).transpose()?;
        let listener = Listener::new(sink);
        let ticket = Ticket::new(listener.interest.clone());
        // Held until the request is sent, so that an adapter is not given up in between.
        let adapters = shared.adapters.read().unwrap_or_else(PoisonError::into_inner);
        let adapter =
            match &request.adapter {
                None => None,
                Some(name) => Some(*adapters.get(name).ok_or_else(|| {
                    Error::new(Code::ModelNotFound, format!("there is no adapter `{name}`"))
                })?),
            };
        let submitted = Instant::now();
        let submission = Submission { request, form, adapter, listener, submitted, seat };
        self.send(Command::Submit(Box::new(submission)))?;
        Ok(ticket)
    }

    /// Answers and waits for it: one completion for each of the request's answers.
    ///
    /// # Errors
    /// As [`LanguageEngine::generate`], and what happens on the way.
    pub fn complete(&self, request: Request) -> Result<Vec<Completion>> {
        let (sender, events) = bounded(256);
        let n = request.n;
        let _ticket = self.generate(request, move |event| sender.send(event).is_ok())?;
        let mut open: Vec<(String, Vec<_>)> = vec![Default::default(); n];
        let mut done: Vec<Option<Completion>> = vec![None; n];
        for event in events {
            match event {
                Event::Prompt { .. } => {}
                Event::Tokens { index, text, tokens } => {
                    open[index].0.push_str(&text);
                    open[index].1.extend(tokens);
                }
                Event::Done { index, reason, usage } => {
                    let (text, tokens) = std::mem::take(&mut open[index]);
                    done[index] = Some(Completion { text, tokens, reason, usage });
                    if done.iter().all(Option::is_some) {
                        return Ok(done.into_iter().flatten().collect());
                    }
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Err(ended())
    }

    /// Embeds token sequences and waits for it. The vectors have length one.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] when an input is empty or longer than the context, [`Code::UnsupportedModel`] when the
    /// model gives no embeddings, [`Code::TooLarge`] for too many.
    pub fn embed(&self, inputs: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>> {
        if limits::EMBED_INPUTS_MAX < inputs.len() {
            let message = format!("{} inputs are more than {}", inputs.len(), limits::EMBED_INPUTS_MAX);
            return Err(Error::new(Code::TooLarge, message));
        }
        let (vocab, positions) =
            (self.shared.info.vocab.min(self.shared.vocabulary.len()), self.shared.positions());
        for (at, tokens) in inputs.iter().enumerate() {
            if tokens.is_empty() || positions < tokens.len() {
                let message =
                    format!("input {at} has {} tokens; the model takes 1 to {positions}", tokens.len());
                return Err(invalid(message));
            }
            if let Some(token) = tokens.iter().find(|token| vocab <= **token as usize) {
                return Err(invalid(format!("input {at} holds token {token}; the model has {vocab}")));
            }
        }
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let (sender, answer) = crossbeam_channel::bounded(1);
        let reply = move |result| {
            // The receiver waits below; it cannot be gone.
            let _ = sender.send(result);
        };
        self.send(Command::Embed(Embedding::new(inputs, self.shared.options.pooling, reply)))?;
        answer.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Loads an adapter under a name for requests to choose.
    ///
    /// # Errors
    /// [`Code::Conflict`] when there is one of this name, [`Code::TooLarge`] when there are too many, and what the
    /// decoder says of the files.
    pub fn load_adapter(&self, name: &str, files: &AdapterFiles<'_>) -> Result<()> {
        let check = |adapters: &BTreeMap<String, usize>| {
            if name.is_empty() || limits::NAME_CHARS_MAX < name.chars().count() {
                let most = limits::NAME_CHARS_MAX;
                return Err(Error::new(
                    Code::InvalidRequest,
                    format!("an adapter's name has 1 to {most} characters"),
                ));
            }
            if adapters.contains_key(name) {
                return Err(Error::new(Code::Conflict, format!("an adapter `{name}` is loaded already")));
            }
            if limits::ADAPTERS_MAX <= adapters.len() {
                return Err(Error::new(
                    Code::TooLarge,
                    format!("{} adapters are loaded already", adapters.len()),
                ));
            }
            Ok(())
        };
        check(&self.shared.adapters.read().unwrap_or_else(PoisonError::into_inner))?;
        let (done, loaded) = crossbeam_channel::bounded(1);
        let (weights, config) = (files.weights.to_vec(), files.config.map(<[u8]>::to_vec));
        self.send(Command::LoadAdapter { weights, config, done })?;
        let adapter = loaded.recv().unwrap_or_else(|_| Err(ended()))?;
        let mut adapters = self.shared.adapters.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have been faster with the same name.
        if let Err(error) = check(&adapters) {
            self.send(Command::RetireAdapter(adapter))?;
            return Err(error);
        }
        adapters.insert(name.to_owned(), adapter);
        Ok(())
    }

    /// Gives an adapter up. Requests that chose it already are finished with it.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none of this name.
    pub fn unload_adapter(&self, name: &str) -> Result<()> {
        let mut adapters = self.shared.adapters.write().unwrap_or_else(PoisonError::into_inner);
        let adapter = adapters
            .remove(name)
            .ok_or_else(|| Error::new(Code::NotFound, format!("there is no adapter `{name}`")))?;
        self.send(Command::RetireAdapter(adapter))
    }

    /// The names of the loaded adapters.
    pub fn adapters(&self) -> Vec<String> {
        self.shared.adapters.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// What was loaded.
    pub fn info(&self) -> &DecoderInfo {
        &self.shared.info
    }

    /// Positions that prompt and answer may have together: the context, or what the cache holds when that is less.
    pub fn context(&self) -> usize {
        self.shared.positions()
    }

    /// What the engine has done, as of its last step.
    pub fn metrics(&self) -> LanguageMetrics {
        let mut metrics = self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        metrics.refused = self.shared.refused.load(Ordering::Relaxed);
        metrics
    }

    /// What it has done and has to do. Read without its thread, so that it can be read while that stands still.
    pub fn progress(&self) -> Progress {
        let metrics = self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = metrics.running + metrics.waiting;
        let waiting = under_way.max(self.shared.seats.load(Ordering::Relaxed)) as u64;
        Progress { steps: metrics.steps, waiting }
    }

    /// When a request that was refused because the queue is full may succeed: about as long as others waited.
    pub fn retry_after(&self) -> Duration {
        let queue = self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner).queue.clone();
        let mean = if queue.count() == 0 { 1.0 } else { queue.sum / queue.count() as f64 };
        Duration::from_secs(mean.ceil().clamp(1.0, 60.0) as u64)
    }

    fn send(&self, command: Command) -> Result<()> {
        self.sender.as_ref().ok_or_else(ended)?.send(command).map_err(|_| ended())
    }
}

impl Shared {
    fn positions(&self) -> usize {
        self.info.context.min(self.info.pages.saturating_mul(self.info.page_tokens))
    }

    fn forms(&self) -> Result<&Forms> {
        let forms = self.forms.get_or_init(|| Forms::new(self.vocabulary.clone()));
        forms.as_ref().map_err(|e| Error::new(e.code(), e.message()))
    }
}

impl std::fmt::Debug for LanguageEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanguageEngine").field("info", &self.shared.info).finish_non_exhaustive()
    }
}

impl Drop for LanguageEngine {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        drop(self.sender.take());
        for thread in self.threads.drain(..).rev() {
            // A sink may drop the engine; a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                // Panics are caught inside; there is nothing to learn from its end.
                let _ = thread.join();
            }
        }
    }
}

fn ended() -> Error {
    Error::new(Code::Unavailable, "the engine's thread has ended")
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|e| {
        Error::new(Code::Internal, format!("failed to start the engine's thread: {e}")).because(e)
    })
}

/// The engine's thread: takes what comes, makes steps, sleeps when there is nothing to do.
fn work(mut core: Core, commands: &Receiver<Command>, shared: &Shared) {
    loop {
        let first = match core.is_idle() {
            true => match core.audit_pause() {
                None => commands.recv().ok(),
                Some(pause) => commands.recv_timeout(pause).ok(),
            },
            false => commands.try_recv().ok(),
        };
        let took = first.is_some();
        first.into_iter().chain(commands.try_iter()).for_each(|command| obey(&mut core, command));
        if shared.stops.load(Ordering::Acquire) {
            core.fail_all();
            return;
        }
        let stepped = catch_unwind(AssertUnwindSafe(|| core.step()));
        let moved = stepped.unwrap_or_else(|_| {
            core.start_over();
            true
        });
        publish(&core, shared);
        core.send_embedded();
        if let Err(error) = core.audit(&|| !commands.is_empty()) {
            publish(&core, shared);
            core.fail_all();
            core.audit_lost(error);
            return;
        }
        publish(&core, shared);
        if !moved
            && !took
            && !core.is_idle()
            && let Ok(command) = commands.recv_timeout(STALLED)
        {
            obey(&mut core, command);
        }
    }
}

/// Shows what was done.
fn publish(core: &Core, shared: &Shared) {
    *shared.metrics.lock().unwrap_or_else(PoisonError::into_inner) = core.snapshot();
}

fn obey(core: &mut Core, command: Command) {
    match command {
        Command::Submit(submission) => core.submit(*submission),
        Command::Embed(embedding) => core.embeddings.push_back(embedding),
        Command::LoadAdapter { weights, config, done } => {
            let files = AdapterFiles { weights: &weights, config: config.as_deref() };
            let loaded = catch_unwind(AssertUnwindSafe(|| core.decoder.add_adapter(&files)));
            let failed = || Error::new(Code::Internal, "the decoder failed on this adapter");
            // Whoever asked waits for it.
            let _ = done.send(loaded.unwrap_or_else(|_| Err(failed())));
        }
        Command::RetireAdapter(adapter) => core.retired.push(adapter),
    }
}
