//! An answer that is given again is another answer: it has an identifier and a time of its own, as clients of OpenAI's and
//! Anthropic's protocols expect. The text, its usage, and the names of called functions stay what they are.

use std::time::{SystemTime, UNIX_EPOCH};

use bms_engine::lm::fresh_seed;
use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::slots::splice;

/// How an event's data begins.
const DATA: &[u8] = b"data:";
/// Lines that say that a stream failed, whatever follows: the program's own, vLLM's and llama.cpp's.
const FAILURES: [&[u8]; 6] = [
    b"data: {\"error\"",
    b"data:{\"error\"",
    b"data: {\"object\":\"error\"",
    b"event: error",
    b"event: response.failed",
    b"error: {",
];

/// How a stream ends that is a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Ended {
    /// With the mark of OpenAI's older protocols.
    Done,
    /// With the event of Anthropic's.
    MessageStop,
    /// With one of OpenAI's newer protocol: complete, or as long as was asked for.
    Response,
}

impl Ended {
    /// Whether a stream is a whole answer.
    pub(super) fn is_good(self, stream: &[u8]) -> bool {
        let ends: &[&[u8]] = match self {
            Ended::Done => &[b"data: [DONE]", b"data:[DONE]"],
            Ended::MessageStop => &[b"event: message_stop\n"],
            Ended::Response => &[b"event: response.completed\n", b"event: response.incomplete\n"],
        };
        let text = stream.trim_ascii_end();
        let last = memmem::rfind(text, b"\n\n").map_or(text, |at| &text[at + 2..]);
        // In a text quotes and line breaks are escaped: what begins a line is an event's.
        let fails =
            |line: &&[u8]| memmem::find_iter(stream, *line).any(|at| at == 0 || stream[at - 1] == b'\n');
        ends.iter().any(|end| last.starts_with(end)) && !FAILURES.iter().any(fails)
    }
}

/// What stands in an answer in place of what.
#[derive(Debug)]
pub(in crate::gateway) struct Renewal(Vec<(Bytes, Bytes)>);

impl Renewal {
    /// For a document.
    pub(in crate::gateway) fn of_document(document: &[u8]) -> Renewal {
        let mut instead = Vec::new();
        if let Some(range) = splice::field(document, "id") {
            instead.extend(identifier(&document[range]));
        }
        for name in ["created", "created_at", "completed_at"] {
            if let Some(range) = splice::field(document, name) {
                instead.extend(time(document, name, range));
            }
        }
        Renewal(instead)
    }

    /// For a stream, by its first events; `None` when none of them is a document.
    pub(in crate::gateway) fn of_stream(events: &[u8]) -> Option<Renewal> {
        let mut lines = events.split(|byte| *byte == b'\n');
        let document = lines.find_map(|line| {
            let data = line.strip_prefix(DATA)?.trim_ascii();
            data.starts_with(b"{").then_some(data)
        })?;
        let inner = ["response", "message"].into_iter().find_map(|name| splice::field(document, name));
        Some(Renewal::of_document(inner.map_or(document, |range| &document[range])))
    }

    /// The answer, or some of its events, with what is new.
    pub(in crate::gateway) fn apply(&self, answer: &[u8]) -> Bytes {
        let mut out = BytesMut::from(answer);
        for (old, new) in &self.0 {
            let mut with = BytesMut::with_capacity(out.len() + new.len());
            let mut from = 0;
            for at in memmem::find_iter(&out, old) {
                let end = at + old.len();
                // A longer number is another one.
                if out.get(end).is_some_and(u8::is_ascii_digit) {
                    continue;
                }
                with.extend_from_slice(&out[from..at]);
                with.extend_from_slice(new);
                from = end;
            }
            with.extend_from_slice(&out[from..]);
            out = with;
        }
        out.freeze()
    }
}

/// Another identifier of the same kind, in place of this one with its quotes: in a text it cannot stand like that.
fn identifier(old: &[u8]) -> Option<(Bytes, Bytes)> {
    let name = old.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if name.is_empty() {
        return None;
    }
    let kind = name.iter().position(|byte| matches!(byte, b'-' | b'_')).map_or(0, |at| at + 1);
    let kind = String::from_utf8_lossy(&name[..kind]);
    let new = format!("\"{kind}{:016x}{:016x}\"", fresh_seed(), fresh_seed());
    Some((Bytes::copy_from_slice(old), new.into()))
}

/// The present in place of a time, with the name of the field.
fn time(document: &[u8], name: &str, value: std::ops::Range<usize>) -> Option<(Bytes, Bytes)> {
    let name = format!("\"{name}\"");
    let from = memmem::rfind(&document[..value.start], name.as_bytes())?;
    if value.is_empty() || !document[value.clone()].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let old = Bytes::copy_from_slice(&document[from..value.end]);
    let new = [&document[from..value.start], now.to_string().as_bytes()].concat();
    Some((old, new.into()))
}

#[cfg(test)]
mod tests;
