//! What a run-time would accept and compute wrong, refused before it is loaded.
//!
//! The table is kept short by naming causes, not cases. Each cause was found by the ONNX backend test
//! suite, by comparing the two run-times, or by reading the run-time's source; the conformance test
//! proves that none is missing among the suite's cases.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result};

use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use super::signature::{Signature, dtype, type_name};
use super::{RuntimeKind, wide};
use crate::DType;

/// First operator set whose broadcasting rten follows.
const RTEN_OPSET_MIN: i64 = 7;
/// Last operator set rten 0.27 was written against.
const RTEN_OPSET_MAX: i64 = 26;

/// A node and what is known about the values around it.
struct Site<'a> {
    node: &'a NodeProto,
    opset: i64,
    facts: &'a Facts<'a>,
}

/// What is known about the values of a graph and the graphs around it, by name.
#[derive(Clone, Default)]
struct Facts<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    ranks: HashMap<&'a str, usize>,
}

/// One cause of refusal.
struct Rule {
    operators: &'static [&'static str],
    why: &'static str,
    applies: fn(&Site<'_>) -> bool,
}

/// Operators that draw random numbers: the same request would get another answer each time, on each
/// path, and no run-time's answer could be checked against another's.
const RANDOM: Rule = Rule {
    operators: &[
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "Dropout",
    ],
    why: "draws random numbers, so no two answers would agree",
    applies: |site| site.node.op_type() != "Dropout" || site.may_train(),
};

const RTEN: &[Rule] = &[
    RANDOM,
    Rule {
        operators: &["ArgMax", "ArgMin"],
        why: "takes the last of equal values where the specification takes the first",
        applies: |_| true,
    },
    Rule { operators: &["Sign"], why: "gives 1 for zero", applies: |_| true },
    Rule { operators: &["Softplus"], why: "overflows to infinity above 88", applies: |_| true },
    Rule {
        operators: &["NonMaxSuppression"],
        why: "suppresses boxes across classes and batches",
        applies: |_| true,
    },
    Rule {
        operators: &["DynamicQuantizeLinear"],
        why: "rounds some values to the neighbouring step",
        applies: |_| true,
    },
    Rule {
        operators: &["Resize"],
        why: "replaces cubic by linear interpolation",
        applies: |site| site.text("mode") == "cubic",
    },
    Rule {
        operators: &["Resize"],
        why: "misplaces corners when a fractional scale is aligned to them",
        applies: |site| site.aligns_fractional_scale(),
    },
    Rule {
        operators: &["LSTM", "GRU"],
        why: "ignores the sequences' lengths",
        applies: |site| site.has_input(4),
    },
    Rule {
        operators: &["GRU"],
        why: "has no linear_before_reset=0",
        applies: |site| site.int("linear_before_reset", 0) == 0,
    },
    Rule {
        operators: &["MatMul", "MatMulInteger"],
        why: "gives a batch multiplied by a vector one dimension too many",
        applies: |site| site.rank(1) == Some(1) && site.rank(0).is_none_or(|rank| rank > 2),
    },
    Rule {
        operators: &["Softmax", "LogSoftmax"],
        why: "normalises one axis where operator sets before 13 normalise all axes from it on",
        applies: |site| site.opset < 13 && !site.last_axis_is(site.int("axis", 1)),
    },
    Rule {
        operators: &["QuantizeLinear"],
        why: "takes the last axis where the specification's default is the second",
        applies: |site| site.attr("axis").is_none() && !site.is_single(1) && site.rank(0) != Some(2),
    },
    Rule {
        operators: &["Conv", "ConvTranspose", "ConvInteger", "MaxPool", "AveragePool"],
        why: "pads at the end where SAME_LOWER pads at the beginning",
        applies: |site| site.text("auto_pad") == "SAME_LOWER",
    },
    Rule {
        operators: &["Conv", "ConvTranspose", "ConvInteger"],
        why: "needs kernel_shape",
        applies: |site| site.attr("kernel_shape").is_none(),
    },
    Rule {
        operators: &["ConvInteger"],
        why: "pads with zero instead of the zero point",
        applies: |site| {
            let padded = site.attr("pads").is_some_and(|pads| pads.ints.iter().any(|&pad| pad != 0));
            padded || site.text("auto_pad").starts_with("SAME")
        },
    },
    Rule {
        operators: &["ConvInteger"],
        why: "misreads a zero point of the weights when the batch has several rows",
        applies: |site| site.has_input(3),
    },
    Rule { operators: &["BitCast"], why: "keeps 64-bit integers and bools in 32 bits", applies: |_| true },
    Rule { operators: &["Pad"], why: "has no axes input", applies: |site| site.has_input(3) },
];

const ONNXRUNTIME: &[Rule] = &[
    RANDOM,
    Rule {
        operators: &["Attention"],
        why: "gives the scores of the wrong stage in qk_matmul_output",
        applies: |site| {
            site.node.output.get(3).is_some_and(|name| !name.is_empty())
                && matches!(site.int("qk_matmul_output_mode", 0), 1 | 2)
        },
    },
    Rule {
        operators: &["MaxUnpool"],
        why: "misreads the indices when an output shape is given",
        applies: |site| site.has_input(2),
    },
    Rule {
        operators: &["Resize"],
        why: "misplaces corners when a fractional scale is aligned to them",
        applies: |site| site.aligns_fractional_scale(),
    },
];

impl<'a> Site<'a> {
    fn attr(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attr(name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attr(name).map_or(default, |attribute| attribute.i())
    }

    fn text(&self, name: &str) -> &'a str {
        self.attr(name).map_or("", |attribute| attribute.text())
    }

    fn input(&self, index: usize) -> Option<&'a str> {
        self.node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn has_input(&self, index: usize) -> bool {
        self.input(index).is_some()
    }

    fn constant(&self, index: usize) -> Option<&'a TensorProto> {
        self.facts.constants.get(self.input(index)?).copied()
    }

    fn rank(&self, index: usize) -> Option<usize> {
        self.facts.ranks.get(self.input(index)?).copied()
    }

    /// Whether this axis of the first input is known to be its last.
    fn last_axis_is(&self, axis: i64) -> bool {
        axis == -1 || self.rank(0).is_some_and(|rank| axis == rank as i64 - 1)
    }

    /// Whether an input is a constant of one element.
    fn is_single(&self, index: usize) -> bool {
        self.constant(index).is_some_and(|tensor| tensor.dims.iter().product::<i64>() == 1)
    }

    /// Whether a Dropout may be in training mode: it has that input, and it is not a constant false.
    fn may_train(&self) -> bool {
        let off = |tensor: &TensorProto| {
            tensor.raw_data.iter().flatten().all(|&byte| byte == 0)
                && tensor.int32_data.iter().all(|&value| value == 0)
        };
        self.has_input(2) && !self.constant(2).is_some_and(off)
    }

    /// Whether a Resize aligns corners by scales that are not known to be whole. The specification then
    /// aligns to the fractional length, both run-times to the length after rounding.
    fn aligns_fractional_scale(&self) -> bool {
        let whole = |tensor: &TensorProto| {
            tensor.to_f32().is_some_and(|scales| scales.iter().all(|scale| scale.fract() == 0.0))
        };
        self.text("coordinate_transformation_mode") == "align_corners"
            && matches!(self.text("mode"), "linear" | "cubic")
            && !self.has_input(3)
            && !self.constant(2).is_some_and(whole)
    }
}

/// Checks a model for a run-time.
///
/// # Errors
/// `UnsupportedModel` that names the node and the reason.
pub(super) fn check(kind: RuntimeKind, model: &ModelProto, signature: &Signature) -> Result<()> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let opset =
        model.opset_import.iter().find(|set| default_domain(set.domain())).map_or(1, |set| set.version());
    let rules = match kind {
        RuntimeKind::Rten => RTEN,
        RuntimeKind::OnnxRuntime => ONNXRUNTIME,
    };
    if kind == RuntimeKind::Rten {
        check_rten_model(model, signature, opset)?;
        wide::check(graph)?;
    }
    let mut checker = Checker { kind, rules, opset };
    for function in &model.functions {
        checker.nodes(&function.node, &mut Facts::default())?;
    }
    checker.graph(graph, &Facts::default())
}

fn default_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// What rten lacks that no single node shows.
fn check_rten_model(model: &ModelProto, signature: &Signature, opset: i64) -> Result<()> {
    if !(RTEN_OPSET_MIN..=RTEN_OPSET_MAX).contains(&opset) {
        let message = format!(
            "the model is written for operator set {opset}; rten follows {RTEN_OPSET_MIN} to {RTEN_OPSET_MAX}"
        );
        return Err(Error::new(Code::UnsupportedModel, message));
    }
    if let Some(function) = model.functions.first() {
        let message = format!("the model defines the function `{}`; rten has no functions", function.name());
        return Err(Error::new(Code::UnsupportedModel, message));
    }
    for (role, spec) in
        signature.inputs.iter().map(|s| ("input", s)).chain(signature.outputs.iter().map(|s| ("output", s)))
    {
        if !rten_has(spec.dtype) {
            return Err(Error::new(
                Code::UnsupportedModel,
                format!("{role} {spec}: rten has no {}", spec.dtype),
            ));
        }
    }
    Ok(())
}

/// Element types rten computes in, bools and 64-bit integers by way of 32-bit ones.
fn rten_has(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::I64 | DType::I8 | DType::U8 | DType::Bool)
}

struct Checker<'r> {
    kind: RuntimeKind,
    rules: &'r [Rule],
    opset: i64,
}

impl Checker<'_> {
    fn graph<'a>(&mut self, graph: &'a GraphProto, outer: &Facts<'a>) -> Result<()> {
        let mut facts = outer.clone();
        if self.kind == RuntimeKind::Rten && !graph.sparse_initializer.is_empty() {
            return Err(Error::new(Code::UnsupportedModel, "rten has no sparse constants"));
        }
        for tensor in &graph.initializer {
            self.element_type(&format!("constant `{}`", tensor.name()), tensor.data_type())?;
            facts.constants.insert(tensor.name(), tensor);
            facts.ranks.insert(tensor.name(), tensor.dims.len());
        }
        for value in graph.input.iter().chain(&graph.value_info).chain(&graph.output) {
            let Some(tensor) = value.tensor_type() else { continue };
            self.element_type(&format!("value `{}`", value.name()), tensor.elem_type())?;
            if let Some(shape) = &tensor.shape {
                facts.ranks.insert(value.name(), shape.dim.len());
            }
        }
        self.nodes(&graph.node, &mut facts)
    }

    fn nodes<'a>(&mut self, nodes: &'a [NodeProto], facts: &mut Facts<'a>) -> Result<()> {
        for node in nodes {
            let operator = node.qualified_op();
            let refuse = |why: &str| {
                let message = format!("node `{}` ({operator}): {} {why}", node.name(), self.kind);
                Err(Error::new(Code::UnsupportedModel, message))
            };
            if self.kind == RuntimeKind::Rten && !default_domain(node.domain()) {
                return refuse("is not checked against operators outside the ONNX standard");
            }
            let site = Site { node, opset: self.opset, facts };
            let rule = self
                .rules
                .iter()
                .find(|rule| rule.operators.contains(&operator.as_str()) && (rule.applies)(&site));
            if let Some(rule) = rule {
                return refuse(rule.why);
            }
            self.attributes(node, facts)?;
            learn(node, facts);
        }
        Ok(())
    }

    fn attributes<'a>(&mut self, node: &'a NodeProto, facts: &Facts<'a>) -> Result<()> {
        for attribute in &node.attribute {
            let at = || format!("node `{}` ({}), `{}`", node.name(), node.qualified_op(), attribute.name());
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.element_type(&at(), tensor.data_type())?;
            }
            if self.kind == RuntimeKind::Rten && attribute.sparse_tensor.is_some() {
                return Err(Error::new(
                    Code::UnsupportedModel,
                    format!("{}: rten has no sparse constants", at()),
                ));
            }
            if matches!(attribute.name(), "to" | "dtype" | "output_dtype") && attribute.i() != 0 {
                self.element_type(&at(), attribute.i().try_into().unwrap_or(-1))?;
            }
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(graph, facts)?;
            }
        }
        Ok(())
    }

    /// rten computes f64 and f16 as f32 and would change the values; others it does not have.
    fn element_type(&self, at: &str, data_type: i32) -> Result<()> {
        if self.kind != RuntimeKind::Rten || data_type == 0 || dtype(data_type).is_some_and(rten_has) {
            return Ok(());
        }
        Err(Error::new(Code::UnsupportedModel, format!("{at}: rten has no {}", type_name(data_type))))
    }
}

/// Notes what a node tells about its outputs.
fn learn<'a>(node: &'a NodeProto, facts: &mut Facts<'a>) {
    let Some(output) = node.output.first().map(String::as_str) else { return };
    let first = node.input.first().and_then(|name| facts.ranks.get(name.as_str()).copied());
    let rank = match node.op_type() {
        "Constant" => {
            if let Some(tensor) = node.attr("value").and_then(|attribute| attribute.t.as_ref()) {
                facts.constants.insert(output, tensor);
                Some(tensor.dims.len())
            } else {
                Some(usize::from(node.attribute.iter().any(|attribute| attribute.name().ends_with('s'))))
            }
        }
        "Gemm" | "Flatten" => Some(2),
        "Shape" | "NonZero" => Some(1),
        // Shape and type stay, or the axes do.
        "Identity"
        | "Cast"
        | "Relu"
        | "LeakyRelu"
        | "Sigmoid"
        | "Tanh"
        | "Clip"
        | "Elu"
        | "Gelu"
        | "Erf"
        | "Softmax"
        | "LogSoftmax"
        | "BatchNormalization"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "Dropout"
        | "Transpose"
        | "Conv"
        | "ConvTranspose"
        | "ConvInteger"
        | "MaxPool"
        | "AveragePool"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "Concat"
        | "Slice"
        | "Pad"
        | "Resize"
        | "QuantizeLinear"
        | "DequantizeLinear" => first,
        "Reshape" => node
            .input
            .get(1)
            .and_then(|name| facts.constants.get(name.as_str()))
            .and_then(|shape| shape.dims.first())
            .and_then(|&length| usize::try_from(length).ok()),
        _ => None,
    };
    if let Some(rank) = rank {
        facts.ranks.entry(output).or_insert(rank);
    }
}

#[cfg(test)]
mod tests;
