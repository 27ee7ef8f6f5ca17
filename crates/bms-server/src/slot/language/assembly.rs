//! A whole answer, put together from its steps.

use bms_engine::lm::FinishReason;
use bms_wire::conversation::ToolCall;
use bms_wire::generation::Tokens;
use bms_wire::{Code, Error, Result};

use super::Language;
use super::job::{Heard, Job};
use super::reader::{Form, Piece};
use super::step::{News, Scored, Step, Steps};

/// One answer so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    /// The prompt's text and tokens, when the answer repeats it.
    pub(super) prompt: Option<(String, Vec<Scored>)>,
    pub(super) thought: String,
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) scores: Vec<Scored>,
    pub(super) thought_tokens: usize,
    pub(super) end: Option<End>,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) reason: FinishReason,
    pub(super) called: bool,
    pub(super) tokens: Tokens,
}

impl Assembly {
    /// Adds what is new.
    pub(super) fn add(&mut self, language: &Language, news: News) {
        match news {
            News::Prompt { text, tokens } => self.prompt = Some((text, tokens)),
            News::Scored(scores) => self.scores.extend(scores),
            News::Piece(Piece::Thought(text)) => self.thought.push_str(&text),
            News::Piece(Piece::Text(text)) => self.text.push_str(&text),
            News::Piece(Piece::CallBegins(name)) => {
                self.calls.push(ToolCall { id: language.call_identifier(), name, arguments: String::new() });
            }
            News::Piece(Piece::CallArguments(text)) => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(&text);
                }
            }
            News::Piece(Piece::CallEnds) => {}
            News::Done { reason, called, tokens } => self.end = Some(End { reason, called, tokens }),
        }
    }
}

impl Language {
    /// An identifier for a call. Mistral's templates take nothing but nine letters and digits.
    pub(super) fn call_identifier(&self) -> String {
        match self.form {
            Form::Mistral => {
                let number = self.answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                format!("{:09x}", number & 0xf_ffff_ffff)
            }
            Form::Hermes | Form::Llama => self.identifier("call_"),
        }
    }
}

/// Waits for all answers of a job.
///
/// # Errors
/// The job's failure, and [`Code::DeadlineExceeded`] when an answer took too long.
pub(super) async fn collect(language: &Language, mut job: Job, mut steps: Steps) -> Result<Vec<Assembly>> {
    let mut answers = vec![Assembly::default(); steps.answers()];
    each_step(language, &mut job, &mut steps, |Step { index, news }| {
        if let Some(answer) = answers.get_mut(index) {
            answer.add(language, news);
        }
    })
    .await?;
    for (index, answer) in answers.iter_mut().enumerate() {
        answer.thought_tokens = steps.thought_tokens(index);
    }
    Ok(answers)
}

/// Hands over all that a job brings, step by step, until its end.
///
/// # Errors
/// As [`collect`].
pub(super) async fn each_step(
    language: &Language,
    job: &mut Job,
    steps: &mut Steps,
    mut take: impl FnMut(Step),
) -> Result<()> {
    let mut news = Vec::new();
    loop {
        match job.next().await {
            Heard::Event(number, event) => steps.read(language, number, event, &mut news),
            Heard::Failed(error) => return Err(error),
            Heard::End => return Ok(()),
        }
        for step in news.drain(..) {
            check_end(&step.news)?;
            take(step);
        }
    }
}

/// What an answer written item by item is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    None,
    Thought,
    Text,
    Call,
}

/// Refuses an end that is no answer.
pub(super) fn check_end(news: &News) -> Result<()> {
    match news {
        News::Done { reason: FinishReason::Deadline, .. } => {
            Err(Error::new(Code::DeadlineExceeded, "the answer was not complete within the time allowed"))
        }
        News::Done { reason: FinishReason::Cancelled, .. } => {
            Err(Error::new(Code::Unavailable, "the answer was given up before it was complete"))
        }
        _ => Ok(()),
    }
}

/// The tokens of all answers together: a prompt counts once, whatever the number of its answers.
pub(super) fn total<'a>(ends: impl Iterator<Item = (usize, &'a End)>, n: usize) -> Tokens {
    let mut total = Tokens::default();
    for (index, end) in ends {
        if index % n == 0 {
            total.prompt += end.tokens.prompt;
            total.cached += end.tokens.cached;
        }
        total.completion += end.tokens.completion;
    }
    total
}
