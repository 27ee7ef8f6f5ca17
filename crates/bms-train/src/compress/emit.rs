//! The eight-bit form of a graph, chosen by measuring what ONNX Runtime 1.32 and rten 0.27 make of it.
//!
//! Convolutions are written as `QuantizeLinear → DequantizeLinear → Conv` with weights and biases behind
//! `DequantizeLinear` ("QDQ", what other quantisers write). ONNX Runtime makes one integer convolution of
//! it, two to six times as fast as the float one; rten computes it in floats. `ConvInteger` would be slower than
//! floats on the one, and rten's is wrong with padding or, from two samples on, with a zero point of weights.
//! Matrix products are written as `MatMulInteger → Cast → Mul → Add`, which both compute in integers.

use std::collections::HashMap;

use bms_nn::onnx::proto::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto};

use super::flow::Flow;
use super::layer::{Kind, Layer, names_read};
use super::range::Affine;

/// Largest magnitude of a weight: seven bits, not eight.
///
/// On x86 without VNNI both run-times multiply with `vpmaddubsw`, which adds two products of an unsigned
/// and a signed byte in 16 bits and saturates; 2 × 255 × 63 fits. With eight bits the same model would
/// answer differently on older processors. ONNX Runtime's quantiser calls this `reduce_range`.
const WEIGHT_MAX: f32 = 63.0;
/// Shares of the largest weight of a channel that are tried as its range.
const CLIPS: [f32; 7] = [1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75];
/// A bias takes at most this many steps, well inside 32 bits.
const BIAS_STEPS_MAX: f32 = (1 << 30) as f32;

/// Weights in eight bits: `real = value * scale` of the value's channel.
pub(crate) struct Weights {
    pub(crate) values: Vec<i8>,
    pub(crate) scales: Vec<f32>,
}

/// Rounds weights with one symmetric scale per output channel, chosen for the least squared error.
/// `scale_min` holds the smallest scale each channel may get.
pub(crate) fn quantise(layer: &Layer, scale_min: &[f32]) -> Weights {
    let mut largest = vec![0.0_f32; layer.channels()];
    for (idx, weight) in layer.weights.iter().enumerate() {
        let channel = &mut largest[layer.channel_of(idx)];
        *channel = channel.max(weight.abs());
    }
    let mut best = vec![(f64::INFINITY, 1.0_f32); layer.channels()];
    for clip in CLIPS {
        let scale = |channel: usize| (largest[channel] * clip / WEIGHT_MAX).max(scale_min[channel]);
        let mut errors = vec![0.0_f64; layer.channels()];
        for (idx, &weight) in layer.weights.iter().enumerate() {
            let channel = layer.channel_of(idx);
            errors[channel] += f64::from(weight - round(weight, scale(channel)) * scale(channel)).powi(2);
        }
        for (channel, error) in errors.into_iter().enumerate() {
            if error < best[channel].0 {
                best[channel] = (error, scale(channel));
            }
        }
    }
    let scales: Vec<f32> = best.into_iter().map(|(_, scale)| scale).collect();
    let value = |(idx, &weight): (usize, &f32)| round(weight, scales[layer.channel_of(idx)]) as i8;
    Weights { values: layer.weights.iter().enumerate().map(value).collect(), scales }
}

fn round(weight: f32, scale: f32) -> f32 {
    (weight / scale).round_ties_even().clamp(-WEIGHT_MAX, WEIGHT_MAX)
}

/// Builds the nodes of the eight-bit form.
pub(crate) struct Emitter {
    /// In front of every name made here; no name of the graph begins so.
    prefix: String,
    /// Activations that are bytes already: their bytes.
    bytes: HashMap<String, String>,
    /// Activations that everyone shall read from their bytes: the floats made of these.
    replaced: HashMap<String, String>,
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) constants: Vec<TensorProto>,
}

impl Emitter {
    /// For layers of `graph`.
    pub(crate) fn new(graph: &GraphProto) -> Emitter {
        let names = || {
            let values = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
            let nodes = graph.node.iter().map(NodeProto::name);
            values.map(String::as_str).chain(nodes).chain(graph.initializer.iter().map(TensorProto::name))
        };
        let mut prefix = "int8_".to_owned();
        while names().any(|name| name.starts_with(&prefix)) {
            prefix.push('_');
        }
        let (nodes, constants) = (Vec::new(), Vec::new());
        Emitter { prefix, bytes: HashMap::new(), replaced: HashMap::new(), nodes, constants }
    }

    /// A name nobody else uses.
    pub(crate) fn name(&self, of: &str, part: &str) -> String {
        format!("{}{of}_{part}", self.prefix)
    }

    /// The layer in eight bits, from its float input to `output` in floats. `node` is the layer's own.
    pub(crate) fn layer(
        &mut self,
        layer: &Layer,
        node: &NodeProto,
        input: Affine,
        bias: &[f32],
        output: &str,
    ) {
        match layer.kind {
            Kind::Conv => self.convolution(layer, node, input, bias, output),
            Kind::Matrix => self.product(layer, input, bias, output),
        }
    }

    fn convolution(&mut self, layer: &Layer, node: &NodeProto, input: Affine, bias: &[f32], output: &str) {
        let scale_min: Vec<f32> = bias
            .iter()
            .map(|bias| {
                (bias.abs() / input.scale / BIAS_STEPS_MAX).max(f32::MIN_POSITIVE / input.scale.min(1.0))
            })
            .collect();
        let weights = quantise(layer, &scale_min);
        let activation = self.floats(&layer.input, input);
        let [weight, scale, floats] =
            ["weight", "scale", "weight_floats"].map(|part| self.name(&layer.output, part));
        let [offset, step, shift] =
            ["bias", "bias_scale", "bias_floats"].map(|part| self.name(&layer.output, part));
        let channels = [layer.channels() as i64];
        let steps: Vec<f32> = weights.scales.iter().map(|scale| scale * input.scale).collect();
        let bias: Vec<i32> =
            bias.iter().zip(&steps).map(|(bias, step)| (bias / step).round_ties_even() as i32).collect();
        self.constants.extend([
            TensorProto::i8(&weight, &layer.dims, &weights.values),
            TensorProto::f32(&scale, &channels, &weights.scales),
            TensorProto::i32(&offset, &channels, &bias),
            TensorProto::f32(&step, &channels, &steps),
        ]);
        let axis = || AttributeProto::int("axis", 0);
        let mut conv = NodeProto::new("Conv", node.name(), &[&activation, &floats, &shift], &[output]);
        conv.attribute.clone_from(&node.attribute);
        if conv.attr("kernel_shape").is_none() {
            conv.attribute.push(AttributeProto::ints("kernel_shape", &layer.dims[2..]));
        }
        self.nodes.extend([
            NodeProto::new("DequantizeLinear", &floats, &[&weight, &scale], &[&floats]).with(axis()),
            NodeProto::new("DequantizeLinear", &shift, &[&offset, &step], &[&shift]).with(axis()),
            conv,
        ]);
    }

    fn product(&mut self, layer: &Layer, input: Affine, bias: &[f32], output: &str) {
        let weights = quantise(layer, &vec![f32::MIN_POSITIVE; layer.channels()]);
        let bytes = self.bytes(&layer.input, input);
        let zero = self.name(&layer.input, "zero");
        let [weight, sums, floats, scaled, shifted, scale, offset] =
            ["weight", "sums", "floats", "scaled", "shifted", "scale", "bias"]
                .map(|part| self.name(&layer.output, part));
        let channels = [layer.channels() as i64];
        let scales: Vec<f32> = weights.scales.iter().map(|scale| scale * input.scale).collect();
        self.constants.extend([
            TensorProto::i8(&weight, &layer.dims, &weights.values),
            TensorProto::f32(&scale, &channels, &scales),
            TensorProto::f32(&offset, &channels, bias),
        ]);
        let to = AttributeProto::int("to", DataType::Float as i64);
        self.nodes.extend([
            NodeProto::new("MatMulInteger", &sums, &[&bytes, &weight, &zero], &[&sums]),
            NodeProto::new("Cast", &floats, &[&sums], &[&floats]).with(to),
            NodeProto::new("Mul", &scaled, &[&floats, &scale], &[&scaled]),
            NodeProto::new("Add", &shifted, &[&scaled, &offset], &[output]),
        ]);
    }

    /// The activation as bytes; quantised once however many layers read it.
    fn bytes(&mut self, name: &str, affine: Affine) -> String {
        if let Some(bytes) = self.bytes.get(name) {
            return bytes.clone();
        }
        let [bytes, scale, zero] = ["bytes", "step", "zero"].map(|part| self.name(name, part));
        self.constants.push(TensorProto::f32(&scale, &[], &[affine.scale]));
        self.constants.push(TensorProto::u8(&zero, &[], &[affine.zero]));
        self.nodes.push(NodeProto::new("QuantizeLinear", &bytes, &[name, &scale, &zero], &[&bytes]));
        self.bytes.insert(name.to_owned(), bytes.clone());
        bytes
    }

    /// The activation as floats made of its bytes.
    fn floats(&mut self, name: &str, affine: Affine) -> String {
        if let Some(floats) = self.replaced.get(name) {
            return floats.clone();
        }
        let bytes = self.bytes(name, affine);
        let [floats, scale, zero] = ["dequantised", "step", "zero"].map(|part| self.name(name, part));
        self.nodes.push(NodeProto::new("DequantizeLinear", &floats, &[&bytes, &scale, &zero], &[&floats]));
        self.replaced.insert(name.to_owned(), floats.clone());
        floats
    }

    /// A node that stays in floats, reading what was made of bytes where there is such.
    fn keep(&mut self, node: &NodeProto) {
        let mut node = node.clone();
        for input in &mut node.input {
            if let Some(floats) = self.replaced.get(input) {
                input.clone_from(floats);
            }
        }
        self.nodes.push(node);
    }
}

/// `graph` with every layer in eight bits. `ranges` holds the activations that become bytes; constants that
/// nothing reads any more go.
pub(crate) fn eight_bit_graph(
    graph: &GraphProto,
    layers: &[Layer],
    ranges: &HashMap<String, Affine>,
    biases: &[Vec<f32>],
) -> GraphProto {
    let flow = Flow::new(graph);
    let mut emitter = Emitter::new(graph);
    let of_node: HashMap<usize, usize> =
        layers.iter().enumerate().map(|(idx, layer)| (layer.node_idx, idx)).collect();
    let requantise = |emitter: &mut Emitter, name: &str| {
        if let Some(affine) = ranges.get(name) {
            emitter.floats(name, *affine);
        }
    };
    graph.input.iter().for_each(|input| requantise(&mut emitter, input.name()));
    for (node_idx, node) in graph.node.iter().enumerate() {
        let layer = of_node.get(&node_idx).map(|&idx| (&layers[idx], &biases[idx]));
        match layer.and_then(|(layer, bias)| Some((layer, bias, ranges.get(flow.root(&layer.input))?))) {
            Some((layer, bias, input)) => emitter.layer(layer, node, *input, bias, &layer.output),
            None => emitter.keep(node),
        }
        node.output.iter().for_each(|output| requantise(&mut emitter, output));
    }
    let mut out = GraphProto { node: emitter.nodes, ..graph.clone() };
    out.initializer.extend(emitter.constants);
    let read = names_read(&out);
    let dead = |name: &str| !read.contains(name);
    out.input.retain(|input| {
        !(dead(input.name()) && graph.initializer.iter().any(|tensor| tensor.name() == input.name()))
    });
    out.initializer.retain(|tensor| !dead(tensor.name()));
    // An unread dequantisation, e.g. of an activation that only matrix products read, does no work.
    out.node
        .retain(|node| !(node.op_type() == "DequantizeLinear" && node.output.iter().all(|name| dead(name))));
    out
}

#[cfg(test)]
mod tests;
