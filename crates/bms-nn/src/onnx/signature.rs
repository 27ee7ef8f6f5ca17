//! Inputs and outputs of a graph in the terms of this crate.

use bms_wire::{Code, Error, Result};

use super::ValueSpec;
use super::proto::{DataType, DimensionValue, GraphProto, ModelProto, ValueInfoProto};
use crate::DType;

/// What a graph takes and gives. Free dimensions keep their names, so that a synthetic input can give
/// equal names equal lengths.
pub(super) struct Signature {
    pub(super) inputs: Vec<ValueSpec>,
    pub(super) outputs: Vec<ValueSpec>,
    /// Per input, per dimension.
    pub(super) symbols: Vec<Vec<Option<String>>>,
}

/// Reads the signature of a model that passed the integrity check.
///
/// # Errors
/// `UnsupportedModel` when an input or output is not a tensor of a type this crate has.
pub(super) fn of(model: &ModelProto) -> Result<Signature> {
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let fed: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !has_initializer(graph, input.name())).collect();
    Ok(Signature {
        inputs: fed.iter().map(|value| spec("input", value)).collect::<Result<_>>()?,
        outputs: graph.output.iter().map(|value| spec("output", value)).collect::<Result<_>>()?,
        symbols: fed.iter().map(|value| symbols(value)).collect(),
    })
}

/// Whether a constant supplies this graph input; such an input need not (and here cannot) be fed.
fn has_initializer(graph: &GraphProto, name: &str) -> bool {
    graph.initializer.iter().any(|tensor| tensor.name() == name)
        || graph
            .sparse_initializer
            .iter()
            .any(|tensor| tensor.values.as_ref().is_some_and(|v| v.name() == name))
}

fn spec(role: &str, value: &ValueInfoProto) -> Result<ValueSpec> {
    let unsupported = |why: String| {
        Error::new(Code::UnsupportedModel, format!("{role} `{}` of the graph {why}", value.name()))
    };
    let tensor = value.tensor_type().ok_or_else(|| unsupported("is not a tensor".into()))?;
    let dtype = dtype(tensor.elem_type())
        .ok_or_else(|| unsupported(format!("has the element type {}", type_name(tensor.elem_type()))))?;
    let shape = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| match dim.value {
        // Some exporters write -1 or 0 for a free dimension.
        Some(DimensionValue::DimValue(length)) => usize::try_from(length).ok().filter(|&length| length > 0),
        _ => None,
    });
    Ok(ValueSpec {
        name: value.name().to_owned(),
        dtype,
        shape: shape.collect(),
        ranked: tensor.shape.is_some(),
    })
}

fn symbols(value: &ValueInfoProto) -> Vec<Option<String>> {
    let dims = value.tensor_type().and_then(|tensor| tensor.shape.as_ref()).map(|shape| &shape.dim[..]);
    dims.unwrap_or_default()
        .iter()
        .map(|dim| match &dim.value {
            Some(DimensionValue::DimParam(name)) if !name.is_empty() => Some(name.clone()),
            _ => None,
        })
        .collect()
}

/// The type of this crate for an ONNX element type.
pub(super) fn dtype(data_type: i32) -> Option<DType> {
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::Int64 => DType::I64,
        DataType::Int32 => DType::I32,
        DataType::Int16 => DType::I16,
        DataType::Int8 => DType::I8,
        DataType::Uint64 => DType::U64,
        DataType::Uint32 => DType::U32,
        DataType::Uint16 => DType::U16,
        DataType::Uint8 => DType::U8,
        DataType::Bool => DType::Bool,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::String => DType::Text,
        _ => return None,
    })
}

/// The specification's name of an ONNX element type, for messages.
pub(super) fn type_name(data_type: i32) -> String {
    match DataType::try_from(data_type) {
        Ok(known) => format!("{known:?}"),
        Err(_) => format!("number {data_type}"),
    }
}
