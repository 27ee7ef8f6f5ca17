//! The protocol both kinds of partner speak: a streamed chat completion.

use std::time::Instant;

use bms_wire::conversation::Message;
use bms_wire::openai::{ChatChunk, ErrorEnvelope, FinishReason};
use bms_wire::{Code, Error, Result};
use serde_json::{Value, json};

use super::partner::{Manner, Outcome, Said};

/// Where chats are answered.
pub(super) const PATH: &str = "/v1/chat/completions";

/// A request.
pub(super) fn body(model: &str, messages: &[Message], manner: &Manner) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|message| json!({ "role": message.role, "content": message.content })).collect();
    let mut body = json!({
        "model": model, "messages": messages, "stream": true, "stream_options": { "include_usage": true },
        "temperature": manner.temperature, "top_p": manner.top_p,
    });
    // Other servers need not know the options that OpenAI's own does not.
    let mut set = |name: &str, value: Value, differs: bool| {
        if differs {
            body[name] = value;
        }
    };
    set("top_k", json!(manner.top_k), manner.top_k != 0);
    set("min_p", json!(manner.min_p), manner.min_p != 0.0);
    set("repetition_penalty", json!(manner.repetition_penalty), manner.repetition_penalty != 1.0);
    set("seed", json!(manner.seed), manner.seed.is_some());
    set("max_tokens", json!(manner.max_tokens), manner.max_tokens.is_some());
    set("stop", json!(manner.stop), !manner.stop.is_empty());
    body
}

/// Follows an answer, line by line.
#[derive(Debug)]
pub(super) struct Following {
    began: Instant,
    outcome: Outcome,
}

impl Following {
    /// From now on.
    pub(super) fn begin() -> Self {
        Following { began: Instant::now(), outcome: Outcome::default() }
    }

    /// Takes a line of the stream.
    ///
    /// # Errors
    /// The error the stream ends with.
    pub(super) fn line(&mut self, line: &str, say: &mut dyn FnMut(Said<'_>)) -> Result<()> {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(()) };
        if data == "[DONE]" {
            return Ok(());
        }
        let chunk = chunk(data)?;
        if let Some(usage) = &chunk.usage {
            self.outcome.prompt_tokens = usage.prompt_tokens;
            self.outcome.completion_tokens = usage.completion_tokens;
            self.outcome.cached_tokens = usage.prompt_tokens_details.as_ref().map_or(0, |d| d.cached_tokens);
        }
        for choice in chunk.choices {
            let texts = [
                choice.delta.reasoning_content.as_deref().map(Said::Thought),
                choice.delta.content.as_deref().filter(|text| !text.is_empty()).map(Said::Text),
            ];
            for said in texts.into_iter().flatten() {
                self.outcome.first_after.get_or_insert_with(|| self.began.elapsed());
                say(said);
            }
            if let Some(reason) = choice.finish_reason {
                reason_text(reason).clone_into(&mut self.outcome.finish_reason);
            }
        }
        Ok(())
    }

    /// How it went.
    pub(super) fn end(mut self, interrupted: bool) -> Outcome {
        if interrupted {
            "interrupted".clone_into(&mut self.outcome.finish_reason);
        }
        self.outcome.took = self.began.elapsed();
        self.outcome
    }
}

/// A piece of the answer, or the error that ends it.
fn chunk(data: &str) -> Result<ChatChunk> {
    serde_json::from_str(data).map_err(|e| match serde_json::from_str::<ErrorEnvelope>(data) {
        Ok(envelope) => envelope.into_error(Code::Unavailable),
        Err(_) => Error::new(Code::Internal, format!("a piece of the answer is no chat's: {e}")).because(e),
    })
}

fn reason_text(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}
