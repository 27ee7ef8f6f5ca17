//! Whether 64-bit integers and bools survive rten, which keeps both as 32-bit integers.
//!
//! Values from outside are checked to fit when a graph is run. In between, moving and comparing them is
//! exact, and so is arithmetic on shapes and indices, which memory bounds. What is refused: constants
//! that do not fit, arithmetic that can leave 32 bits, and a cast to bool, which would keep a 2 a 2.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result};

use super::proto::{DataType, GraphProto, NodeProto, TensorProto};

/// Constants up to this size count as narrow: two of them still multiply without overflow.
const NARROW_MAX: u64 = 1 << 15;

/// What is known about the integers of a value; the order is "may be larger than".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// No 64-bit integers or bools: a type rten computes as it is.
    Native,
    /// 0 or 1: bools, and what is cast from them.
    Bit,
    /// Lengths, indices, small constants, and arithmetic on them.
    Narrow,
    /// Any 64-bit integer that fits in 32 bits when it arrives.
    Wide,
    /// Cast from a floating point number: it may not even fit when it arises.
    FromFloat,
}

type Classes<'a> = HashMap<&'a str, Class>;

/// Checks a graph.
///
/// # Errors
/// `UnsupportedModel` that names the node and the reason.
pub(super) fn check(graph: &GraphProto) -> Result<()> {
    let classes = walk(graph, &Classes::new(), &[])?;
    for output in &graph.output {
        if classes.get(output.name()) == Some(&Class::FromFloat) {
            let message = format!(
                "output `{}` is a 64-bit integer cast from a floating point number, which rten would cut at 32 bits",
                output.name()
            );
            return Err(Error::new(Code::UnsupportedModel, message));
        }
    }
    Ok(())
}

/// Classes of all values of a graph that sees `outer` and is fed `fed` in the order of its inputs.
fn walk<'a>(graph: &'a GraphProto, outer: &Classes<'a>, fed: &[Class]) -> Result<Classes<'a>> {
    let mut classes = outer.clone();
    for (index, input) in graph.input.iter().enumerate() {
        let declared = match input.tensor_type().map(|tensor| tensor.elem_type()) {
            Some(data_type) if data_type == DataType::Int64 as i32 => Class::Wide,
            Some(data_type) if data_type == DataType::Bool as i32 => Class::Bit,
            _ => Class::Native,
        };
        classes.insert(input.name(), fed.get(index).copied().unwrap_or(declared));
    }
    for tensor in &graph.initializer {
        let class = constant(tensor.name(), tensor, || only_clamped(graph, tensor.name()))?;
        classes.insert(tensor.name(), class);
    }
    for node in &graph.node {
        step(node, graph, &mut classes)?;
    }
    Ok(classes)
}

/// Class of a constant. One outside 32 bits is allowed where every use `clamped` it anyway.
fn constant(name: &str, tensor: &TensorProto, clamped: impl Fn() -> bool) -> Result<Class> {
    if tensor.data_type() == DataType::Bool as i32 {
        return Ok(Class::Bit);
    }
    let Some(values) = tensor.to_i64() else { return Ok(Class::Native) };
    if let Some(value) = values.iter().find(|&&value| i32::try_from(value).is_err())
        && !clamped()
    {
        let message = format!("constant `{name}` holds {value}, and rten counts in 32 bits");
        return Err(Error::new(Code::UnsupportedModel, message));
    }
    let largest = values.iter().map(|value| value.unsigned_abs()).max().unwrap_or_default();
    Ok(if largest <= NARROW_MAX { Class::Narrow } else { Class::Wide })
}

/// Whether a constant is used only as the bounds of slices, which are clamped to the tensor: exporters
/// write the largest integer for "to the end".
fn only_clamped(graph: &GraphProto, name: &str) -> bool {
    let clamps = |node: &NodeProto| {
        let slice = node.op_type() == "Slice";
        let mut inputs = node.input.iter().enumerate();
        let mut inner =
            node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        inputs.all(|(index, input)| input != name || slice && matches!(index, 1 | 2))
            && inner.all(|graph| only_clamped(graph, name))
    };
    graph.node.iter().all(clamps) && graph.output.iter().all(|output| output.name() != name)
}

/// Classifies the outputs of a node.
fn step<'a>(node: &'a NodeProto, graph: &GraphProto, classes: &mut Classes<'a>) -> Result<()> {
    let class_of = |name: &String| classes.get(name.as_str()).copied().unwrap_or(Class::Native);
    let inputs: Vec<Class> = node.input.iter().map(class_of).collect();
    let at = |index: usize| inputs.get(index).copied().unwrap_or(Class::Native);
    let largest = |indices: &[usize]| indices.iter().map(|&index| at(index)).max().unwrap_or(Class::Native);
    let all = inputs.iter().copied().max().unwrap_or(Class::Native);
    let refuse = |why: &str| {
        let message = format!("node `{}` ({}): {why}", node.name(), node.qualified_op());
        Err(Error::new(Code::UnsupportedModel, message))
    };
    let outputs = match node.op_type() {
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not"
        | "IsNaN" | "IsInf" | "EyeLike" => vec![Class::Bit],
        "Shape" | "Size" | "NonZero" | "SequenceLength" => vec![Class::Narrow],
        "TopK" => vec![at(0), Class::Narrow],
        "Constant" => vec![constant_node(node, graph)?],
        "ConstantOfShape" => {
            let value = node.attr("value").and_then(|attribute| attribute.t.as_ref());
            vec![value.map_or(Ok(Class::Native), |tensor| constant(node.name(), tensor, || false))?]
        }
        "Cast" | "CastLike" => {
            let to = cast_target(node, at(1));
            match (to, at(0)) {
                (Class::Bit, from) if from != Class::Bit => {
                    return refuse("rten casts to bool by keeping the number");
                }
                (Class::Native, _) => vec![Class::Native],
                (Class::Wide, Class::Native) => vec![Class::FromFloat],
                (_, from) => vec![from],
            }
        }
        "Add" | "Sub" | "Mul" | "Pow" | "Sum" | "Mean" | "ReduceSum" | "ReduceProd" | "ReduceMean"
        | "ReduceSumSquare" | "ReduceL1" | "CumSum" | "MatMul" | "Gemm" | "Einsum" => {
            // The axes of reductions are no operands.
            let operands =
                if node.op_type().starts_with("Reduce") || node.op_type() == "CumSum" { at(0) } else { all };
            if operands >= Class::Wide {
                return refuse("rten computes 64-bit integers in 32 bits, and the result may not fit");
            }
            vec![if operands == Class::Native { Class::Native } else { Class::Narrow }]
        }
        "Where" => vec![largest(&[1, 2])],
        "OneHot" => vec![at(2)],
        "ScatterND" | "ScatterElements" | "Scatter" => {
            let values = largest(&[0, 2]);
            let reduces =
                !matches!(node.attr("reduction").map_or("", |attribute| attribute.text()), "" | "none");
            if reduces && values >= Class::Wide {
                return refuse("rten computes 64-bit integers in 32 bits, and the result may not fit");
            }
            vec![values]
        }
        "Pad" => vec![largest(&[0, 2])],
        "Concat" | "Min" | "Max" | "Clip" | "Range" | "Div" | "Mod" | "SequenceConstruct"
        | "SequenceInsert" => vec![all],
        "If" | "Loop" => branches(node, &inputs, classes)?,
        // All others hand on values of their first input, or compute in a type of their own.
        _ => vec![at(0); node.output.len()],
    };
    for (index, name) in node.output.iter().enumerate() {
        let class = outputs.get(index).or(outputs.last()).copied().unwrap_or(Class::Native);
        classes.insert(name, class);
    }
    Ok(())
}

fn constant_node(node: &NodeProto, graph: &GraphProto) -> Result<Class> {
    let name = node.output.first().map_or("", String::as_str);
    let clamped = || only_clamped(graph, name);
    let as_tensor =
        |values: &[i64]| constant(name, &TensorProto::i64(name, &[values.len() as i64], values), clamped);
    let attribute = node.attribute.first();
    match attribute.map(|attribute| (attribute.name(), attribute)) {
        Some(("value", attribute)) => {
            attribute.t.as_ref().map_or(Ok(Class::Native), |tensor| constant(name, tensor, clamped))
        }
        Some(("value_int", attribute)) => as_tensor(&[attribute.i()]),
        Some(("value_ints", attribute)) => as_tensor(&attribute.ints),
        _ => Ok(Class::Native),
    }
}

/// What a cast casts to: `Bit` a bool, `Wide` a 64-bit integer, `Native` something else.
fn cast_target(node: &NodeProto, like: Class) -> Class {
    if node.op_type() == "CastLike" {
        return if like >= Class::Narrow { Class::Wide } else { like };
    }
    let to = node.attr("to").map_or(0, |attribute| attribute.i());
    if to == DataType::Bool as i64 {
        Class::Bit
    } else if to == DataType::Int64 as i64 {
        Class::Wide
    } else {
        Class::Native
    }
}

/// Classes of the outputs of a node with subgraphs: the largest over the branches. A loop is walked a
/// second time with what its first round leaves behind.
fn branches<'a>(node: &'a NodeProto, inputs: &[Class], classes: &Classes<'a>) -> Result<Vec<Class>> {
    let is_loop = node.op_type() == "Loop";
    let mut outputs = vec![Class::Native; node.output.len()];
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        let mut fed: Vec<Class> = Vec::new();
        if is_loop {
            // Iteration number, condition, then what is carried.
            fed.extend([Class::Narrow, Class::Bit]);
            fed.extend(inputs.iter().skip(2));
        }
        for _round in 0..if is_loop { 2 } else { 1 } {
            let inner = walk(graph, classes, &fed)?;
            // A loop's body also gives the condition, which is no output of the node.
            let results =
                graph.output.iter().skip(usize::from(is_loop)).map(|output| inner.get(output.name()));
            for (index, class) in results.map(|class| class.copied().unwrap_or(Class::Native)).enumerate() {
                if let Some(output) = outputs.get_mut(index) {
                    *output = (*output).max(class);
                }
                if let Some(carried) = fed.get_mut(index + 2) {
                    *carried = (*carried).max(class);
                }
            }
        }
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests;
