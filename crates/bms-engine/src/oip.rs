//! Between the Open Inference Protocol's JSON and the engine's input and answer.

mod data;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_nn::onnx::ValueSpec;
use bms_nn::{DType, Tensor};
use bms_wire::oip::{Datatype, InferRequest, InferResponse, InferTensor, Parameters, TensorMetadata};
use bms_wire::{Code, Error, Preprocess, Result, limits};
use serde_json::{Value, json};

use crate::{Answer, Classification, Description, Input};

/// Output of labels, best first, `[rows, labels]`.
const LABEL: &str = "label";
/// Output of the labels' probabilities, `[rows, labels]`.
const PROBABILITY: &str = "probability";
/// Name of the input of raw rows for a model whose pipeline takes rows.
const ROWS: &str = "rows";

/// A request's input for a model.
///
/// - One `BYTES` input: pictures, base64 of PNG or JPEG, for a pipeline that takes pictures.
/// - One `FP32` or `FP64` input called `rows`: raw rows, for a pipeline that takes rows.
/// - Otherwise the graph's own tensors, by name.
///
/// # Errors
/// [`Code::InvalidInput`] or [`Code::TooLarge`], saying what was expected.
pub fn request_to_input(model: &Description, request: InferRequest) -> Result<Input> {
    check_outputs(model, &request)?;
    if let [only] = &request.inputs[..] {
        if only.datatype == Datatype::Bytes {
            return pictures(only).map(Input::Images);
        }
        let takes_rows = matches!(model.pipeline.preprocess, Preprocess::Table(_));
        if takes_rows && only.name == ROWS && !model.inputs.iter().any(|spec| spec.name == ROWS) {
            return rows(only).map(Input::Rows);
        }
    }
    let tensor = |input: InferTensor| {
        let tensor = tensor(&input).map_err(|e| e.while_doing(format!("read input `{}`", input.name)))?;
        Ok((input.name, tensor))
    };
    request.inputs.into_iter().map(tensor).collect::<Result<_>>().map(Input::Tensors)
}

/// The answer in the protocol's form. `wanted` names the outputs asked for; all when empty.
pub fn answer_to_response(
    model: &Description,
    answer: Answer,
    id: Option<String>,
    version: Option<String>,
    wanted: &[String],
) -> InferResponse {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut outputs: Vec<InferTensor> = answer
        .outputs
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, tensor)| InferTensor {
            name: name.clone(),
            shape: tensor.shape().iter().map(|&d| d as i64).collect(),
            datatype: datatype(tensor.dtype()),
            parameters: Parameters::new(),
            data: data::to_json(tensor.data()),
        })
        .collect();
    if let Some(classes) = &answer.classes {
        outputs.extend(class_outputs(classes).into_iter().filter(|output| is_wanted(&output.name)));
    }
    InferResponse {
        model_name: model.name.clone(),
        model_version: version,
        id,
        parameters: Parameters::new(),
        outputs,
    }
}

/// The protocol's description of a tensor; −1 is a free dimension.
pub fn tensor_metadata(spec: &ValueSpec) -> TensorMetadata {
    let shape = spec.shape.iter().map(|dim| dim.map_or(-1, |d| d as i64)).collect();
    TensorMetadata { name: spec.name.clone(), datatype: datatype(spec.dtype), shape }
}

/// What runs the model, as the protocol's `platform`.
pub fn platform(model: &Description) -> String {
    format!("onnx_{}", model.runtime.as_str())
}

fn class_outputs(classes: &[Classification]) -> [InferTensor; 2] {
    let width = classes.first().map_or(0, |c| c.ranked.len());
    let flat = || classes.iter().flat_map(|c| &c.ranked);
    let output = |name: &str, datatype, data: Vec<Value>| InferTensor {
        name: name.to_owned(),
        shape: vec![classes.len() as i64, width as i64],
        datatype,
        parameters: Parameters::new(),
        data: Value::Array(data),
    };
    [
        output(LABEL, Datatype::Bytes, flat().map(|(label, _)| json!(label)).collect()),
        output(PROBABILITY, Datatype::Fp32, flat().map(|(_, p)| json!(p)).collect()),
    ]
}

/// Every output asked for must exist: a misspelt name would silently give nothing.
fn check_outputs(model: &Description, request: &InferRequest) -> Result<()> {
    let mut names: Vec<&str> = model.outputs.iter().map(|spec| spec.name.as_str()).collect();
    if !model.labels().is_empty() {
        names.extend([LABEL, PROBABILITY]);
    }
    match request.outputs.iter().find(|output| !names.contains(&output.name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let what = format!("`{}` has no output `{}`", model.name, unknown.name);
            Err(Error::new(Code::InvalidInput, what).hint(format!("Its outputs are: {}.", names.join(", "))))
        }
    }
}

fn pictures(input: &InferTensor) -> Result<Vec<Vec<u8>>> {
    let values = data::flat(&input.data, &input.shape)?;
    let decode = |(index, value): (usize, &Value)| {
        let text = value.as_str().ok_or_else(|| not_base64(index, "it is not a string"))?;
        STANDARD.decode(text).map_err(|e| not_base64(index, &e.to_string()).because(e))
    };
    values.into_iter().enumerate().map(decode).collect()
}

fn not_base64(index: usize, why: &str) -> Error {
    Error::new(Code::InvalidInput, format!("element {index} is not base64: {why}"))
        .hint("A BYTES input holds one base64-encoded PNG or JPEG a row.")
}

fn rows(input: &InferTensor) -> Result<Vec<Vec<f32>>> {
    let [_, width] = shape(&input.shape)?[..] else {
        return Err(Error::new(Code::InvalidInput, format!("`{ROWS}` has the shape [rows, columns]")));
    };
    let tensor = data::parse(DType::F32, &input.data, &input.shape)?;
    let values = tensor.as_f32().unwrap_or_default();
    Ok(values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect())
}

fn tensor(input: &InferTensor) -> Result<Tensor> {
    match dtype(input.datatype) {
        Some(dtype) => data::parse(dtype, &input.data, &input.shape),
        None => Err(Error::new(
            Code::InvalidInput,
            format!("the datatype {:?} is not taken here", input.datatype),
        )),
    }
}

/// The dimensions; none is negative in a request.
fn shape(dims: &[i64]) -> Result<Vec<usize>> {
    let count = dims.iter().try_fold(1i64, |n, d| if *d < 0 { None } else { n.checked_mul(*d) });
    match count {
        Some(n) if n <= limits::TENSOR_VALUES_MAX as i64 => Ok(dims.iter().map(|&d| d as usize).collect()),
        Some(n) => Err(Error::new(Code::TooLarge, format!("the shape {dims:?} has {n} values"))
            .hint(format!("At most {} fit in one request.", limits::TENSOR_VALUES_MAX))),
        None => Err(Error::new(Code::InvalidInput, format!("the shape {dims:?} is impossible"))),
    }
}

macro_rules! datatypes {
    ($($wire:ident = $ours:ident),+ $(,)?) => {
        fn datatype(dtype: DType) -> Datatype { match dtype { $(DType::$ours => Datatype::$wire,)+ } }
        fn dtype(datatype: Datatype) -> Option<DType> {
            match datatype { $(Datatype::$wire => Some(DType::$ours),)+ Datatype::Fp16 | Datatype::Bytes => None }
        }
    };
}

datatypes! {
    Bool = Bool, Uint8 = U8, Uint16 = U16, Uint32 = U32, Uint64 = U64,
    Int8 = I8, Int16 = I16, Int32 = I32, Int64 = I64, Fp32 = F32, Fp64 = F64,
}

#[cfg(test)]
mod tests;
