//! Between the messages of gRPC and the protocol's REST form with tensors behind it.

use std::collections::HashMap;
use std::time::Duration;

use bms_wire::oip::about::{self, ConfigTensor, IndexEntry};
use bms_wire::oip::{
    self, Datatype, InferRequest, InferTensor, ModelMetadata, Parameters, RequestedOutput, binary,
};
use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use serde_json::{Value, json};

use super::proto;

/// A request as a slot gets it.
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) head_bytes: usize,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
}

/// The request in REST's form, every tensor in binary form.
///
/// # Errors
/// [`Code::InvalidRequest`] and [`Code::InvalidInput`] when its parts contradict each other.
pub(super) fn request(asked: proto::ModelInferRequest) -> Result<Request> {
    let mut parameters = values(asked.parameters)?;
    parameters.insert(binary::DATA_OUTPUT.to_owned(), json!(true));
    let timeout = parameters.get("timeout").and_then(Value::as_u64).filter(|timeout| *timeout != 0);
    let raw = asked.raw_input_contents;
    if !raw.is_empty() && raw.len() != asked.inputs.len() {
        let what = format!(
            "there are {} inputs and {} `raw_input_contents`: one for each, or none",
            asked.inputs.len(),
            raw.len()
        );
        return Err(Error::new(Code::InvalidRequest, what));
    }
    let mut raw = raw.into_iter();
    let (mut inputs, mut tail) = (Vec::with_capacity(asked.inputs.len()), Vec::new());
    for input in asked.inputs {
        let name = input.name.clone();
        let (input, bytes) =
            tensor(input, raw.next()).map_err(|e| e.while_doing(format!("read input `{name}`")))?;
        inputs.push(input);
        tail.push(bytes);
    }
    let output = |output: proto::RequestedOutput| {
        let mut parameters = values(output.parameters)?;
        parameters.insert(binary::DATA.to_owned(), json!(true));
        Ok(RequestedOutput { name: output.name, parameters })
    };
    let outputs = asked.outputs.into_iter().map(output).collect::<Result<_>>()?;
    let id = Some(asked.id).filter(|id| !id.is_empty());
    let head = serde_json::to_vec(&InferRequest { id, parameters, inputs, outputs })
        .map_err(|e| Error::new(Code::Internal, "the request cannot be forwarded").because(e))?;
    let mut body = Vec::with_capacity(head.len() + tail.iter().map(Bytes::len).sum::<usize>());
    body.extend_from_slice(&head);
    tail.iter().for_each(|bytes| body.extend_from_slice(bytes));
    Ok(Request { body: body.into(), head_bytes: head.len(), timeout: timeout.map(Duration::from_micros) })
}

/// One input and its bytes.
fn tensor(input: proto::InferTensor, raw: Option<Bytes>) -> Result<(InferTensor, Bytes)> {
    let datatype = Datatype::parse(&input.datatype).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("there is no datatype `{}`", input.datatype))
    })?;
    let bytes = match (raw, input.contents) {
        (Some(raw), None) => raw,
        (None, Some(contents)) => contents_bytes(datatype, contents)?.into(),
        (Some(_), Some(_)) => {
            let what = "its values are both in `contents` and in `raw_input_contents`";
            return Err(Error::new(Code::InvalidRequest, what));
        }
        (None, None) => Bytes::new(),
    };
    let mut parameters = values(input.parameters)?;
    parameters.insert(binary::DATA_SIZE.to_owned(), json!(bytes.len()));
    let tensor =
        InferTensor { name: input.name, shape: input.shape, datatype, parameters, data: Value::Null };
    Ok((tensor, bytes))
}

/// Typed values in binary form. Values of another type than the tensor's are refused.
fn contents_bytes(datatype: Datatype, contents: proto::InferTensorContents) -> Result<Vec<u8>> {
    let proto::InferTensorContents { bools, ints, int64s, uints, uint64s, fp32s, fp64s, bytes } = contents;
    let given = bools.len()
        + ints.len()
        + int64s.len()
        + uints.len()
        + uint64s.len()
        + fp32s.len()
        + fp64s.len()
        + bytes.len();
    let mut into = Vec::new();
    let taken = match datatype {
        Datatype::Bool => write(&bools, &mut into, |v| Some([u8::from(v)]), datatype)?,
        Datatype::Int8 => write(&ints, &mut into, |v| i8::try_from(v).ok().map(i8::to_le_bytes), datatype)?,
        Datatype::Int16 => {
            write(&ints, &mut into, |v| i16::try_from(v).ok().map(i16::to_le_bytes), datatype)?
        }
        Datatype::Int32 => write(&ints, &mut into, |v| Some(v.to_le_bytes()), datatype)?,
        Datatype::Int64 => write(&int64s, &mut into, |v| Some(v.to_le_bytes()), datatype)?,
        Datatype::Uint8 => write(&uints, &mut into, |v| u8::try_from(v).ok().map(u8::to_le_bytes), datatype)?,
        Datatype::Uint16 => {
            write(&uints, &mut into, |v| u16::try_from(v).ok().map(u16::to_le_bytes), datatype)?
        }
        Datatype::Uint32 => write(&uints, &mut into, |v| Some(v.to_le_bytes()), datatype)?,
        Datatype::Uint64 => write(&uint64s, &mut into, |v| Some(v.to_le_bytes()), datatype)?,
        Datatype::Fp32 => write(&fp32s, &mut into, |v| Some(v.to_le_bytes()), datatype)?,
        Datatype::Fp64 => write(&fp64s, &mut into, |v| Some(v.to_le_bytes()), datatype)?,
        Datatype::Bytes => {
            bytes.iter().for_each(|element| binary::push_element(&mut into, element));
            bytes.len()
        }
        Datatype::Fp16 | Datatype::Bf16 => {
            let what = format!("values of {datatype} have no field in `contents`");
            return Err(Error::new(Code::InvalidRequest, what).hint("Send them in `raw_input_contents`."));
        }
    };
    if taken != given {
        let what = format!("`contents` has values in a field that is not the one of {datatype}");
        return Err(Error::new(Code::InvalidRequest, what));
    }
    Ok(into)
}

fn write<T: Copy, const N: usize>(
    values: &[T],
    into: &mut Vec<u8>,
    bytes: impl Fn(T) -> Option<[u8; N]>,
    datatype: Datatype,
) -> Result<usize> {
    into.reserve(values.len() * N);
    for (at, &value) in values.iter().enumerate() {
        let bytes = bytes(value).ok_or_else(|| {
            Error::new(Code::InvalidInput, format!("value {at} does not fit into {datatype}"))
        })?;
        into.extend_from_slice(&bytes);
    }
    Ok(values.len())
}

/// A slot's answer as a message. The bytes of its tensors are not copied.
///
/// # Errors
/// [`Code::Internal`] when it is not understood.
pub(super) fn response(answer: http::Response<Bytes>) -> Result<proto::ModelInferResponse> {
    let not_understood =
        |e: Error| Error::new(Code::Internal, format!("the slot's answer is not understood: {e}")).because(e);
    let head_bytes = answer.headers().get(binary::HEADER_LENGTH);
    let head_bytes = head_bytes.map(|value| binary::header_length(value.as_bytes())).transpose();
    let body = answer.body();
    let (head, places) =
        head_bytes.and_then(|head_bytes| binary::read_response(body, head_bytes)).map_err(not_understood)?;
    let (mut outputs, mut raw) = (Vec::new(), Vec::new());
    for (mut output, place) in head.outputs.into_iter().zip(places) {
        output.parameters.remove(binary::DATA_SIZE);
        let place = place.ok_or_else(|| {
            Error::new(Code::Internal, format!("output `{}` did not come in binary form", output.name))
        })?;
        raw.push(body.slice(place));
        outputs.push(proto::InferTensor {
            name: output.name,
            datatype: output.datatype.to_string(),
            shape: output.shape,
            parameters: parameters(output.parameters),
            contents: None,
        });
    }
    Ok(proto::ModelInferResponse {
        model_name: head.model_name,
        model_version: head.model_version.unwrap_or_default(),
        id: head.id.unwrap_or_default(),
        parameters: parameters(head.parameters),
        outputs,
        raw_output_contents: raw,
    })
}

/// Parameters as JSON has them.
fn values(parameters: HashMap<String, proto::InferParameter>) -> Result<Parameters> {
    let value = |(name, parameter): (String, proto::InferParameter)| {
        let value = match parameter.choice {
            Some(proto::Parameter::Bool(value)) => json!(value),
            Some(proto::Parameter::Int64(value)) => json!(value),
            Some(proto::Parameter::Uint64(value)) => json!(value),
            Some(proto::Parameter::Double(value)) => json!(value),
            Some(proto::Parameter::Text(value)) => json!(value),
            None => {
                return Err(Error::new(Code::InvalidRequest, format!("parameter `{name}` has no value")));
            }
        };
        Ok((name, value))
    };
    parameters.into_iter().map(value).collect()
}

/// Parameters as gRPC has them; what is neither a number nor text nor true or false goes as JSON.
fn parameters(values: Parameters) -> HashMap<String, proto::InferParameter> {
    let parameter = |(name, value): (String, Value)| {
        let choice = match value {
            Value::Bool(value) => proto::Parameter::Bool(value),
            Value::String(value) => proto::Parameter::Text(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => proto::Parameter::Int64(value),
                (None, Some(value)) => proto::Parameter::Uint64(value),
                (None, None) => proto::Parameter::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            other => proto::Parameter::Text(other.to_string()),
        };
        (name, proto::InferParameter { choice: Some(choice) })
    };
    values.into_iter().map(parameter).collect()
}

/// Names of parameters, without their values.
pub(super) fn names(parameters: &HashMap<String, proto::Empty>) -> Parameters {
    parameters.keys().map(|name| (name.clone(), Value::Null)).collect()
}

pub(super) fn metadata(about: ModelMetadata) -> proto::ModelMetadataResponse {
    let tensor = |tensor: oip::TensorMetadata| proto::TensorMetadata {
        name: tensor.name,
        datatype: tensor.datatype.to_string(),
        shape: tensor.shape,
    };
    proto::ModelMetadataResponse {
        name: about.name,
        versions: about.versions,
        platform: about.platform,
        inputs: about.inputs.into_iter().map(tensor).collect(),
        outputs: about.outputs.into_iter().map(tensor).collect(),
    }
}

pub(super) fn config(about: about::ModelConfig) -> proto::ModelConfigResponse {
    let data_type = |tensor: &ConfigTensor| {
        let number = proto::DATA_TYPES.iter().position(|name| *name == tensor.data_type);
        number.and_then(|number| i32::try_from(number).ok()).unwrap_or_default()
    };
    let input = |tensor: ConfigTensor| {
        let data_type = data_type(&tensor);
        proto::ModelInput { name: tensor.name, data_type, dims: tensor.dims }
    };
    let output = |tensor: ConfigTensor| {
        let data_type = data_type(&tensor);
        proto::ModelOutput { name: tensor.name, data_type, dims: tensor.dims }
    };
    let group = |group: about::InstanceGroup| proto::InstanceGroup {
        name: group.name,
        count: group.count,
        kind: proto::KIND_CPU,
    };
    let config = proto::ModelConfig {
        name: about.name,
        platform: about.platform,
        max_batch_size: about.max_batch_size,
        input: about.input.into_iter().map(input).collect(),
        output: about.output.into_iter().map(output).collect(),
        instance_group: about.instance_group.into_iter().map(group).collect(),
        backend: about.backend,
    };
    proto::ModelConfigResponse { config: Some(config) }
}

pub(super) fn statistics(about: about::Statistics) -> proto::ModelStatisticsResponse {
    let took = |d: about::Duration| Some(proto::StatisticDuration { count: d.count, ns: d.ns });
    let batch = |batch: &about::BatchStatistics| proto::InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: took(batch.compute_input),
        compute_infer: took(batch.compute_infer),
        compute_output: took(batch.compute_output),
    };
    let model = |model: about::ModelStatistics| proto::ModelStatistics {
        name: model.name,
        version: model.version,
        last_inference: model.last_inference,
        inference_count: model.inference_count,
        execution_count: model.execution_count,
        inference_stats: Some(proto::InferStatistics {
            success: took(model.inference_stats.success),
            fail: took(model.inference_stats.fail),
            queue: took(model.inference_stats.queue),
            compute_input: took(model.inference_stats.compute_input),
            compute_infer: took(model.inference_stats.compute_infer),
            compute_output: took(model.inference_stats.compute_output),
        }),
        batch_stats: model.batch_stats.iter().map(batch).collect(),
    };
    proto::ModelStatisticsResponse { model_stats: about.model_stats.into_iter().map(model).collect() }
}

pub(super) fn index(entries: Vec<IndexEntry>) -> proto::RepositoryIndexResponse {
    let entry = |entry: IndexEntry| proto::ModelIndex {
        name: entry.name,
        version: entry.version,
        state: entry.state,
        reason: entry.reason,
    };
    proto::RepositoryIndexResponse { models: entries.into_iter().map(entry).collect() }
}
