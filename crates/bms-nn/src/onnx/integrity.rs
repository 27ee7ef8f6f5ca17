//! Whether a decoded model is sound, before any run-time sees it.
//!
//! Run-times trust a model more than a server may trust a file: they index by what it says and read
//! files it names. What is refused here never reaches them.

use std::collections::HashSet;

use bms_wire::{Code, Error, Result};

use super::proto::{
    DataLocation, DataType, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};

/// Subgraphs inside subgraphs; real models have two or three levels.
const DEPTH_MAX: usize = 16;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidBundle, message)
}

/// Checks a model.
///
/// # Errors
/// `InvalidBundle` for a model without a graph or operator set, tensors whose length is not what their
/// shape says, names that do not resolve; `UnsupportedModel` for tensors outside the file.
pub(super) fn check(model: &ModelProto) -> Result<()> {
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| invalid("the model has no graph: cut short, or not an ONNX file"))?;
    if model.opset_import.is_empty() {
        return Err(invalid("the model names no operator set: cut short, or not an ONNX file"));
    }
    if graph.output.is_empty() {
        return Err(invalid("the graph has no output"));
    }
    for function in &model.functions {
        check_function(function)?;
    }
    check_graph(graph, &HashSet::new(), 0)
}

/// A function sees its parameters and nothing else.
fn check_function(function: &FunctionProto) -> Result<()> {
    let mut known: HashSet<&str> = function.input.iter().map(String::as_str).collect();
    for node in &function.node {
        check_node(node, &mut known, 0)?;
    }
    match function.output.iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => {
            Err(invalid(format!("nothing computes output `{name}` of function `{}`", function.name())))
        }
        None => Ok(()),
    }
}

/// Checks a graph that sees the values `outer` of the graphs around it.
fn check_graph<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(invalid(format!("graphs are nested more than {DEPTH_MAX} deep")));
    }
    let mut known = outer.clone();
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if input.name().is_empty() || !inputs.insert(input.name()) {
            return Err(invalid(format!("graph input `{}` has no name of its own", input.name())));
        }
        known.insert(input.name());
    }
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
        known.insert(tensor.name());
    }
    for tensor in &graph.sparse_initializer {
        check_sparse(tensor)?;
        known.extend(tensor.values.as_ref().map(TensorProto::name));
    }
    for node in &graph.node {
        check_node(node, &mut known, depth)?;
    }
    match graph.output.iter().find(|output| output.name().is_empty() || !known.contains(output.name())) {
        Some(output) => Err(invalid(format!("nothing computes the graph's output `{}`", output.name()))),
        None => Ok(()),
    }
}

/// Checks a node and adds its outputs to the known values.
fn check_node<'a>(node: &'a NodeProto, known: &mut HashSet<&'a str>, depth: usize) -> Result<()> {
    let at = || format!("node `{}` ({})", node.name(), node.qualified_op());
    if node.op_type().is_empty() {
        return Err(invalid(format!("{} names no operator", at())));
    }
    if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !known.contains(name.as_str())) {
        return Err(invalid(format!("{} uses `{name}`, which nothing before it computes", at())));
    }
    for attribute in &node.attribute {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor).map_err(|error| error.while_doing(format!("read {}", at())))?;
        }
        for tensor in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
            check_sparse(tensor).map_err(|error| error.while_doing(format!("read {}", at())))?;
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            check_graph(graph, known, depth + 1)?;
        }
    }
    for name in node.output.iter().filter(|name| !name.is_empty()) {
        if !known.insert(name) {
            return Err(invalid(format!("{} computes `{name}` a second time", at())));
        }
    }
    Ok(())
}

fn check_sparse(tensor: &SparseTensorProto) -> Result<()> {
    tensor.values.iter().chain(&tensor.indices).try_for_each(check_tensor)
}

/// A constant must lie in the file, whole.
fn check_tensor(tensor: &TensorProto) -> Result<()> {
    let name = tensor.name();
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        let message = format!("constant `{name}` keeps its values in another file");
        return Err(Error::new(Code::UnsupportedModel, message)
            .hint("Save the model with its weights inside, e.g. `onnx.save(model, path, save_as_external_data=False)`."));
    }
    if tensor.segment.is_some() {
        return Err(Error::new(
            Code::UnsupportedModel,
            format!("constant `{name}` is a segment of a larger one"),
        ));
    }
    let dims = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>();
    let count = dims
        .and_then(|dims| crate::tensor::element_count(&dims))
        .ok_or_else(|| invalid(format!("constant `{name}` has the impossible shape {:?}", tensor.dims)))?;
    let data_type = DataType::try_from(tensor.data_type())
        .ok()
        .filter(|data_type| *data_type != DataType::Undefined)
        .ok_or_else(|| invalid(format!("constant `{name}` has no known element type")))?;
    let (stored, wanted, unit) = stored(tensor, data_type, count);
    if wanted != Some(stored) {
        return Err(invalid(format!(
            "constant `{name}` of shape {:?} has {stored} {unit}: cut short",
            tensor.dims
        )));
    }
    // Anything but 0 and 1 in a bool is undefined where a run-time hands it on as one.
    if data_type == DataType::Bool
        && tensor.raw_data.as_ref().is_some_and(|raw| raw.iter().any(|&byte| byte > 1))
    {
        return Err(invalid(format!("constant `{name}` has a bool that is neither 0 nor 1")));
    }
    Ok(())
}

/// What is stored, what `count` elements take (`None` when that overflows), and the unit of both.
fn stored(tensor: &TensorProto, data_type: DataType, count: usize) -> (usize, Option<usize>, &'static str) {
    use DataType as T;
    if let Some(raw) = &tensor.raw_data {
        let bits = match data_type {
            // Strings have no raw form.
            T::String | T::Undefined => return (raw.len(), None, "raw bytes"),
            T::Uint2 | T::Int2 => 2,
            T::Uint4 | T::Int4 | T::Float4e2m1 => 4,
            T::Float16 | T::Bfloat16 | T::Int16 | T::Uint16 => 16,
            T::Float | T::Int32 | T::Uint32 => 32,
            T::Double | T::Int64 | T::Uint64 | T::Complex64 => 64,
            T::Complex128 => 128,
            _ => 8,
        };
        return (raw.len(), count.checked_mul(bits).map(|bits| bits.div_ceil(8)), "raw bytes");
    }
    let (stored, wanted) = match data_type {
        T::Float => (tensor.float_data.len(), Some(count)),
        T::Complex64 => (tensor.float_data.len(), count.checked_mul(2)),
        T::Double => (tensor.double_data.len(), Some(count)),
        T::Complex128 => (tensor.double_data.len(), count.checked_mul(2)),
        T::Int64 => (tensor.int64_data.len(), Some(count)),
        T::Uint64 | T::Uint32 => (tensor.uint64_data.len(), Some(count)),
        T::String => (tensor.string_data.len(), Some(count)),
        T::Uint4 | T::Int4 | T::Float4e2m1 => (tensor.int32_data.len(), Some(count.div_ceil(2))),
        T::Uint2 | T::Int2 => (tensor.int32_data.len(), Some(count.div_ceil(4))),
        _ => (tensor.int32_data.len(), Some(count)),
    };
    (stored, wanted, "values")
}

#[cfg(test)]
mod tests;
