//! Whether two answers to one request say the same.

use bms_wire::oip::binary::{self, Places};
use bms_wire::oip::{Datatype, InferResponse, InferTensor};
use bytes::Bytes;
use http::Response;
use serde_json::Value;

/// Whether the outputs have the same names, types and shapes, the same labels, and numbers that lie no further apart
/// than `tolerance` and that share of the larger one. An answer that cannot be read agrees with none.
pub(super) fn tensors_agree(served: &Response<Bytes>, other: &Response<Bytes>, tolerance: f64) -> bool {
    let (Some(served), Some(other)) = (Answer::read(served), Answer::read(other)) else { return false };
    served.head.outputs.len() == other.head.outputs.len()
        && (0..served.head.outputs.len()).all(|at| {
            let tensor = &served.head.outputs[at];
            let Some(there) = other.head.outputs.iter().position(|o| o.name == tensor.name) else {
                return false;
            };
            let like = &other.head.outputs[there];
            if tensor.shape != like.shape || tensor.datatype != like.datatype {
                return false;
            }
            let values = served.values(at).zip(other.values(there));
            values.is_some_and(|(a, b)| values_agree(&a, &b, tolerance))
        })
}

/// Whether all texts that two answers of language models consist of are equal. Answers without any are compared whole,
/// as embeddings are.
pub(super) fn texts_agree(served: &[u8], other: &[u8]) -> bool {
    let read = |bytes| serde_json::from_slice::<Value>(bytes).ok();
    let (Some(served), Some(other)) = (read(served), read(other)) else { return false };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    texts(&served, &mut a);
    texts(&other, &mut b);
    match a.is_empty() && b.is_empty() {
        true => served.get("data").is_some() && served.get("data") == other.get("data"),
        false => a == b,
    }
}

/// What a language model wrote, in whichever protocol: the text below `content`, `text`, `arguments` and `name`.
fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if matches!(&**name, "content" | "text" | "arguments" | "name") => {
                        into.push(text);
                    }
                    other => texts(other, into),
                }
            }
        }
        _ => {}
    }
}

struct Answer<'a> {
    head: InferResponse,
    places: Places,
    body: &'a [u8],
}

/// The values of one tensor.
enum Values {
    Numbers(Vec<f64>),
    Exact(Vec<Vec<u8>>),
}

impl<'a> Answer<'a> {
    fn read(response: &'a Response<Bytes>) -> Option<Answer<'a>> {
        let length = response.headers().get(binary::HEADER_LENGTH);
        let length = length.map(|v| binary::header_length(v.as_bytes())).transpose().ok()?;
        let (head, places) = binary::read_response(response.body(), length).ok()?;
        Some(Answer { head, places, body: response.body() })
    }

    fn values(&self, at: usize) -> Option<Values> {
        let tensor = &self.head.outputs[at];
        match &self.places[at] {
            Some(place) => binary_values(tensor, self.body.get(place.clone())?),
            None => {
                let mut numbers = Vec::new();
                let mut exact = Vec::new();
                flatten(&tensor.data, &mut numbers, &mut exact)?;
                Some(if exact.is_empty() { Values::Numbers(numbers) } else { Values::Exact(exact) })
            }
        }
    }
}

fn flatten(value: &Value, numbers: &mut Vec<f64>, exact: &mut Vec<Vec<u8>>) -> Option<()> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| flatten(value, numbers, exact)),
        Value::Number(number) => {
            numbers.push(number.as_f64()?);
            Some(())
        }
        Value::String(text) => {
            exact.push(text.clone().into_bytes());
            Some(())
        }
        Value::Bool(truth) => {
            numbers.push(f64::from(u8::from(*truth)));
            Some(())
        }
        Value::Null | Value::Object(_) => None,
    }
}

fn binary_values(tensor: &InferTensor, bytes: &[u8]) -> Option<Values> {
    fn all<const N: usize>(bytes: &[u8], number: fn([u8; N]) -> f64) -> Option<Values> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| Values::Numbers(chunks.iter().map(|chunk| number(*chunk)).collect()))
    }
    match tensor.datatype {
        Datatype::Fp32 => all(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Datatype::Fp64 => all(bytes, f64::from_le_bytes),
        Datatype::Bytes => {
            let count =
                tensor.shape.iter().try_fold(1_usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?))?;
            let elements = binary::elements(bytes, count).ok()?;
            Some(Values::Exact(elements.into_iter().map(<[u8]>::to_vec).collect()))
        }
        // Whole numbers, truths and halves: labels above all, and those are equal or not.
        _ => Some(Values::Exact(vec![bytes.to_vec()])),
    }
}

fn values_agree(a: &Values, b: &Values, tolerance: f64) -> bool {
    match (a, b) {
        (Values::Numbers(a), Values::Numbers(b)) => {
            let near = |(x, y): (&f64, &f64)| {
                x == y || (x - y).abs() <= tolerance + tolerance * x.abs().max(y.abs())
            };
            a.len() == b.len() && a.iter().zip(b).all(near)
        }
        (Values::Exact(a), Values::Exact(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
