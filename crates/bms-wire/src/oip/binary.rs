//! The binary tensor data extension: a JSON head, and behind it the bytes of tensors.
//!
//! Source: <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>.
//! The header `Inference-Header-Content-Length` says where the JSON ends. A tensor whose parameter
//! `binary_data_size` says how long it is has no `data`; the bytes follow in the order of the tensors, little-endian,
//! row-major. Elements of `BYTES` each have four bytes of length in front.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use super::{InferRequest, InferResponse, InferTensor, Parameters, Values};
use crate::{Code, Error, Result, limits};

/// The header that says how many bytes of the body are JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// The parameter of a tensor that says how many bytes of it follow.
pub const DATA_SIZE: &str = "binary_data_size";
/// The parameter of a wanted output that asks for it in binary form.
pub const DATA: &str = "binary_data";
/// The parameter of a request that asks for all outputs in binary form.
pub const DATA_OUTPUT: &str = "binary_data_output";
/// The parameter of a wanted output that asks for its best classes.
pub const CLASSIFICATION: &str = "classification";

/// Where the bytes of each tensor lie in a body; `None` for those in JSON.
pub type Places = Vec<Option<Range<usize>>>;

/// Reads the head of a request, with values in any form they can be read in. Without a `head_bytes` all of the body is JSON.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is no request or its sizes contradict each other, [`Code::TooLarge`] when its JSON
/// is over [`limits::INFER_BODY_BYTES_MAX`].
pub fn read_request<'a, V>(body: &'a [u8], head_bytes: Option<usize>) -> Result<(InferRequest<V>, Places)>
where
    V: Deserialize<'a> + Values,
{
    let (request, rest): (InferRequest<V>, _) = head(body, head_bytes, "inference request")?;
    let places = places(&request.inputs, body.len(), rest)?;
    Ok((request, places))
}

/// Reads the head of an answer.
///
/// # Errors
/// As [`read_request`].
pub fn read_response(body: &[u8], head_bytes: Option<usize>) -> Result<(InferResponse, Places)> {
    let (response, rest): (InferResponse, _) = head(body, head_bytes, "answer to an inference request")?;
    let places = places(&response.outputs, body.len(), rest)?;
    Ok((response, places))
}

/// The number in the header.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is none.
pub fn header_length(value: &[u8]) -> Result<usize> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
        invalid(format!("`{HEADER_LENGTH}` is not a number of bytes: {:?}", String::from_utf8_lossy(value)))
    })
}

fn head<'a, T: Deserialize<'a>>(body: &'a [u8], head_bytes: Option<usize>, what: &str) -> Result<(T, usize)> {
    let length = head_bytes.unwrap_or(body.len());
    let Some(json) = body.get(..length) else {
        let has = body.len();
        return Err(invalid(format!("`{HEADER_LENGTH}` is {length}, the body has {has} bytes")));
    };
    if limits::INFER_BODY_BYTES_MAX < json.len() {
        let what = format!("{length} bytes of JSON, over the limit of {}", limits::INFER_BODY_BYTES_MAX);
        return Err(Error::new(Code::TooLarge, what).hint("Send large tensors in binary form."));
    }
    let head = serde_json::from_slice(json)
        .map_err(|e| invalid(format!("the body is not an {what}: {e}")).because(e))?;
    Ok((head, length))
}

/// Where each tensor's bytes lie, from `start` on. All of the body is used.
fn places<V: Values>(tensors: &[InferTensor<V>], end: usize, start: usize) -> Result<Places> {
    let mut at = start;
    let mut places = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = &tensor.name;
        let place = match tensor.parameters.get(DATA_SIZE) {
            None => None,
            Some(_) if !tensor.data.are_absent() => {
                return Err(invalid(format!("tensor `{name}` has both `data` and `{DATA_SIZE}`")));
            }
            Some(size) => {
                let size = size.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
                    invalid(format!("`{DATA_SIZE}` of tensor `{name}` is not a number of bytes: {size}"))
                })?;
                let stop = at.checked_add(size).filter(|stop| *stop <= end).ok_or_else(|| {
                    let left = end - at;
                    invalid(format!(
                        "tensor `{name}` has {size} bytes by its `{DATA_SIZE}`, {left} are left in the body"
                    ))
                })?;
                Some(std::mem::replace(&mut at, stop)..stop)
            }
        };
        places.push(place);
    }
    match end - at {
        0 => Ok(places),
        more => Err(invalid(format!("{more} bytes of the body belong to no tensor"))
            .hint(format!("Each tensor's `{DATA_SIZE}` says how many bytes of it follow the JSON."))),
    }
}

/// The elements of a `BYTES` tensor in binary form.
///
/// # Errors
/// [`Code::InvalidInput`] when they are not `count`, or are cut short.
pub fn elements(mut bytes: &[u8], count: usize) -> Result<Vec<&[u8]>> {
    // Every element has its length in front, so the bytes bound what is set aside.
    let mut elements = Vec::with_capacity(count.min(bytes.len() / 4));
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((element, rest)) = rest.split_at_checked(length) else {
            let what = format!(
                "element {} of a BYTES tensor has {length} bytes by its length, {} are left",
                elements.len(),
                rest.len()
            );
            return Err(Error::new(Code::InvalidInput, what));
        };
        if elements.len() == count {
            return Err(miscounted(count, "more"));
        }
        elements.push(element);
        bytes = rest;
    }
    match (bytes.is_empty(), elements.len() == count) {
        (true, true) => Ok(elements),
        (true, false) => Err(miscounted(count, &elements.len().to_string())),
        (false, _) => Err(Error::new(Code::InvalidInput, "a BYTES tensor ends within a length")),
    }
}

fn miscounted(count: usize, got: &str) -> Error {
    Error::new(Code::InvalidInput, format!("the shape asks for {count} elements, {got} came"))
}

/// Adds an element of a `BYTES` tensor; one of more than 4 GiB does not occur, since no body is that long.
pub fn push_element(into: &mut Vec<u8>, element: &[u8]) {
    into.extend_from_slice(&(element.len() as u32).to_le_bytes());
    into.extend_from_slice(element);
}

/// A parameter that is true or false.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is something else.
pub fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(invalid(format!("parameter `{name}` is true or false, not {other}"))),
    }
}

/// A parameter that is a number, none negative.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is something else.
pub fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>> {
    match parameters.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| invalid(format!("parameter `{name}` is a whole number, not {value}"))),
    }
}

fn invalid(what: String) -> Error {
    Error::new(Code::InvalidRequest, what)
}

#[cfg(test)]
mod tests;
