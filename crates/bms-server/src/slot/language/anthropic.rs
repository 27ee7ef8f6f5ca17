//! Anthropic's protocol: `POST /v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bms_engine::lm::FinishReason;
use bms_wire::anthropic::{
    Block, BlockDelta, ErrorEnvelope, Event, Message, MessageEnd, MessagesRequest, StopReason, TokenCount,
    Usage,
};
use bms_wire::generation::Tokens;
use bms_wire::{Error, Result};
use serde_json::json;

use super::assembly::{Assembly, End, Open, collect};
use super::job::Question;
use super::marks::Origin;
use super::reader::Piece;
use super::step::{News, Step, Steps};
use super::stream::{Events, Writer, respond};
use super::{Language, answered, json as json_answer, prepared};
use crate::failure::Dialect;

/// Answers a conversation.
pub(super) async fn answer(State(language): State<Arc<Language>>, request: Request) -> Response {
    answered(Dialect::Anthropic, message(language, request).await)
}

/// Counts the tokens a conversation has.
pub(super) async fn count(State(language): State<Arc<Language>>, request: Request) -> Response {
    let counted = prepared(language, request, |language, body| {
        let request = MessagesRequest::parse_for_count(body)?;
        language.adapter(request.generation.model.as_deref())?;
        let prompt = language.prompt(&request.conversation, None)?;
        Ok(TokenCount { input_tokens: prompt.tokens.len() })
    });
    answered(Dialect::Anthropic, counted.await.and_then(|count| json_answer(&count)))
}

async fn message(language: Arc<Language>, request: Request) -> Result<Response> {
    let begun = prepared(language.clone(), request, |language, body| {
        let request = MessagesRequest::parse(body)?;
        let generation = request.generation;
        let prompt = language.prompt(&request.conversation, generation.constraint.as_ref())?;
        let steps = Steps::new(1, 1, false, prompt.reading, &prompt.functions);
        let prompt_tokens = prompt.tokens.len();
        let question = Question { tokens: prompt.tokens, constraint: prompt.constraint, echo: false };
        let job = language.submit(vec![question], &generation, Origin::default())?;
        Ok((job, steps, generation, prompt_tokens))
    });
    let (job, steps, generation, prompt_tokens) = begun.await?;
    let model = generation.model.clone().unwrap_or_else(|| language.name.clone());
    let empty = Message {
        id: language.identifier("msg_"),
        kind: "message".to_owned(),
        role: "assistant".to_owned(),
        model,
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        // What is shared with earlier requests is known at the end only.
        usage: Tokens { prompt: prompt_tokens, cached: 0, completion: 0 }.into(),
    };
    if generation.stream {
        return Ok(respond(
            language,
            job,
            steps,
            MessageWriter { empty, index: 0, open: Open::None, end: None },
            None,
        ));
    }
    let answer = collect(&language, job, steps).await?.pop().unwrap_or_default();
    json_answer(&whole(empty, answer))
}

fn whole(empty: Message, answer: Assembly) -> Message {
    let mut content = Vec::new();
    if !answer.thought.is_empty() {
        content.push(Block::Thinking { thinking: answer.thought, signature: String::new() });
    }
    if !answer.text.is_empty() || answer.calls.is_empty() {
        content.push(Block::Text { text: answer.text });
    }
    content.extend(answer.calls.into_iter().map(|call| Block::ToolUse {
        id: call.id,
        name: call.name,
        // A call that was cut off at the limit of tokens has no whole arguments.
        input: serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({})),
    }));
    let end = answer.end.as_ref().map(message_end);
    let (stop_reason, stop_sequence) = end.map_or((None, None), |end| (end.stop_reason, end.stop_sequence));
    let usage = answer.end.map_or(empty.usage, |end| end.tokens.into());
    Message { content, stop_reason, stop_sequence, usage, ..empty }
}

fn message_end(end: &End) -> MessageEnd {
    let (stop_reason, stop_sequence) = match &end.reason {
        FinishReason::Length | FinishReason::Cancelled | FinishReason::Deadline => {
            (StopReason::MaxTokens, None)
        }
        _ if end.called => (StopReason::ToolUse, None),
        FinishReason::StopString(stop) => (StopReason::StopSequence, Some(stop.clone())),
        FinishReason::Stop => (StopReason::EndTurn, None),
    };
    MessageEnd { stop_reason: Some(stop_reason), stop_sequence }
}

/// Writes a streamed message.
#[derive(Debug)]
struct MessageWriter {
    empty: Message,
    /// The block that is being written, or the next one.
    index: usize,
    open: Open,
    end: Option<End>,
}

impl MessageWriter {
    fn send(&self, event: &Event, out: &mut Events) {
        out.named(event.name(), event);
    }

    fn open(&mut self, kind: Open, block: Block, out: &mut Events) {
        if self.open == kind && kind != Open::Call {
            return;
        }
        self.close(out);
        self.open = kind;
        self.send(&Event::ContentBlockStart { index: self.index, content_block: block }, out);
    }

    fn close(&mut self, out: &mut Events) {
        if self.open != Open::None {
            self.send(&Event::ContentBlockStop { index: self.index }, out);
            self.open = Open::None;
            self.index += 1;
        }
    }

    fn delta(&self, delta: BlockDelta, out: &mut Events) {
        self.send(&Event::ContentBlockDelta { index: self.index, delta }, out);
    }

    fn piece(&mut self, language: &Language, piece: Piece, out: &mut Events) {
        match piece {
            Piece::Thought(thinking) => {
                let block = Block::Thinking { thinking: String::new(), signature: String::new() };
                self.open(Open::Thought, block, out);
                self.delta(BlockDelta::ThinkingDelta { thinking }, out);
            }
            Piece::Text(text) => {
                self.open(Open::Text, Block::Text { text: String::new() }, out);
                self.delta(BlockDelta::TextDelta { text }, out);
            }
            Piece::CallBegins(name) => {
                let id = language.call_identifier();
                self.open(Open::Call, Block::ToolUse { id, name, input: json!({}) }, out);
            }
            Piece::CallArguments(partial_json) => {
                self.delta(BlockDelta::InputJsonDelta { partial_json }, out);
            }
            Piece::CallEnds => self.close(out),
        }
    }
}

impl Writer for MessageWriter {
    fn begin(&mut self, out: &mut Events) {
        self.send(&Event::MessageStart { message: self.empty.clone() }, out);
    }

    fn step(&mut self, language: &Language, step: Step, out: &mut Events) {
        match step.news {
            News::Prompt { .. } | News::Scored(_) => {}
            News::Piece(piece) => self.piece(language, piece, out),
            News::Done { reason, called, tokens } => self.end = Some(End { reason, called, tokens }),
        }
    }

    fn end(&mut self, _: &Steps, out: &mut Events) {
        if self.index == 0 && self.open == Open::None {
            self.open(Open::Text, Block::Text { text: String::new() }, out);
        }
        self.close(out);
        let delta = self.end.as_ref().map(message_end);
        let delta = delta.unwrap_or(MessageEnd { stop_reason: None, stop_sequence: None });
        let usage: Usage = self.end.as_ref().map(|end| end.tokens.into()).unwrap_or_default();
        self.send(&Event::MessageDelta { delta, usage }, out);
        self.send(&Event::MessageStop, out);
    }

    fn fail(&mut self, error: &Error, out: &mut Events) {
        self.send(&Event::Error { error: ErrorEnvelope::from(error).error }, out);
    }

    fn keep_alive(&self, out: &mut Events) {
        self.send(&Event::Ping, out);
    }
}
