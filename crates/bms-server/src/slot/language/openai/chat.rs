//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bms_wire::generation::Generation;
use bms_wire::openai::{
    AnsweredMessage, CallDelta, ChatChoice, ChatChunk, ChatCompletion, ChatRequest, ChunkChoice, Delta,
    ErrorEnvelope, FunctionDelta, TokenLogprob, TokenLogprobs, Usage,
};
use bms_wire::{Error, Result};

use super::finish_reason;
use crate::failure::Dialect;
use crate::slot::language::assembly::{Assembly, End, collect, total};
use crate::slot::language::job::{Job, Question};
use crate::slot::language::marks::{self, Marks, Name};
use crate::slot::language::reader::Piece;
use crate::slot::language::step::{News, Scored, Step, Steps};
use crate::slot::language::stream::{Events, Writer, respond};
use crate::slot::language::{Language, answered, json};

/// Answers a chat.
pub(in crate::slot::language) async fn answer(
    State(language): State<Arc<Language>>,
    request: Request,
) -> Response {
    answered(Dialect::OpenAi, chat(language, request).await)
}

async fn chat(language: Arc<Language>, request: Request) -> Result<Response> {
    let begun = marks::prepared(language.clone(), request, |language, body, asked| {
        let request = ChatRequest::parse(body)?;
        let generation = request.generation;
        let prompt = language.prompt(&request.conversation, generation.constraint.as_ref())?;
        let wants_scores = generation.logprobs.is_some();
        let steps = Steps::new(1, generation.n, wants_scores, prompt.reading, &prompt.functions);
        let question = Question { tokens: prompt.tokens, constraint: prompt.constraint, echo: false };
        let name = asked.name(language, "chatcmpl-");
        let mut marks = asked.marks(&name, &generation, steps.answers())?;
        let origin = marks.as_mut().map(Marks::origin).unwrap_or_default();
        let job = language.submit(vec![question], &generation, origin)?;
        Ok((job, steps, generation, name, marks))
    });
    let (job, steps, generation, name, marks) = begun.await?;
    let head = Head::new(&language, &generation, name);
    if generation.stream {
        let writer = ChatWriter::new(head, &generation);
        return Ok(respond(language, job, steps, writer, marks));
    }
    whole(&language, job, steps, head, &generation).await
}

async fn whole(
    language: &Language,
    job: Job,
    steps: Steps,
    head: Head,
    generation: &Generation,
) -> Result<Response> {
    let answers = collect(language, job, steps).await?;
    let ends = answers.iter().enumerate().filter_map(|(index, answer)| Some((index, answer.end.as_ref()?)));
    let usage = total(ends, generation.n).into();
    let wants_scores = generation.logprobs.is_some();
    let choices =
        answers.into_iter().enumerate().map(|(index, answer)| choice(index, answer, wants_scores)).collect();
    json(&ChatCompletion {
        id: head.id,
        object: "chat.completion".to_owned(),
        created: head.created,
        model: head.model,
        choices,
        usage,
    })
}

fn choice(index: usize, answer: Assembly, wants_scores: bool) -> ChatChoice {
    let called = !answer.calls.is_empty();
    let message = AnsweredMessage {
        role: "assistant".to_owned(),
        content: (!answer.text.is_empty() || !called).then_some(answer.text),
        reasoning_content: (!answer.thought.is_empty()).then_some(answer.thought),
        tool_calls: answer.calls.into_iter().map(Into::into).collect(),
        refusal: None,
    };
    ChatChoice {
        index,
        message,
        logprobs: wants_scores.then(|| logprobs(&answer.scores)),
        finish_reason: answer.end.as_ref().map_or(bms_wire::openai::FinishReason::Length, finish_reason),
    }
}

fn logprobs(scores: &[Scored]) -> TokenLogprobs {
    TokenLogprobs { content: scores.iter().map(Scored::for_chat).collect() }
}

/// What all pieces of one answer carry.
#[derive(Clone, Debug)]
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn new(language: &Language, generation: &Generation, name: Name) -> Self {
        let model = generation.model.clone().unwrap_or_else(|| language.name.clone());
        Head { id: name.id, created: name.created, model }
    }
}

/// Writes a streamed chat.
#[derive(Debug)]
struct ChatWriter {
    head: Head,
    include_usage: bool,
    answers: Vec<Streamed>,
}

/// What has been written of one answer.
#[derive(Clone, Debug, Default)]
struct Streamed {
    calls: usize,
    /// Log probabilities whose text is still to come.
    scores: Vec<TokenLogprob>,
    end: Option<End>,
}

impl ChatWriter {
    fn new(head: Head, generation: &Generation) -> Self {
        let answers = vec![Streamed::default(); generation.n];
        ChatWriter { head, include_usage: generation.include_usage, answers }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> ChatChunk {
        ChatChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            choices,
            usage,
        }
    }

    fn delta(&mut self, index: usize, delta: Delta, end: Option<&End>, out: &mut Events) {
        let scores = std::mem::take(&mut self.answers[index].scores);
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: (!scores.is_empty()).then_some(TokenLogprobs { content: scores }),
            finish_reason: end.map(finish_reason),
        };
        out.data(&self.chunk(vec![choice], None));
    }

    fn call_delta(&mut self, index: usize, call: CallDelta, out: &mut Events) {
        self.delta(index, Delta { tool_calls: vec![call], ..Delta::default() }, None, out);
    }

    fn piece(&mut self, language: &Language, index: usize, piece: Piece, out: &mut Events) {
        match piece {
            Piece::Thought(text) => {
                self.delta(index, Delta { reasoning_content: Some(text), ..Delta::default() }, None, out);
            }
            Piece::Text(text) => {
                self.delta(index, Delta { content: Some(text), ..Delta::default() }, None, out);
            }
            Piece::CallBegins(name) => {
                let call = CallDelta {
                    index: self.answers[index].calls,
                    id: Some(language.call_identifier()),
                    kind: Some("function".to_owned()),
                    function: FunctionDelta { name: Some(name), arguments: String::new() },
                };
                self.answers[index].calls += 1;
                self.call_delta(index, call, out);
            }
            Piece::CallArguments(arguments) => {
                let call = CallDelta {
                    index: self.answers[index].calls.saturating_sub(1),
                    id: None,
                    kind: None,
                    function: FunctionDelta { name: None, arguments },
                };
                self.call_delta(index, call, out);
            }
            Piece::CallEnds => {}
        }
    }
}

impl Writer for ChatWriter {
    fn begin(&mut self, out: &mut Events) {
        for index in 0..self.answers.len() {
            let role = Delta {
                role: Some("assistant".to_owned()),
                content: Some(String::new()),
                ..Delta::default()
            };
            self.delta(index, role, None, out);
        }
    }

    fn step(&mut self, language: &Language, step: Step, out: &mut Events) {
        let Step { index, news } = step;
        if self.answers.len() <= index {
            return;
        }
        match news {
            News::Prompt { .. } => {}
            News::Scored(scores) => self.answers[index].scores.extend(scores.iter().map(Scored::for_chat)),
            News::Piece(piece) => self.piece(language, index, piece, out),
            News::Done { reason, called, tokens } => {
                let end = End { reason, called, tokens };
                self.delta(index, Delta::default(), Some(&end), out);
                self.answers[index].end = Some(end);
            }
        }
    }

    fn end(&mut self, _: &Steps, out: &mut Events) {
        if self.include_usage {
            let ends = self.answers.iter().enumerate();
            let ends = ends.filter_map(|(index, answer)| Some((index, answer.end.as_ref()?)));
            let usage = total(ends, self.answers.len()).into();
            out.data(&self.chunk(Vec::new(), Some(usage)));
        }
        out.done();
    }

    fn fail(&mut self, error: &Error, out: &mut Events) {
        out.data(&ErrorEnvelope::from(error));
        out.done();
    }
}
