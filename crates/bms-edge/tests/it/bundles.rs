//! Small models in signed bundles, good ones and bad ones.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_bundle::{Bundle, Draft, Lineage, Manifest, SigningKey, TensorInfo};
use bms_data::Image;
use bms_nn::onnx::proto::{
    DataType, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters};
use bms_wire::{ImageInput, Pipeline, Postprocess, Preprocess};
use serde_json::json;

/// Side of the pictures.
const SIDE: i64 = 4;

/// A bundle's files, and its digest.
pub(crate) struct Made {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) digest: String,
}

impl Made {
    /// Hex BLAKE3 of a file.
    pub(crate) fn blake3(&self, path: &str) -> String {
        let (_, bytes) = self.files.iter().find(|(name, _)| name == path).unwrap();
        blake3::hash(bytes).to_hex().to_string()
    }
}

/// A model that answers `a` on bright pictures and `b` on dark ones, the surer the larger `scale`
/// and the further the brightness is from the middle. Infinite weights make infinite answers.
pub(crate) fn made(key: Option<&SigningKey>, name: &str, scale: f32) -> Made {
    made_with(key, name, scale, &[])
}

/// The same with further files.
pub(crate) fn made_with(key: Option<&SigningKey>, name: &str, scale: f32, more: &[(&str, &str)]) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("bundle");
    let mut draft = Draft::new(manifest(name));
    draft.add("model.onnx", model(scale)).unwrap();
    // A file all versions share, and one that makes each version's download longer.
    draft.add("README.md", "A model for tests.\n").unwrap();
    draft.add("notes/scale.txt", format!("scale {scale}\n").repeat(1000)).unwrap();
    for (path, text) in more {
        draft.add(*path, *text).unwrap();
    }
    match key {
        Some(key) => draft.write_signed(&dir, key).unwrap(),
        None => draft.write(&dir).unwrap(),
    };
    read(&dir)
}

/// The bundle in a folder.
pub(crate) fn read(dir: &Path) -> Made {
    let bundle = Bundle::open(dir).unwrap();
    let files = bundle.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
    Made { files, digest: bundle.digest() }
}

fn manifest(name: &str) -> Manifest {
    let tensor = |name: &str, shape: &[Option<usize>]| TensorInfo {
        name: name.to_owned(),
        dtype: "f32".to_owned(),
        shape: shape.to_vec(),
    };
    let side = Some(SIDE as usize);
    let input = ImageInput { width: SIDE as u32, height: SIDE as u32, mean: vec![0.5], std: vec![0.5] };
    let labels = vec!["a".to_owned(), "b".to_owned()];
    Manifest {
        schema: 1,
        name: name.to_owned(),
        task: "image-classification".to_owned(),
        model: "model.onnx".to_owned(),
        inputs: vec![tensor("image", &[None, Some(1), side, side])],
        outputs: vec![tensor("logits", &[None, Some(2)])],
        pipeline: Pipeline {
            preprocess: Preprocess::Image(input),
            postprocess: Postprocess::Classify { labels },
        },
        metrics: Vec::new(),
        lineage: Lineage::default(),
        precision: "fp32".to_owned(),
        licence: None,
        created_ms: 0,
        sealed: None,
        files: Vec::new(),
    }
}

fn model(scale: f32) -> Vec<u8> {
    let count = SIDE * SIDE;
    // Mean brightness, −1 to 1, as the logit of `a`, and its negative as that of `b`.
    let weights: Vec<f32> =
        (0..count * 2).map(|i| if i % 2 == 0 { scale } else { -scale } / count as f32).collect();
    let graph = GraphProto {
        node: vec![
            NodeProto::new("Flatten", "flatten", &["image"], &["f"]),
            NodeProto::new("Gemm", "gemm", &["f", "w", "b"], &["logits"]),
        ],
        initializer: vec![
            TensorProto::f32("w", &[count, 2], &weights),
            TensorProto::f32("b", &[2], &[0.0, 0.0]),
        ],
        input: vec![ValueInfoProto::tensor("image", DataType::Float, &[Err("n"), Ok(1), Ok(SIDE), Ok(SIDE)])],
        output: vec![ValueInfoProto::tensor("logits", DataType::Float, &[Err("n"), Ok(2)])],
        ..GraphProto::default()
    };
    ModelProto::new(graph, 17).encode_to_vec()
}

/// A PNG of this brightness, told from others of it by `number`.
pub(crate) fn picture(brightness: u8, number: u8) -> Vec<u8> {
    let mut pixels = vec![brightness; (SIDE * SIDE) as usize];
    // Two pixels that cancel out.
    pixels[0] = brightness.wrapping_add(number % 100);
    pixels[1] = brightness.wrapping_sub(number % 100);
    Image::new(SIDE as u32, SIDE as u32, 1, pixels).unwrap().encode_png().unwrap()
}

/// A picture every model here is sure about, and one none is.
pub(crate) fn easy(number: u8) -> Vec<u8> {
    picture(if number.is_multiple_of(2) { 250 } else { 5 }, number % 5)
}

pub(crate) fn hard(number: u8) -> Vec<u8> {
    picture(128, number)
}

pub(crate) fn question(pictures: &[Vec<u8>]) -> InferRequest {
    let data: Vec<String> = pictures.iter().map(|picture| STANDARD.encode(picture)).collect();
    InferRequest {
        id: Some("q".to_owned()),
        parameters: Parameters::new(),
        inputs: vec![InferTensor {
            name: "image".to_owned(),
            shape: vec![pictures.len() as i64],
            datatype: Datatype::Bytes,
            parameters: Parameters::new(),
            data: json!(data),
        }],
        outputs: Vec::new(),
    }
}
