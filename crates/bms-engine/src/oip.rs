//! Between the Open Inference Protocol and the engine's input and answer: tensors in JSON, and in binary form, whose bytes
//! are copied and never parsed.

mod about;
mod data;
mod found;
mod quick;
mod request;
mod response;

use bms_nn::DType;
use bms_nn::onnx::ValueSpec;
use bms_wire::oip::{Datatype, TensorMetadata};
use bms_wire::{Code, Error, Result, limits};

use crate::Description;

pub use about::{config, statistics};
pub use data::Shown;
pub use request::{Asked, plain, read, request_to_input};
pub use response::{Response, answer_to_response};

/// Output of labels, best first, `[rows, labels]`.
const LABEL: &str = "label";
/// Output of the labels' probabilities, `[rows, labels]`.
const PROBABILITY: &str = "probability";

/// The protocol's description of a tensor; −1 is a free dimension.
pub fn tensor_metadata(spec: &ValueSpec) -> TensorMetadata {
    let shape = spec.shape.iter().map(|dim| dim.map_or(-1, |d| d as i64)).collect();
    TensorMetadata { name: spec.name.clone(), datatype: datatype(spec.dtype), shape }
}

/// What runs the model, as the protocol's `platform`.
pub fn platform(model: &Description) -> String {
    format!("onnx_{}", model.runtime.as_str())
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
        fn dtype(datatype: Datatype) -> DType { match datatype { $(Datatype::$wire => DType::$ours,)+ } }
    };
}

datatypes! {
    Bool = Bool, Uint8 = U8, Uint16 = U16, Uint32 = U32, Uint64 = U64, Int8 = I8, Int16 = I16, Int32 = I32, Int64 = I64,
    Fp16 = F16, Bf16 = BF16, Fp32 = F32, Fp64 = F64, Bytes = Text,
}

#[cfg(test)]
mod tests;
