//! From a prompt and the options of a request to work for the engine, and what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bms_engine::lm::{Constraint, Event, FinishReason, Request, Sampling, Ticket};
use bms_wire::generation::Generation;
use bms_wire::{Code, Error, Result, limits};
use tokio::sync::mpsc;

use super::Language;
use super::marks::Origin;

/// Characters of the name under which a user's requests are counted.
const TENANT_CHARS_MAX: usize = limits::NAME_CHARS_MAX;

/// One or several prompts being answered. Dropping it cancels them.
#[derive(Debug)]
pub(super) struct Job {
    events: mpsc::Receiver<(usize, Event)>,
    /// One a prompt. Let go once the client reads too slowly.
    tickets: Vec<Ticket>,
    overrun: Arc<AtomicBool>,
    /// Answers that have not ended.
    open: usize,
}

/// What a job hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// Something about the prompt of this number.
    Event(usize, Event),
    /// The job failed; nothing follows.
    Failed(Error),
    /// All answers have ended.
    End,
}

/// A prompt to answer.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) tokens: Vec<u32>,
    pub(super) constraint: Option<Constraint>,
    /// The prompt is part of the answer.
    pub(super) echo: bool,
}

impl Language {
    /// Has the engine answer the questions.
    ///
    /// # Errors
    /// What the engine refuses; nothing is left running then.
    pub(super) fn submit(
        &self,
        questions: Vec<Question>,
        generation: &Generation,
        origin: Origin,
    ) -> Result<Job> {
        let adapter = self.adapter(generation.model.as_deref())?;
        // What is told again comes all at once.
        let again: usize = origin.said.iter().map(Vec::len).sum();
        let (sender, events) = mpsc::channel(limits::ANSWER_PIECES_MAX + again);
        let mut said = origin.said.into_iter();
        let overrun = Arc::new(AtomicBool::new(false));
        let open = questions.len() * generation.n;
        let mut tickets = Vec::with_capacity(questions.len());
        for (number, question) in questions.into_iter().enumerate() {
            let mut request = request(question, generation, adapter.clone());
            // Two questions that are the same get answers that are not.
            let drawn = origin.drawn.map(|seed| seed.wrapping_add(number as u64));
            request.sampling.seed = request.sampling.seed.or(drawn);
            request.said = said.by_ref().take(generation.n).collect();
            let (sender, overrun) = (sender.clone(), overrun.clone());
            let ticket = self.engine.generate(request, move |event| {
                let sent = sender.try_send((number, event));
                if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
                    overrun.store(true, Ordering::Release);
                }
                sent.is_ok() && !overrun.load(Ordering::Acquire)
            });
            tickets.push(ticket.map_err(|error| self.explained(error))?);
        }
        Ok(Job { events, tickets, overrun, open })
    }

    /// The engine's refusal, with the field at fault where it is clear.
    fn explained(&self, error: Error) -> Error {
        if error.code() == Code::ModelNotFound { error.about("model") } else { error }
    }
}

impl Job {
    /// What is heard next.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if self.open == 0 {
            return Poll::Ready(Heard::End);
        }
        let heard = match self.events.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(heard) => heard,
        };
        Poll::Ready(match heard {
            Some((_, Event::Failed(error))) => self.fail(error),
            // Its last word may find room again, once the client reads after all.
            Some((_, Event::Done { reason: FinishReason::Cancelled, .. }))
                if self.overrun.load(Ordering::Acquire) =>
            {
                self.fail(not_read())
            }
            Some((number, event)) => {
                if matches!(event, Event::Done { .. }) {
                    self.open -= 1;
                }
                Heard::Event(number, event)
            }
            None if self.overrun.load(Ordering::Acquire) => self.fail(not_read()),
            None => self.fail(Error::new(Code::Unavailable, "the engine ended before the answer did")),
        })
    }

    /// What is heard next.
    pub(super) async fn next(&mut self) -> Heard {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn fail(&mut self, error: Error) -> Heard {
        self.open = 0;
        self.tickets.clear();
        Heard::Failed(error)
    }
}

fn not_read() -> Error {
    Error::new(Code::DeadlineExceeded, "the answer was not read as fast as it was written")
        .hint("Read the stream while it is sent.")
}

fn request(question: Question, generation: &Generation, adapter: Option<String>) -> Request {
    let sampling = &generation.sampling;
    let echo_logprobs = question.echo.then_some(generation.logprobs).flatten();
    Request {
        prompt: question.tokens,
        n: generation.n,
        sampling: Sampling {
            temperature: sampling.temperature.unwrap_or(1.0),
            top_k: sampling.top_k.unwrap_or(0),
            // Nothing at all is never left to draw from: the likeliest token always is.
            top_p: sampling.top_p.unwrap_or(1.0).max(f32::MIN_POSITIVE),
            min_p: sampling.min_p.unwrap_or(0.0),
            repetition_penalty: sampling.repetition_penalty.unwrap_or(1.0),
            frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
            presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
            seed: sampling.seed,
            logit_bias: sampling.logit_bias.clone(),
        },
        stop: generation.stop.clone(),
        stop_tokens: generation.stop_tokens.clone(),
        ignore_eos: generation.ignore_eos,
        max_tokens: generation.max_tokens,
        min_tokens: generation.min_tokens,
        constraint: question.constraint,
        adapter,
        tenant: generation.user.as_deref().unwrap_or_default().chars().take(TENANT_CHARS_MAX).collect(),
        // The protocol's lower values go first, the engine's higher ones.
        priority: generation.priority.saturating_neg().clamp(-100, 100),
        deadline: Instant::now().checked_add(Duration::from_secs(limits::GENERATION_SECONDS_MAX)),
        logprobs: generation.logprobs,
        echo: question.echo,
        prompt_logprobs: echo_logprobs,
        ..Request::default()
    }
}
