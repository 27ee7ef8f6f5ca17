//! `POST /v1/responses`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response as HttpResponse;
use bms_engine::lm::FinishReason;
use bms_wire::generation::Generation;
use bms_wire::openai::responses::{
    Echoed, Event, IncompleteDetails, OutputItem, OutputPart, Response, ResponseUsage, ResponsesRequest,
    Status, StreamEvent,
};
use bms_wire::openai::{ErrorEnvelope, TokenLogprob};
use bms_wire::{Error, Result};

use crate::failure::Dialect;
use crate::slot::language::assembly::{End, Open, each_step};
use crate::slot::language::job::{Job, Question};
use crate::slot::language::marks::Origin;
use crate::slot::language::reader::Piece;
use crate::slot::language::step::{News, Scored, Step, Steps};
use crate::slot::language::stream::{Events, Writer, respond};
use crate::slot::language::{Language, answered, json, now, prepared};

/// Answers with items.
pub(in crate::slot::language) async fn answer(
    State(language): State<Arc<Language>>,
    request: Request,
) -> HttpResponse {
    answered(Dialect::OpenAi, respond_to(language, request).await)
}

async fn respond_to(language: Arc<Language>, request: Request) -> Result<HttpResponse> {
    let begun = prepared(language.clone(), request, |language, body| {
        let request = ResponsesRequest::parse(body)?;
        let generation = request.generation;
        let prompt = language.prompt(&request.conversation, generation.constraint.as_ref())?;
        let steps = Steps::new(1, 1, generation.logprobs.is_some(), prompt.reading, &prompt.functions);
        let question = Question { tokens: prompt.tokens, constraint: prompt.constraint, echo: false };
        let job = language.submit(vec![question], &generation, Origin::default())?;
        Ok((job, steps, generation, request.echoed))
    });
    let (job, steps, generation, echoed) = begun.await?;
    let writer = ResponseWriter::new(&language, &generation, echoed);
    if generation.stream {
        return Ok(respond(language, job, steps, writer, None));
    }
    whole(&language, job, steps, writer).await
}

/// The whole answer is what the events of a stream add up to.
async fn whole(
    language: &Language,
    mut job: Job,
    mut steps: Steps,
    mut writer: ResponseWriter,
) -> Result<HttpResponse> {
    let mut unsent = Events::default();
    each_step(language, &mut job, &mut steps, |step| {
        writer.step(language, step, &mut unsent);
        unsent.clear();
    })
    .await?;
    writer.end(&steps, &mut unsent);
    json(&writer.response)
}

/// Writes the events of a response.
#[derive(Debug)]
struct ResponseWriter {
    response: Response,
    sequence: u64,
    /// Numbers items, so that their identifiers differ.
    items: usize,
    /// What the item that is being written is: the last one of the response.
    open: Open,
    scores: Vec<TokenLogprob>,
    end: Option<End>,
}

impl ResponseWriter {
    fn new(language: &Language, generation: &Generation, echoed: Echoed) -> Self {
        let response = Response {
            id: language.identifier("resp_"),
            object: "response".to_owned(),
            created_at: now(),
            completed_at: None,
            status: Status::InProgress,
            error: None,
            incomplete_details: None,
            model: generation.model.clone().unwrap_or_else(|| language.name.clone()),
            output: Vec::new(),
            usage: None,
            echoed,
        };
        ResponseWriter { response, sequence: 0, items: 0, open: Open::None, scores: Vec::new(), end: None }
    }

    fn send(&mut self, event: Event, out: &mut Events) {
        let name = event.name();
        out.named(name, &StreamEvent { event, sequence_number: self.sequence });
        self.sequence += 1;
    }

    fn boxed(&self) -> Box<Response> {
        Box::new(self.response.clone())
    }

    fn output_index(&self) -> usize {
        self.response.output.len().saturating_sub(1)
    }

    fn item_id(&mut self, prefix: &str) -> String {
        self.items += 1;
        format!("{prefix}_{}_{}", self.response.id.trim_start_matches("resp_"), self.items)
    }

    /// Makes the item being written one of this kind, ending another.
    fn open(&mut self, kind: Open, out: &mut Events) {
        if self.open == kind && kind != Open::Call {
            return;
        }
        self.close(Status::Completed, out);
        self.open = kind;
        let (item, part) = match kind {
            Open::None | Open::Call => return,
            Open::Thought => {
                let id = self.item_id("rs");
                let item = OutputItem::Reasoning {
                    id,
                    summary: Vec::new(),
                    content: Vec::new(),
                    status: Status::InProgress,
                };
                (item, OutputPart::ReasoningText { text: String::new() })
            }
            Open::Text => {
                let item = OutputItem::Message {
                    id: self.item_id("msg"),
                    status: Status::InProgress,
                    role: "assistant".to_owned(),
                    content: Vec::new(),
                };
                (item, text_part(String::new(), Vec::new()))
            }
        };
        let item_id = id_of(&item).to_owned();
        self.add_item(item, out);
        if let Some(content) = self.content() {
            content.push(part.clone());
        }
        let output_index = self.output_index();
        self.send(Event::PartAdded { item_id, output_index, content_index: 0, part }, out);
    }

    fn add_item(&mut self, item: OutputItem, out: &mut Events) {
        self.response.output.push(item.clone());
        let output_index = self.output_index();
        self.send(Event::ItemAdded { output_index, item }, out);
    }

    /// The parts of the item being written.
    fn content(&mut self) -> Option<&mut Vec<OutputPart>> {
        match self.response.output.last_mut()? {
            OutputItem::Message { content, .. } | OutputItem::Reasoning { content, .. } => Some(content),
            OutputItem::FunctionCall { .. } => None,
        }
    }

    /// Ends the item being written.
    fn close(&mut self, status: Status, out: &mut Events) {
        if self.open == Open::None {
            return;
        }
        self.open = Open::None;
        let output_index = self.output_index();
        let Some(item) = self.response.output.last_mut() else { return };
        set_status(item, status);
        let item = item.clone();
        let item_id = id_of(&item).to_owned();
        match &item {
            OutputItem::Message { content, .. } | OutputItem::Reasoning { content, .. } => {
                for (content_index, part) in content.iter().enumerate() {
                    let done = part_done(&item_id, output_index, content_index, part);
                    self.send(done, out);
                    let (item_id, part) = (item_id.clone(), part.clone());
                    self.send(Event::PartDone { item_id, output_index, content_index, part }, out);
                }
            }
            OutputItem::FunctionCall { name, arguments, .. } => {
                let (name, arguments) = (name.clone(), arguments.clone());
                self.send(Event::ArgumentsDone { item_id, output_index, name, arguments }, out);
            }
        }
        self.send(Event::ItemDone { output_index, item }, out);
    }

    fn piece(&mut self, language: &Language, piece: Piece, out: &mut Events) {
        match piece {
            Piece::Thought(delta) => {
                self.open(Open::Thought, out);
                if let Some(OutputPart::ReasoningText { text }) = self.content().and_then(|c| c.last_mut()) {
                    text.push_str(&delta);
                }
                let (item_id, output_index) = self.place();
                self.send(Event::ReasoningDelta { item_id, output_index, content_index: 0, delta }, out);
            }
            Piece::Text(delta) => {
                self.open(Open::Text, out);
                let scores = std::mem::take(&mut self.scores);
                if let Some(OutputPart::OutputText { text, logprobs, .. }) =
                    self.content().and_then(|c| c.last_mut())
                {
                    text.push_str(&delta);
                    logprobs.extend(scores.iter().cloned());
                }
                let (item_id, output_index) = self.place();
                let event =
                    Event::TextDelta { item_id, output_index, content_index: 0, delta, logprobs: scores };
                self.send(event, out);
            }
            Piece::CallBegins(name) => {
                self.open(Open::Call, out);
                let item = OutputItem::FunctionCall {
                    id: self.item_id("fc"),
                    call_id: language.call_identifier(),
                    name,
                    arguments: String::new(),
                    status: Status::InProgress,
                };
                self.add_item(item, out);
            }
            Piece::CallArguments(delta) => {
                if let Some(OutputItem::FunctionCall { arguments, .. }) = self.response.output.last_mut() {
                    arguments.push_str(&delta);
                }
                let (item_id, output_index) = self.place();
                self.send(Event::ArgumentsDelta { item_id, output_index, delta }, out);
            }
            Piece::CallEnds => self.close(Status::Completed, out),
        }
    }

    fn place(&self) -> (String, usize) {
        let id = self.response.output.last().map(id_of).unwrap_or_default();
        (id.to_owned(), self.output_index())
    }
}

impl Writer for ResponseWriter {
    fn begin(&mut self, out: &mut Events) {
        let created = Event::Created { response: self.boxed() };
        self.send(created, out);
        let in_progress = Event::InProgress { response: self.boxed() };
        self.send(in_progress, out);
    }

    fn step(&mut self, language: &Language, step: Step, out: &mut Events) {
        match step.news {
            News::Prompt { .. } => {}
            News::Scored(scores) => self.scores.extend(scores.iter().map(Scored::for_chat)),
            News::Piece(piece) => self.piece(language, piece, out),
            News::Done { reason, called, tokens } => self.end = Some(End { reason, called, tokens }),
        }
    }

    fn end(&mut self, steps: &Steps, out: &mut Events) {
        let length = self.end.as_ref().is_some_and(|end| end.reason == FinishReason::Length);
        let status = if length { Status::Incomplete } else { Status::Completed };
        if self.response.output.is_empty() {
            self.open(Open::Text, out);
        }
        self.close(status, out);
        self.response.status = status;
        self.response.completed_at = Some(now());
        if length {
            self.response.incomplete_details =
                Some(IncompleteDetails { reason: "max_output_tokens".to_owned() });
        }
        let tokens = self.end.as_ref().map(|end| end.tokens).unwrap_or_default();
        self.response.usage = Some(ResponseUsage::of(tokens, steps.thought_tokens(0)));
        let response = self.boxed();
        let event = if length { Event::Incomplete { response } } else { Event::Completed { response } };
        self.send(event, out);
    }

    fn fail(&mut self, error: &Error, out: &mut Events) {
        self.response.status = Status::Failed;
        self.response.error = Some(ErrorEnvelope::from(error).error);
        let failed = Event::Failed { response: self.boxed() };
        self.send(failed, out);
    }
}

fn text_part(text: String, logprobs: Vec<TokenLogprob>) -> OutputPart {
    OutputPart::OutputText { text, annotations: Vec::new(), logprobs }
}

fn part_done(item_id: &str, output_index: usize, content_index: usize, part: &OutputPart) -> Event {
    let item_id = item_id.to_owned();
    match part.clone() {
        OutputPart::OutputText { text, logprobs, .. } => {
            Event::TextDone { item_id, output_index, content_index, text, logprobs }
        }
        OutputPart::ReasoningText { text } => {
            Event::ReasoningDone { item_id, output_index, content_index, text }
        }
    }
}

fn id_of(item: &OutputItem) -> &str {
    match item {
        OutputItem::Message { id, .. }
        | OutputItem::FunctionCall { id, .. }
        | OutputItem::Reasoning { id, .. } => id,
    }
}

fn set_status(item: &mut OutputItem, new: Status) {
    match item {
        OutputItem::Message { status, .. }
        | OutputItem::FunctionCall { status, .. }
        | OutputItem::Reasoning { status, .. } => *status = new,
    }
}
