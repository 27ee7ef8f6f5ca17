//! A request as the engine's input, and what of it the answer needs.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_nn::{DType, Data, Tensor};
use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters, Values, binary};
use bms_wire::{Code, Error, Preprocess, Result, limits};
use serde::Deserialize;
use serde_json::Value;

use super::quick::Quick;
use super::{LABEL, PROBABILITY, data, dtype, found, shape};
use crate::{Description, Input, Priority};

/// Name of the input of raw rows for a model whose pipeline takes rows.
const ROWS: &str = "rows";
/// Parameters by which requests of a sequence say so.
const SEQUENCE: [&str; 3] = ["sequence_id", "sequence_start", "sequence_end"];
/// The parameter of a tensor that lies in memory shared with the server.
const SHARED_MEMORY: &str = "shared_memory_region";

/// What of a request its answer needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    pub(super) id: Option<String>,
    pub(super) outputs: Vec<Wanted>,
    /// Outputs in binary form, when the request names none.
    pub(super) all_binary: bool,
    /// How soon it wants to run.
    pub priority: Priority,
}

/// One output asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) binary: bool,
    /// So many of the best classes in place of the values.
    pub(super) classes: Option<usize>,
}

impl Asked {
    /// Checks a request's parameters and the outputs it names.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::InvalidInput`] for an output the model does not have, and
    /// [`Code::NotSupported`] for sequences and shared memory.
    fn of<V>(model: &Description, request: &InferRequest<V>) -> Result<Asked> {
        let parameters = &request.parameters;
        check_stateless(parameters)?;
        let all_binary = binary::flag(parameters, binary::DATA_OUTPUT)?.unwrap_or(false);
        // Microseconds. Whoever waits for the answer keeps the time.
        binary::number(parameters, "timeout")?;
        let priority = Priority::new(binary::number(parameters, "priority")?.unwrap_or(0))?;
        let names = output_names(model);
        let wanted = |output: &bms_wire::oip::RequestedOutput| {
            if !names.contains(&output.name.as_str()) {
                let what = format!("`{}` has no output `{}`", model.name, output.name);
                return Err(Error::new(Code::InvalidInput, what)
                    .hint(format!("Its outputs are: {}.", names.join(", "))));
            }
            check_shared(&output.name, &output.parameters)?;
            let classes = binary::number(&output.parameters, binary::CLASSIFICATION)?;
            Ok(Wanted {
                name: output.name.clone(),
                binary: binary::flag(&output.parameters, binary::DATA)?.unwrap_or(all_binary),
                classes: classes.filter(|n| *n != 0).map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            })
        };
        let outputs = request.outputs.iter().map(wanted).collect::<Result<_>>()?;
        Ok(Asked { id: request.id.clone(), outputs, all_binary, priority })
    }

    /// Whether anything of the answer shall be in binary form.
    pub fn wants_binary(&self) -> bool {
        self.outputs.iter().any(|output| output.binary) || (self.outputs.is_empty() && self.all_binary)
    }
}

/// Every output that can be asked for: a misspelt name would silently give nothing.
fn output_names(model: &Description) -> Vec<&str> {
    let mut names: Vec<&str> = model.outputs.iter().map(|spec| spec.name.as_str()).collect();
    if !model.labels().is_empty() {
        names.extend([LABEL, PROBABILITY]);
    }
    names.extend(found::names(&model.pipeline.postprocess));
    names
}

fn check_stateless(parameters: &Parameters) -> Result<()> {
    let says_so = |value: &Value| match value {
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        _ => true,
    };
    match SEQUENCE.iter().find(|name| parameters.get(**name).is_some_and(says_so)) {
        None => Ok(()),
        Some(name) => {
            let what = format!("parameter `{name}`: nothing of a sequence is kept between its requests");
            Err(Error::new(Code::NotSupported, what).hint("Send all of the sequence in one request."))
        }
    }
}

fn check_shared(name: &str, parameters: &Parameters) -> Result<()> {
    match parameters.get(SHARED_MEMORY) {
        None => Ok(()),
        Some(_) => {
            let what = format!("tensor `{name}` lies in shared memory, which this server does not read");
            Err(Error::new(Code::NotSupported, what).hint("Send it in the request, in binary form."))
        }
    }
}

/// Reads a request: JSON, and behind `head_bytes` of it the tensors in binary form. Without a head at all, that is with
/// `Some(0)`, the body is the one input of the model.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is none, [`Code::InvalidInput`] or [`Code::TooLarge`] when it does not fit the
/// model, [`Code::NotSupported`] for what this server does not do.
pub fn read(model: &Description, body: &[u8], head_bytes: Option<usize>) -> Result<(Input, Asked)> {
    if head_bytes == Some(0) {
        return raw(model, body).map(|input| (input, Asked::default()));
    }
    // What is wrong with a request is said of the tree.
    read_as::<Quick>(model, body, head_bytes).or_else(|_| read_as::<Value>(model, body, head_bytes))
}

fn read_as<'a, V>(model: &Description, body: &'a [u8], head_bytes: Option<usize>) -> Result<(Input, Asked)>
where
    V: Form + Deserialize<'a>,
{
    let (request, places) = binary::read_request::<V>(body, head_bytes)?;
    let asked = Asked::of(model, &request)?;
    let bytes = |place: Option<Range<usize>>| place.and_then(|place| body.get(place));
    let given = request.inputs.into_iter().zip(places.into_iter().map(bytes)).collect();
    Ok((input(model, given)?, asked))
}

/// A body that is no request but the one thing a model is asked about: a picture, a text, a recording or a file.
///
/// # Errors
/// [`Code::InvalidInput`] when it is not what the model takes, [`Code::InvalidRequest`] when the model takes tensors.
pub fn plain(model: &Description, body: &[u8]) -> Result<Input> {
    Ok(match &model.pipeline.preprocess {
        Preprocess::Image(_) | Preprocess::Picture(_) => Input::Images(vec![body.to_vec()]),
        Preprocess::Text(_) => Input::Texts(vec![text((0, body))?]),
        Preprocess::Bytes(_) | Preprocess::Audio(_) => Input::Files(vec![body.to_vec()]),
        Preprocess::Table(_) | Preprocess::Tensor {} => {
            let what = format!("`{}` takes tensors, and the request is none in JSON", model.name);
            return Err(Error::new(Code::InvalidRequest, what)
                .hint("Send a request of the Open Inference Protocol, as `application/json`."));
        }
    })
}

/// A request's input for a model, and what the answer needs of it.
///
/// - One `BYTES` input for a pipeline that takes pictures (PNG or JPEG), files or recordings (WAV): as base64 in JSON.
/// - One `BYTES` input for a pipeline that takes texts: as they are.
/// - One `FP32` or `FP64` input called `rows`: raw rows, for a pipeline that takes rows.
/// - Otherwise the graph's own tensors, by name.
///
/// # Errors
/// As [`read`].
pub fn request_to_input(model: &Description, request: InferRequest) -> Result<(Input, Asked)> {
    let asked = Asked::of(model, &request)?;
    Ok((input(model, request.inputs.into_iter().map(|tensor| (tensor, None)).collect())?, asked))
}

/// A form in which the values of tensors are read from JSON.
trait Form: Values {
    /// A tensor of these values.
    fn tensor(self, dtype: DType, dims: &[i64]) -> Result<Tensor>;

    /// What these values are as base64.
    fn decoded(self, dims: &[i64]) -> Result<Vec<Vec<u8>>>;
}

impl Form for Quick {
    fn tensor(self, dtype: DType, dims: &[i64]) -> Result<Tensor> {
        Quick::tensor(self, dtype, dims)
    }

    fn decoded(self, dims: &[i64]) -> Result<Vec<Vec<u8>>> {
        self.texts(dims)?.iter().map(String::as_str).enumerate().map(decode).collect()
    }
}

impl Form for Value {
    fn tensor(self, dtype: DType, dims: &[i64]) -> Result<Tensor> {
        data::parse(dtype, &self, dims)
    }

    fn decoded(self, dims: &[i64]) -> Result<Vec<Vec<u8>>> {
        let one = |(index, value): (usize, &Value)| {
            decode((index, value.as_str().ok_or_else(|| not_base64(index, "it is not a string"))?))
        };
        data::flat(&self, dims)?.into_iter().enumerate().map(one).collect()
    }
}

/// An input with its bytes when it is in binary form.
type Given<'a, V> = (InferTensor<V>, Option<&'a [u8]>);

/// What the only input of a request is, when it is none of the graph's own.
enum Only {
    Texts,
    Files,
    Images,
    Rows,
}

impl Only {
    fn of<V>(model: &Description, tensor: &InferTensor<V>) -> Option<Only> {
        let is_text = model.inputs.iter().any(|spec| spec.name == tensor.name && spec.dtype == DType::Text);
        if tensor.datatype == Datatype::Bytes && !is_text {
            return Some(match &model.pipeline.preprocess {
                Preprocess::Text(_) => Only::Texts,
                Preprocess::Bytes(_) | Preprocess::Audio(_) => Only::Files,
                _ => Only::Images,
            });
        }
        let takes_rows = matches!(model.pipeline.preprocess, Preprocess::Table(_));
        let are_rows =
            takes_rows && tensor.name == ROWS && !model.inputs.iter().any(|spec| spec.name == ROWS);
        are_rows.then_some(Only::Rows)
    }

    fn read<V: Form>(self, given: Given<'_, V>) -> Result<Input> {
        match self {
            Only::Texts => texts(given).map(Input::Texts),
            Only::Files => pictures(given).map(Input::Files),
            Only::Images => pictures(given).map(Input::Images),
            Only::Rows => rows(given).map(Input::Rows),
        }
    }
}

fn input<V: Form>(model: &Description, mut given: Vec<Given<'_, V>>) -> Result<Input> {
    for (tensor, _) in &given {
        check_shared(&tensor.name, &tensor.parameters)?;
    }
    let reading = |name: &str| format!("read input `{name}`");
    if let [(alone, _)] = &given[..]
        && let Some(only) = Only::of(model, alone)
    {
        let given = given.remove(0);
        let name = given.0.name.clone();
        return only.read(given).map_err(|e| e.while_doing(reading(&name)));
    }
    let tensor = |given: Given<'_, V>| {
        let name = given.0.name.clone();
        let tensor = tensor(given).map_err(|e| e.while_doing(reading(&name)))?;
        Ok((name, tensor))
    };
    given.into_iter().map(tensor).collect::<Result<_>>().map(Input::Tensors)
}

fn tensor<V: Form>((input, bytes): Given<'_, V>) -> Result<Tensor> {
    match bytes {
        None => input.data.tensor(dtype(input.datatype), &input.shape),
        Some(bytes) => of_bytes(input.datatype, &input.shape, bytes),
    }
}

/// A tensor in binary form.
fn of_bytes(datatype: Datatype, dims: &[i64], bytes: &[u8]) -> Result<Tensor> {
    let lengths = shape(dims)?;
    let count: usize = lengths.iter().product();
    let Some(size) = datatype.size() else {
        let texts = binary::elements(bytes, count)?.into_iter().enumerate().map(text);
        return Tensor::new(lengths, Data::Text(texts.collect::<Result<_>>()?));
    };
    if bytes.len() != count * size {
        let what =
            format!("{datatype} of the shape {dims:?} takes {} bytes, {} came", count * size, bytes.len());
        return Err(Error::new(Code::InvalidInput, what));
    }
    Tensor::new(lengths, Data::from_le_bytes(dtype(datatype), bytes)?)
}

fn text((index, element): (usize, &[u8])) -> Result<String> {
    std::str::from_utf8(element).map(str::to_owned).map_err(|e| {
        Error::new(Code::InvalidInput, format!("element {index} is not text in UTF-8: {e}")).because(e)
    })
}

fn texts<V: Form>(given: Given<'_, V>) -> Result<Vec<String>> {
    match tensor(given)?.into_parts().1 {
        Data::Text(texts) => Ok(texts),
        other => Err(Error::new(Code::InvalidInput, format!("texts are BYTES, not {}", other.dtype()))),
    }
}

/// Pictures, recordings and other files.
fn pictures<V: Form>((input, bytes): Given<'_, V>) -> Result<Vec<Vec<u8>>> {
    let Some(bytes) = bytes else { return input.data.decoded(&input.shape) };
    let count = shape(&input.shape)?.iter().product();
    Ok(binary::elements(bytes, count)?.into_iter().map(<[u8]>::to_vec).collect())
}

fn decode((index, text): (usize, &str)) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| not_base64(index, &e.to_string()).because(e))
}

fn not_base64(index: usize, why: &str) -> Error {
    Error::new(Code::InvalidInput, format!("element {index} is not base64: {why}"))
        .hint("A BYTES input holds one base64-encoded picture or file a row.")
}

fn rows<V: Form>((input, bytes): Given<'_, V>) -> Result<Vec<Vec<f32>>> {
    let [_, width] = shape(&input.shape)?[..] else {
        return Err(Error::new(Code::InvalidInput, format!("`{ROWS}` has the shape [rows, columns]")));
    };
    let tensor = match bytes {
        None => input.data.tensor(DType::F32, &input.shape)?,
        Some(_) => tensor((input, bytes))?,
    };
    let values = match tensor.into_parts().1 {
        Data::F32(values) => values,
        Data::F64(values) => values.into_iter().map(|value| value as f32).collect(),
        other => {
            let what = format!("`{ROWS}` are FP32 or FP64, not {}", super::datatype(other.dtype()));
            return Err(Error::new(Code::InvalidInput, what));
        }
    };
    Ok(values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect())
}

/// The one input of a model whose shape follows from the number of bytes.
fn raw(model: &Description, body: &[u8]) -> Result<Input> {
    let unclear = |why: &str| {
        Error::new(Code::InvalidRequest, format!("the request has no JSON, and {why}"))
            .hint(format!("Say in `{}` how long the JSON in front of the tensors is.", binary::HEADER_LENGTH))
    };
    if !matches!(model.pipeline.preprocess, Preprocess::Tensor {} | Preprocess::Table(_)) {
        return plain(model, body);
    }
    let [only] = &model.inputs[..] else {
        return Err(unclear(&format!("`{}` has {} inputs", model.name, model.inputs.len())));
    };
    let fixed: usize = only.shape.iter().flatten().product();
    if only.dtype == DType::Text {
        let shape = only.shape.iter().map(|dim| dim.unwrap_or(1)).collect();
        let tensor = Tensor::new(shape, Data::Text(vec![text((0, body))?]))?;
        return Ok(Input::Tensors(vec![(only.name.clone(), tensor)]));
    }
    let row = fixed.saturating_mul(only.dtype.size());
    let free = only.shape.iter().filter(|dim| dim.is_none()).count();
    if !only.ranked || 1 < free || row == 0 {
        return Err(unclear(&format!("the shape of input {only} does not follow from its bytes")));
    }
    let rows = body.len() / row;
    if rows * row != body.len() || (free == 0 && rows != 1) {
        let what =
            format!("input {only} takes {row} bytes for each of the free dimension, {} came", body.len());
        return Err(Error::new(Code::InvalidInput, what));
    }
    if limits::TENSOR_VALUES_MAX < rows.saturating_mul(fixed) {
        return Err(Error::new(Code::TooLarge, format!("{} bytes for input {only}", body.len())));
    }
    let shape = only.shape.iter().map(|dim| dim.unwrap_or(rows)).collect();
    let tensor = Tensor::new(shape, Data::from_le_bytes(only.dtype, body)?)?;
    Ok(Input::Tensors(vec![(only.name.clone(), tensor)]))
}
