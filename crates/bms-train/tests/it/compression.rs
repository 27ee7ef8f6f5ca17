//! Eight-bit graphs.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use bms_bundle::{Bundle, Policy, SigningKey, sign_dir};
use bms_data::Dataset;
use bms_nn::Tensor;
use bms_nn::onnx::proto::{
    AttributeProto, DataType, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use bms_nn::onnx::{LoadOptions, RuntimeChoice, RuntimeKind, load, read, runtimes};
use bms_train::{
    Architecture, Calibration, CnnSize, CompressOptions, TrainOptions, Trained, compress, train,
};
use bms_wire::{Code, ImageInput, Pipeline, Postprocess, Preprocess};

use crate::{quick, some_digits};

fn held_out() -> Dataset {
    some_digits(600..1000)
}

/// One network for all tests of this file.
fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let architecture = Architecture::Cnn { size: CnnSize::Small };
        let options = TrainOptions { architecture, epochs: 15, ..quick() };
        train(&some_digits(0..600), &options, &mut |_| ()).unwrap()
    })
}

fn available() -> Vec<RuntimeKind> {
    runtimes().into_iter().filter(|runtime| runtime.available).map(|runtime| runtime.kind).collect()
}

#[test]
fn digits_lose_no_accuracy_to_speak_of_on_any_run_time_and_with_any_calibration() {
    let (data, held_out) = (some_digits(0..600), held_out());
    for kind in available() {
        for calibration in
            [Calibration::MinMax {}, Calibration::Percentile { clipped: 0.0005 }, Calibration::LeastError {}]
        {
            let options = CompressOptions {
                calibration,
                runtime: RuntimeChoice::Fixed(kind),
                ..CompressOptions::new(0.005)
            };
            let pipeline = &trained().manifest.pipeline;
            let compressed = compress(&trained().onnx, pipeline, &data, &held_out, &options).unwrap();
            let (before, after) = (&compressed.before, &compressed.after);
            assert!(0.9 < before.accuracy);
            assert!(before.accuracy - after.accuracy <= 0.005, "{calibration:?} on {kind:?}: {after:?}");
            assert!(after.size_bytes * 3 < before.size_bytes);
            assert_eq!(after.size_bytes, compressed.onnx.len() as u64);
            assert!(0.0 < before.latency_ms && 0.0 < after.latency_ms);
            assert_eq!(compressed.layers.len(), 4);
            assert!(
                compressed.layers.iter().all(|layer| layer.relative_error < 0.03),
                "{:?}",
                compressed.layers
            );
        }
    }
}

/// The two run-times compute convolutions differently, one in integers and one in floats, so a value on the
/// edge of a step may fall either way; nothing else may differ.
#[test]
fn every_run_time_gives_the_same_answers() {
    let (data, held_out) = (some_digits(0..600), held_out());
    let pipeline = &trained().manifest.pipeline;
    let compressed =
        compress(&trained().onnx, pipeline, &data, &held_out, &CompressOptions::new(0.01)).unwrap();
    let bytes: Arc<[u8]> = Arc::from(compressed.onnx.as_slice());
    let Preprocess::Image(input) = &pipeline.preprocess else { panic!() };
    let Dataset::Images(set) = &held_out else { panic!() };
    let pictures = set.samples.iter().flat_map(|s| bms_data::preprocess_image(input, &s.image).unwrap());
    let fed = Tensor::f32(vec![set.samples.len(), 1, 8, 8], pictures.collect()).unwrap();
    let answers: Vec<Vec<f32>> = available()
        .into_iter()
        .map(|kind| {
            let options = LoadOptions { runtime: RuntimeChoice::Fixed(kind), threads: 1 };
            let mut session = load(Arc::clone(&bytes), &options).unwrap();
            session.run(vec![("input".into(), fed.clone())]).unwrap()[0].1.as_f32().unwrap().to_vec()
        })
        .collect();
    for other in &answers[1..] {
        let largest = answers[0].iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let gaps: Vec<f32> = answers[0].iter().zip(other).map(|(a, b)| (a - b).abs() / largest).collect();
        assert!(gaps.iter().all(|gap| *gap < 0.02), "{:?}", gaps.iter().fold(0.0_f32, |a, b| a.max(*b)));
        let exact = gaps.iter().filter(|gap| **gap < 1e-5).count();
        assert!(gaps.len() / 2 < exact, "{exact} of {}", gaps.len());
    }
}

#[test]
fn a_drop_over_the_allowed_is_refused() {
    let (data, held_out) = (some_digits(0..600), held_out());
    // Clipping nearly everything ruins the network.
    let options = CompressOptions {
        calibration: Calibration::Percentile { clipped: 0.45 },
        ..CompressOptions::new(0.005)
    };
    let pipeline = &trained().manifest.pipeline;
    let error = compress(&trained().onnx, pipeline, &data, &held_out, &options).unwrap_err();
    assert_eq!(error.code(), Code::QualityRefused);
    assert!(error.message().contains("0.0050"), "{error}");
    let allowed = CompressOptions { max_drop: 1.0, ..options };
    assert!(compress(&trained().onnx, pipeline, &data, &held_out, &allowed).is_ok());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (data, held_out) = (some_digits(0..300), held_out());
    let run = || {
        let options = CompressOptions::new(0.05);
        compress(&trained().onnx, &trained().manifest.pipeline, &data, &held_out, &options).unwrap().onnx
    };
    assert!(run() == run());
}

#[test]
fn the_bundle_names_its_parent_and_passes_the_gate() {
    let (data, held_out) = (some_digits(0..300), held_out());
    let parent = &trained().manifest;
    let compressed =
        compress(&trained().onnx, &parent.pipeline, &data, &held_out, &CompressOptions::new(0.02)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("small");
    let digest = "ab".repeat(32);
    let written = compressed.write_bundle(&bundle, parent, Some(digest.clone()), "held-out digits").unwrap();
    assert_eq!(written.precision, "int8");
    assert_eq!(written.lineage.parent, Some(digest));
    assert_eq!(written.lineage.parent_role.as_deref(), Some("quantised-from"));
    assert_eq!(written.metrics[0].data_digest, held_out.digest());
    let key = SigningKey::generate();
    sign_dir(&bundle, &key).unwrap();
    let verified = Policy::trusting(key.public(), "tests").verify(Bundle::open(&bundle).unwrap());
    assert!(verified.is_ok(), "{:?}", verified.err());
}

/// A graph such as other tools write: a grouped, strided convolution, a residual sum, a global mean, a MatMul
/// without bias and a final convolution whose values are read by two.
fn foreign(opset: i64) -> Vec<u8> {
    let wave = |name: &str, dims: &[i64], scale: f32| {
        let count = dims.iter().product::<i64>();
        let values: Vec<f32> = (0..count).map(|idx| ((idx * 73 % 41) as f32 / 20.0 - 1.0) * scale).collect();
        TensorProto::f32(name, dims, &values)
    };
    let conv = |name: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>| {
        let mut node = NodeProto::new("Conv", name, inputs, &[output]);
        node.attribute = attributes;
        node
    };
    let kernel = || AttributeProto::ints("kernel_shape", &[3, 3]);
    let same = || AttributeProto::ints("pads", &[1, 1, 1, 1]);
    let nodes = vec![
        conv("first", &["image", "w1", "b1"], "a", vec![kernel(), same()]),
        NodeProto::new("Relu", "relu1", &["a"], &["b"]),
        conv("grouped", &["b", "w2"], "c", vec![kernel(), same(), AttributeProto::int("group", 4)]),
        NodeProto::new("Add", "residual", &["b", "c"], &["d"]),
        conv(
            "strided",
            &["d", "w3"],
            "e",
            vec![
                kernel(),
                AttributeProto::ints("pads", &[0, 1, 1, 0]),
                AttributeProto::ints("strides", &[2, 2]),
            ],
        ),
        NodeProto::new("Sigmoid", "gate", &["e"], &["f"]),
        NodeProto::new("Mul", "gated", &["e", "f"], &["g"]),
        NodeProto::new("GlobalAveragePool", "mean", &["g"], &["h"]),
        NodeProto::new("Flatten", "flat", &["h"], &["i"]),
        NodeProto::new("MatMul", "head", &["i", "w4"], &["scores"]),
    ];
    let graph = GraphProto {
        name: Some("foreign".into()),
        node: nodes,
        initializer: vec![
            wave("w1", &[8, 1, 3, 3], 0.4),
            wave("b1", &[8], 0.1),
            wave("w2", &[8, 2, 3, 3], 0.3),
            wave("w3", &[12, 8, 3, 3], 0.2),
            wave("w4", &[12, 10], 0.7),
        ],
        input: vec![ValueInfoProto::tensor("image", DataType::Float, &[Ok(2), Ok(1), Ok(8), Ok(8)])],
        output: vec![ValueInfoProto::tensor("scores", DataType::Float, &[Ok(2), Ok(10)])],
        ..GraphProto::default()
    };
    ModelProto::new(graph, opset).encode_to_vec()
}

fn foreign_pipeline() -> Pipeline {
    Pipeline {
        preprocess: Preprocess::Image(ImageInput { width: 8, height: 8, mean: vec![0.3], std: vec![0.4] }),
        postprocess: Postprocess::Classify { labels: (0..10).map(|digit| digit.to_string()).collect() },
    }
}

#[test]
fn graphs_of_other_tools_are_compressed_and_answer_alike() {
    let (data, bytes) = (some_digits(0..101), foreign(13));
    for kind in available() {
        let options = CompressOptions { runtime: RuntimeChoice::Fixed(kind), ..CompressOptions::new(1.0) };
        let compressed = compress(&bytes, &foreign_pipeline(), &data, &data, &options).unwrap();
        let names: Vec<&str> = compressed.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["first", "grouped", "strided", "head"]);
        assert!(compressed.layers.iter().all(|layer| layer.relative_error < 0.05), "{:?}", compressed.layers);
        // An untrained network's answers lie close together: the likelihood tells whether they are still the same.
        assert!((compressed.before.nll - compressed.after.nll).abs() < 0.02, "{:?}", compressed.after);
        let model = read(&Arc::from(compressed.onnx.as_slice())).unwrap();
        let graph = model.graph.unwrap();
        let operators: HashSet<&str> = graph.node.iter().map(NodeProto::op_type).collect();
        assert!(operators.contains("Sigmoid") && operators.contains("Add") && !operators.contains("MatMul"));
        assert!(!graph.initializer.iter().any(|tensor| tensor.name() == "w1"), "unread constants are gone");
    }
}

#[test]
fn what_cannot_be_compressed_is_refused() {
    let data = some_digits(0..20);
    let code = |bytes: &[u8], data: &Dataset, options: &CompressOptions| {
        compress(bytes, &foreign_pipeline(), data, data, options).unwrap_err().code()
    };
    let options = CompressOptions::new(1.0);
    assert_eq!(code(&foreign(11), &data, &options), Code::UnsupportedModel);
    assert_eq!(code(b"not a model", &data, &options), Code::InvalidBundle);
    assert_eq!(code(&foreign(13), &data, &CompressOptions::new(f64::NAN)), Code::InvalidRequest);
    let none = CompressOptions { calibration_samples_max: 0, ..options.clone() };
    assert_eq!(code(&foreign(13), &data, &none), Code::InvalidRequest);
    let Dataset::Images(mut other) = data.clone() else { panic!() };
    other.labels[0] = "zero".into();
    assert_eq!(code(&foreign(13), &Dataset::Images(other), &options), Code::InvalidInput);
    // Nothing but a ReLU: there is nothing to compress.
    let mut model = read(&Arc::from(foreign(13))).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![NodeProto::new("Relu", "r", &["image"], &["scores"])];
    graph.initializer.clear();
    assert_eq!(code(&model.encode_to_vec(), &data, &options), Code::UnsupportedModel);
}
