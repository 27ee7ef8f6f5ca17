//! The events of a streamed answer, as they arrive.

use std::time::Duration;

use serde_json::Value;

use super::tally::Streamed;

/// Bytes of one event at most; a longer one ends the reading.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Reads server-sent events of an answer and notes when tokens came.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    last: Option<Duration>,
    streamed: Streamed,
    /// Tokens as the server counts them, when it does.
    counted: Option<u64>,
    error: Option<String>,
    ended: bool,
}

impl Events {
    /// Takes bytes that arrived `at`, from when the request was sent.
    pub(super) fn take(&mut self, bytes: &[u8], at: Duration) {
        for byte in bytes {
            match byte {
                b'\n' => self.line_ended(at),
                _ if self.line.len() < EVENT_BYTES_MAX => self.line.push(*byte),
                _ => self.error = Some("an event is too long".to_owned()),
            }
        }
    }

    fn line_ended(&mut self, at: Duration) {
        let line = std::mem::take(&mut self.line);
        let Some(data) = line.trim_ascii().strip_prefix(b"data:") else { return };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.ended = true;
            return;
        }
        let Ok(event) = serde_json::from_slice::<Value>(data) else {
            self.error = Some("an event is not JSON".to_owned());
            return;
        };
        if let Some(error) = event.get("error") {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("an error in the stream");
            self.error = Some(message.to_owned());
        }
        if let Some(tokens) = event.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
            self.counted = Some(tokens);
        }
        if has_text(&event) {
            match self.last.replace(at) {
                None => self.streamed.first = Some(at),
                Some(last) => self.streamed.gaps.push(at.saturating_sub(last)),
            }
            self.streamed.tokens += 1;
        }
    }

    /// What was heard once the answer has ended.
    ///
    /// # Errors
    /// What the server said went wrong, or that the answer broke off.
    pub(super) fn end(mut self) -> Result<Streamed, String> {
        match self.error {
            Some(error) => Err(error),
            None if !self.ended => Err("the answer broke off".to_owned()),
            None => {
                // Several tokens may come in one event.
                self.streamed.tokens = self.counted.unwrap_or(self.streamed.tokens);
                Ok(self.streamed)
            }
        }
    }
}

/// Whether an event brings a piece of the answer.
fn has_text(event: &Value) -> bool {
    let Some(choice) = event.pointer("/choices/0") else { return false };
    let filled =
        |pointer| choice.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    filled("/delta/content")
        || filled("/delta/reasoning_content")
        || filled("/text")
        || choice.pointer("/delta/tool_calls").is_some()
}
