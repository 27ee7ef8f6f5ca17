//! The trained network as an ONNX graph.

use bms_nn::onnx::proto::{
    AttributeProto, DataType, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use bms_wire::{Code, Error, Result};

use crate::network::Network;
use crate::network::design::Layer;

/// Name of the graph's input, `[batch, …]`.
pub const INPUT: &str = "input";
/// Name of the graph's output, `[batch, labels]`.
pub const OUTPUT: &str = "logits";

/// The first format and operator set that have everything used here, so that old run-times read it too.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// The bytes of `model.onnx`: the same layers with the same weights; dropout, which does nothing outside
/// training, is left out.
pub(crate) fn to_onnx(network: &Network, name: &str, labels: usize) -> Result<Vec<u8>> {
    let mut graph = GraphProto { name: Some(name.into()), ..GraphProto::default() };
    let mut parameters = network.values()?.into_iter();
    let layers: Vec<Layer> =
        network.layers().iter().copied().filter(|layer| !matches!(layer, Layer::Dropout { .. })).collect();
    let mut flow = INPUT.to_owned();
    for (idx, layer) in layers.iter().enumerate() {
        let kind = kind(*layer);
        let id = format!("{kind}{idx}").to_lowercase();
        let to = if idx + 1 == layers.len() { OUTPUT.to_owned() } else { format!("{id}_out") };
        let mut inputs = vec![flow.clone()];
        if matches!(layer, Layer::Conv { .. } | Layer::Linear { .. }) {
            let values = parameters
                .next()
                .ok_or_else(|| Error::new(Code::Internal, format!("layer {idx} has no parameters")))?;
            for (part, values) in [("weight", values.weight), ("bias", values.bias)] {
                let tensor = format!("{id}.{part}");
                let dims: Vec<i64> = values.shape.iter().map(|&dim| dim as i64).collect();
                graph.initializer.push(TensorProto::f32(&tensor, &dims, &values.data));
                inputs.push(tensor);
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut node = NodeProto::new(kind, &id, &inputs, &[&to]);
        node.attribute = attributes(*layer);
        graph.node.push(node);
        flow = to;
    }
    let dims: Vec<std::result::Result<i64, &str>> = std::iter::once(Err("batch"))
        .chain(network.input().dims().into_iter().map(|dim| Ok(dim as i64)))
        .collect();
    graph.input = vec![ValueInfoProto::tensor(INPUT, DataType::Float, &dims)];
    graph.output = vec![ValueInfoProto::tensor(OUTPUT, DataType::Float, &[Err("batch"), Ok(labels as i64)])];
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("bms".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

fn kind(layer: Layer) -> &'static str {
    match layer {
        Layer::Conv { .. } => "Conv",
        Layer::Relu => "Relu",
        Layer::MaxPool => "MaxPool",
        Layer::Flatten => "Flatten",
        Layer::Dropout { .. } => "Dropout",
        Layer::Linear { .. } => "Gemm",
    }
}

fn attributes(layer: Layer) -> Vec<AttributeProto> {
    match layer {
        Layer::Conv { .. } => vec![
            AttributeProto::ints("kernel_shape", &[3, 3]),
            AttributeProto::ints("pads", &[1, 1, 1, 1]),
            AttributeProto::ints("strides", &[1, 1]),
        ],
        Layer::MaxPool => {
            vec![AttributeProto::ints("kernel_shape", &[2, 2]), AttributeProto::ints("strides", &[2, 2])]
        }
        Layer::Flatten => vec![AttributeProto::int("axis", 1)],
        Layer::Relu | Layer::Dropout { .. } | Layer::Linear { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
