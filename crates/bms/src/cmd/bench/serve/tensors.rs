//! A request of the Open Inference Protocol in its three forms: JSON, with tensors as bytes, and as a message of gRPC.

use bms_wire::oip::{Datatype, binary};
use bms_wire::{Code, Error, Result};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde_json::{Value, json};

use super::work::Ask;

/// `ModelInferRequest` of `grpc_service.proto`, as far as it is used here.
///
/// Source: <https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto>.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InferMessage {
    #[prost(string, tag = "1")]
    pub(super) model_name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) inputs: Vec<InputMessage>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(super) raw_input_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InputMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
}

/// An input whose values are bytes.
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    bytes: Bytes,
}

/// The request with its tensors behind a JSON head.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is no request, [`Code::NotSupported`] for values that have no bytes here.
pub(super) fn binary(request: &Value) -> Result<Ask> {
    let inputs = inputs(request)?;
    let heads = inputs.iter().map(|input| {
        json!({
            "name": input.name, "datatype": input.datatype, "shape": input.shape,
            "parameters": { binary::DATA_SIZE: input.bytes.len() },
        })
    });
    let heads: Vec<Value> = heads.collect();
    let head = json!({ "inputs": heads, "parameters": { binary::DATA_OUTPUT: true } }).to_string();
    let mut body = BytesMut::from(head.as_bytes());
    inputs.iter().for_each(|input| body.extend_from_slice(&input.bytes));
    Ok(Ask { body: body.freeze(), head_bytes: Some(head.len()) })
}

/// The request as one message of gRPC: a byte that says it is not compressed, its length, itself.
///
/// # Errors
/// As `binary`.
pub(super) fn grpc(model: &str, request: &Value) -> Result<Ask> {
    let inputs = inputs(request)?;
    let raw_input_contents = inputs.iter().map(|input| input.bytes.clone()).collect();
    let inputs = inputs.into_iter().map(|input| InputMessage {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
    });
    let message = InferMessage { model_name: model.to_owned(), inputs: inputs.collect(), raw_input_contents };
    let length = u32::try_from(message.encoded_len())
        .map_err(|e| Error::new(Code::TooLarge, "a message of gRPC has four gigabytes at most").because(e))?;
    let mut body = BytesMut::with_capacity(5 + length as usize);
    body.put_u8(0);
    body.put_u32(length);
    body.extend_from_slice(&message.encode_to_vec());
    Ok(Ask { body: body.freeze(), head_bytes: None })
}

fn inputs(request: &Value) -> Result<Vec<Input>> {
    let wrong = || Error::new(Code::InvalidRequest, "the body is no inference request: `inputs` are missing");
    let inputs = request["inputs"].as_array().ok_or_else(wrong)?;
    inputs.iter().map(input).collect()
}

fn input(input: &Value) -> Result<Input> {
    let name = input["name"].as_str().unwrap_or_default().to_owned();
    let wrong = |what: &str| {
        Error::new(Code::InvalidRequest, format!("input `{name}` has no {what} that can be sent"))
    };
    let datatype: Datatype =
        serde_json::from_value(input["datatype"].clone()).map_err(|e| wrong("datatype").because(e))?;
    let shape = serde_json::from_value(input["shape"].clone()).map_err(|e| wrong("shape").because(e))?;
    let mut bytes = BytesMut::new();
    append(datatype, &input["data"], &mut bytes)?;
    let datatype = input["datatype"].as_str().unwrap_or_default().to_owned();
    Ok(Input { name: name.clone(), datatype, shape, bytes: bytes.freeze() })
}

/// The values, nested or not, little-endian.
fn append(datatype: Datatype, value: &Value, to: &mut BytesMut) -> Result<()> {
    if let Some(values) = value.as_array() {
        return values.iter().try_for_each(|value| append(datatype, value, to));
    }
    let (real, whole) = (value.as_f64(), value.as_i64());
    let fits = match datatype {
        Datatype::Bool => value.as_bool().map(|value| to.put_u8(u8::from(value))),
        Datatype::Fp32 => real.map(|value| to.put_f32_le(value as f32)),
        Datatype::Fp64 => real.map(|value| to.put_f64_le(value)),
        Datatype::Int8 => whole.and_then(|value| i8::try_from(value).ok()).map(|value| to.put_i8(value)),
        Datatype::Uint8 => whole.and_then(|value| u8::try_from(value).ok()).map(|value| to.put_u8(value)),
        Datatype::Int16 => {
            whole.and_then(|value| i16::try_from(value).ok()).map(|value| to.put_i16_le(value))
        }
        Datatype::Uint16 => {
            whole.and_then(|value| u16::try_from(value).ok()).map(|value| to.put_u16_le(value))
        }
        Datatype::Int32 => {
            whole.and_then(|value| i32::try_from(value).ok()).map(|value| to.put_i32_le(value))
        }
        Datatype::Uint32 => {
            whole.and_then(|value| u32::try_from(value).ok()).map(|value| to.put_u32_le(value))
        }
        Datatype::Int64 => whole.map(|value| to.put_i64_le(value)),
        Datatype::Uint64 => value.as_u64().map(|value| to.put_u64_le(value)),
        Datatype::Bytes => value.as_str().and_then(|text| {
            to.put_u32_le(u32::try_from(text.len()).ok()?);
            to.extend_from_slice(text.as_bytes());
            Some(())
        }),
        _ => {
            let what = format!("values of {datatype:?} cannot be written as bytes here");
            return Err(Error::new(Code::NotSupported, what).hint("Send them as JSON: --protocol infer."));
        }
    };
    fits.ok_or_else(|| Error::new(Code::InvalidRequest, format!("{value} is no value of {datatype:?}")))
}
