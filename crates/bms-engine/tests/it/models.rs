//! Small graphs in signed bundles.

use bms_bundle::{Bundle, Draft, Lineage, Manifest, Policy, SigningKey, TensorInfo, Verified};
use bms_data::Image;
use bms_engine::{Engine, EngineOptions};
use bms_nn::onnx::proto::{
    AttributeProto, DataType, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use bms_nn::onnx::{RuntimeChoice, RuntimeKind};
use bms_wire::{ImageInput, Pipeline, Postprocess, Preprocess, Result, TableInput};

/// Side of the pictures.
pub(crate) const SIDE: usize = 8;

pub(crate) fn options() -> EngineOptions {
    EngineOptions { runtime: RuntimeChoice::Fixed(RuntimeKind::Rten), ..EngineOptions::default() }
}

/// The bytes of a graph.
pub(crate) fn encode(graph: GraphProto) -> Vec<u8> {
    ModelProto::new(graph, 17).encode_to_vec()
}

fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect()
}

/// `logits = gemm(flatten(relu(conv(image))))`: `[n, 1, 8, 8]` to `[n, 3]`.
pub(crate) fn picture_graph() -> GraphProto {
    let side = SIDE as i64;
    GraphProto {
        node: vec![
            NodeProto::new("Conv", "conv", &["image", "k", "kb"], &["c"])
                .with(AttributeProto::ints("kernel_shape", &[3, 3]))
                .with(AttributeProto::ints("pads", &[1, 1, 1, 1])),
            NodeProto::new("Relu", "relu", &["c"], &["r"]),
            NodeProto::new("Flatten", "flatten", &["r"], &["f"]),
            NodeProto::new("Gemm", "gemm", &["f", "w", "b"], &["logits"]),
        ],
        initializer: vec![
            TensorProto::f32("k", &[4, 1, 3, 3], &weights(36)),
            TensorProto::f32("kb", &[4], &weights(4)),
            TensorProto::f32("w", &[4 * side * side, 3], &weights(4 * SIDE * SIDE * 3)),
            TensorProto::f32("b", &[3], &[0.1, -0.1, 0.0]),
        ],
        input: vec![ValueInfoProto::tensor("image", DataType::Float, &[Err("n"), Ok(1), Ok(side), Ok(side)])],
        output: vec![ValueInfoProto::tensor("logits", DataType::Float, &[Err("n"), Ok(3)])],
        ..GraphProto::default()
    }
}

/// `logits = op(x)` with `x: [n, 2]`, for tables.
pub(crate) fn table_graph(node: NodeProto) -> GraphProto {
    GraphProto {
        node: vec![node],
        input: vec![ValueInfoProto::tensor("x", DataType::Float, &[Err("n"), Ok(2)])],
        output: vec![ValueInfoProto::tensor("logits", DataType::Float, &[Err("n"), Ok(2)])],
        ..GraphProto::default()
    }
}

pub(crate) fn picture_input() -> ImageInput {
    ImageInput { width: SIDE as u32, height: SIDE as u32, mean: vec![0.5], std: vec![0.25] }
}

fn classify(labels: &[&str]) -> Postprocess {
    Postprocess::Classify { labels: labels.iter().map(|&label| label.to_owned()).collect() }
}

pub(crate) fn picture_pipeline() -> Pipeline {
    Pipeline { preprocess: Preprocess::Image(picture_input()), postprocess: classify(&["a", "b", "c"]) }
}

pub(crate) fn table_pipeline() -> Pipeline {
    let columns = vec!["height".to_owned(), "weight".to_owned()];
    let table = TableInput { columns, mean: vec![1.0, 2.0], std: vec![0.5, 2.0] };
    Pipeline { preprocess: Preprocess::Table(table), postprocess: classify(&["low", "high"]) }
}

pub(crate) fn tensor_pipeline() -> Pipeline {
    Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} }
}

/// Writes, signs and verifies a bundle with this model file: the way every model takes.
pub(crate) fn verified(pipeline: Pipeline, model: Vec<u8>) -> Verified {
    verified_with(pipeline, model, Vec::new())
}

/// The same, with further files.
pub(crate) fn verified_with(pipeline: Pipeline, model: Vec<u8>, files: Vec<(&str, Vec<u8>)>) -> Verified {
    let tensor = |name: &str| TensorInfo { name: name.into(), dtype: "f32".into(), shape: vec![None, None] };
    let manifest = Manifest {
        schema: 1,
        name: "small".into(),
        task: pipeline.task().into(),
        model: "model.onnx".into(),
        inputs: vec![tensor("x")],
        outputs: vec![tensor("logits")],
        pipeline,
        metrics: vec![],
        lineage: Lineage::default(),
        precision: "fp32".into(),
        licence: None,
        created_ms: 0,
        sealed: None,
        files: vec![],
    };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let key = SigningKey::generate();
    let mut draft = Draft::new(manifest);
    draft.add("model.onnx", model).unwrap();
    for (path, bytes) in files {
        draft.add(path, bytes).unwrap();
    }
    draft.write_signed(&dir, &key).unwrap();
    let bundle = Bundle::open(&dir).unwrap();
    Policy::trusting(key.public(), "tests").verify(bundle).map_err(|rejected| rejected.error).unwrap()
}

pub(crate) fn load(pipeline: Pipeline, graph: GraphProto, options: &EngineOptions) -> Result<Engine> {
    Engine::load(verified(pipeline, encode(graph)), options)
}

/// A picture unlike its neighbours in the sequence.
pub(crate) fn picture(index: usize) -> Image {
    let pixels = (0..SIDE * SIDE).map(|i| ((i * (index + 3) * 29 + index * 71) % 256) as u8).collect();
    Image::new(SIDE as u32, SIDE as u32, 1, pixels).unwrap()
}
