//! Questions and answers in plain form: a picture, a text, a recording or a file as the body, and what the pipeline makes
//! of it as JSON, or drawn into the picture.

use bms_engine::{Answer, Engine, Input};
use bms_wire::{Code, Error, Outcome, Outcomes, Result, oip::binary};
use http::{HeaderMap, HeaderName, header};

use super::Written;

/// In which form a request comes, and in which the answer shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// The body is what the model is asked about.
    pub(super) brings_plain: bool,
    /// The answer shall be drawn.
    pub(super) wants_picture: bool,
}

impl Manner {
    /// As the headers say: a type of media other than JSON is one thing, unless it comes with tensors in binary form.
    pub(super) fn of(headers: &HeaderMap) -> Manner {
        let kind =
            |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence =
            kind(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_media = ["image/", "audio/", "text/"].iter().any(|family| essence.starts_with(family))
            || essence == "application/octet-stream";
        let accepts = kind(header::ACCEPT).split(',').next().unwrap_or_default();
        let first = accepts.split(';').next().unwrap_or_default().trim();
        Manner {
            brings_plain: is_media && !headers.contains_key(binary::HEADER_LENGTH),
            wants_picture: first.eq_ignore_ascii_case("image/png"),
        }
    }

    /// Whether the answer is in plain form.
    pub(super) fn is_plain(self) -> bool {
        self.brings_plain || self.wants_picture
    }
}

/// The one picture of a request whose answer shall be drawn into it.
pub(super) fn one_picture(input: &Input) -> Result<Vec<u8>> {
    match input {
        Input::Images(pictures) if pictures.len() == 1 => Ok(pictures[0].clone()),
        _ => Err(Error::new(
            Code::NotSupported,
            "an answer is drawn into one picture, which the request does not bring",
        )
        .hint("Send one picture, or ask for JSON: `Accept: application/json`.")),
    }
}

/// Numbers and texts in an outcome.
pub(super) fn numbers(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Labels { labels } => labels.len(),
        Outcome::Vector { vector } => vector.len(),
        Outcome::Boxes { boxes, .. } => 6 * boxes.len(),
        Outcome::Line { text, .. } => text.len(),
        Outcome::Lines { text, lines, .. } => text.len() + 9 * lines.len(),
        Outcome::Speech { segments, probabilities, .. } => 2 * segments.len() + probabilities.len(),
    }
}

/// The answer in plain form.
pub(super) fn write(
    engine: &Engine,
    answer: Answer,
    version: Option<String>,
    picture: Option<Vec<u8>>,
) -> Result<Written> {
    let name = &engine.describe().name;
    let outcomes = answer.into_outcomes().ok_or_else(|| {
        let what = format!("the pipeline of `{name}` makes nothing of its output tensors");
        Error::new(Code::NotSupported, what)
            .hint("Send a request of the Open Inference Protocol, as `application/json`.")
    })?;
    if let Some(picture) = picture {
        let nothing = || Error::new(Code::Internal, "there is no outcome");
        let body = bms_engine::drawn(&picture, outcomes.first().ok_or_else(nothing)?)?;
        return Ok(Written { body, head_bytes: None, kind: "image/png" });
    }
    let document = Outcomes { model_name: name.clone(), model_version: version, outcomes };
    let body = serde_json::to_vec(&document)
        .map_err(|e| Error::new(Code::Internal, "the answer cannot be written as JSON").because(e))?;
    Ok(Written { body, head_bytes: None, kind: "application/json" })
}

#[cfg(test)]
mod tests;
