//! The layers of a graph that can be computed in eight bits.

use std::collections::{HashMap, HashSet};

use bms_nn::onnx::proto::{DataType, GraphProto, NodeProto, TensorProto};

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 2-D convolution; weights `[out, in / groups, height, width]`.
    Conv,
    /// `Gemm` or `MatMul` with a constant second operand; weights brought to `[in, out]`.
    Matrix,
}

/// One layer: a node with constant weights.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Its place among the graph's nodes.
    pub(crate) node_idx: usize,
    /// Its name, or its output's.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The activation it reads.
    pub(crate) input: String,
    /// The activation it writes.
    pub(crate) output: String,
    /// Dimensions of `weights`.
    pub(crate) dims: Vec<i64>,
    /// The weights, `alpha` of a `Gemm` multiplied in.
    pub(crate) weights: Vec<f32>,
    /// One per output channel, `beta` multiplied in; zeros when there is none.
    pub(crate) bias: Vec<f32>,
}

impl Layer {
    /// Number of output channels.
    pub(crate) fn channels(&self) -> usize {
        self.bias.len()
    }

    /// The output channel of the weight at `idx`.
    pub(crate) fn channel_of(&self, idx: usize) -> usize {
        match self.kind {
            Kind::Conv => idx / (self.weights.len() / self.channels()),
            Kind::Matrix => idx % self.channels(),
        }
    }
}

/// Every layer of the graph that can be computed in eight bits, in the graph's order.
pub(crate) fn find(graph: &GraphProto) -> Vec<Layer> {
    let constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
    graph.node.iter().enumerate().filter_map(|(idx, node)| layer(idx, node, &constants)).collect()
}

fn layer(node_idx: usize, node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Option<Layer> {
    let input = node.input.first()?;
    if constants.contains_key(input.as_str()) {
        return None;
    }
    let weights = Constant::read(constants.get(node.input.get(1)?.as_str())?)?;
    let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => Some(Constant::read(constants.get(name.as_str())?)?),
        None => None,
    };
    let (kind, weights, bias) = match node.qualified_op().as_str() {
        "Conv" => conv(weights, bias)?,
        "Gemm" => gemm(node, weights, bias)?,
        "MatMul" if weights.dims.len() == 2 => {
            let channels = *weights.dims.last()? as usize;
            (Kind::Matrix, weights, vec![0.0; channels])
        }
        _ => return None,
    };
    let output = node.output.first()?.clone();
    let name = if node.name().is_empty() { output.clone() } else { node.name().to_owned() };
    let layer = Layer {
        node_idx,
        name,
        kind,
        input: input.clone(),
        output,
        dims: weights.dims,
        weights: weights.values,
        bias,
    };
    let sound = !layer.weights.is_empty() && layer.weights.iter().chain(&layer.bias).all(|v| v.is_finite());
    sound.then_some(layer)
}

fn conv(weights: Constant, bias: Option<Constant>) -> Option<(Kind, Constant, Vec<f32>)> {
    let [channels, _, _, _] = weights.dims[..] else { return None };
    let channels = channels as usize;
    let bias = bias.map_or_else(|| vec![0.0; channels], |bias| bias.values);
    (bias.len() == channels).then_some((Kind::Conv, weights, bias))
}

fn gemm(
    node: &NodeProto,
    mut weights: Constant,
    bias: Option<Constant>,
) -> Option<(Kind, Constant, Vec<f32>)> {
    let int = |name: &str| node.attr(name).and_then(|attribute| attribute.i).unwrap_or(0);
    let float = |name: &str| node.attr(name).and_then(|attribute| attribute.f).unwrap_or(1.0);
    if int("transA") != 0 || weights.dims.len() != 2 {
        return None;
    }
    if int("transB") != 0 {
        weights = weights.transposed();
    }
    let alpha = float("alpha");
    weights.values.iter_mut().for_each(|weight| *weight *= alpha);
    let channels = weights.dims[1] as usize;
    let bias = match bias {
        None => vec![0.0; channels],
        Some(bias) if bias.values.len() == 1 => vec![bias.values[0] * float("beta"); channels],
        // One value per column; a bias per row, or a whole matrix, has no place in the integer form.
        Some(bias) if bias.values.len() == channels && bias.dims.last() == Some(&(channels as i64)) => {
            bias.values.iter().map(|value| value * float("beta")).collect()
        }
        Some(_) => return None,
    };
    Some((Kind::Matrix, weights, bias))
}

/// A constant of 32-bit floating point numbers.
struct Constant {
    dims: Vec<i64>,
    values: Vec<f32>,
}

impl Constant {
    fn read(tensor: &TensorProto) -> Option<Constant> {
        if tensor.data_type() != DataType::Float as i32 {
            return None;
        }
        let values = tensor.to_f32()?;
        let count = tensor.dims.iter().try_fold(1_i64, |count, &dim| count.checked_mul(dim))?;
        (usize::try_from(count).ok()? == values.len()).then(|| Constant { dims: tensor.dims.clone(), values })
    }

    /// Of two dimensions.
    fn transposed(self) -> Constant {
        let (rows, columns) = (self.dims[0] as usize, self.dims[1] as usize);
        let at = |idx: usize| self.values[idx % rows * columns + idx / rows];
        Constant { dims: vec![columns as i64, rows as i64], values: (0..rows * columns).map(at).collect() }
    }
}

/// Every value name some node of the graph reads, those of nested graphs too, and the graph's outputs.
pub(crate) fn names_read(graph: &GraphProto) -> HashSet<String> {
    let mut names: HashSet<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    for node in &graph.node {
        names.extend(node.input.iter().cloned());
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|nested| names.extend(names_read(nested)));
        }
    }
    names
}

#[cfg(test)]
mod tests;
