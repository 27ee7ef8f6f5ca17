use bms_wire::{ImageInput, TableInput};

use super::*;

fn sample() -> Manifest {
    let tensor = |name: &str, shape: &[Option<usize>]| TensorInfo {
        name: name.to_owned(),
        dtype: "f32".to_owned(),
        shape: shape.to_vec(),
    };
    Manifest {
        schema: 1,
        name: "digits".to_owned(),
        task: "image-classification".to_owned(),
        model: "model.onnx".to_owned(),
        inputs: vec![tensor("image", &[None, Some(1), Some(28), Some(28)])],
        outputs: vec![tensor("logits", &[None, Some(2)])],
        pipeline: Pipeline {
            preprocess: Preprocess::Image(ImageInput {
                width: 28,
                height: 28,
                mean: vec![0.5],
                std: vec![0.25],
            }),
            postprocess: Postprocess::Classify { labels: vec!["0".to_owned(), "1".to_owned()] },
        },
        metrics: vec![Evaluation {
            data_digest: "ab".repeat(32),
            data_name: "held out".to_owned(),
            samples: 100,
            values: BTreeMap::from([("accuracy".to_owned(), 0.97)]),
        }],
        lineage: Lineage { parent: Some("cd".repeat(32)), ..Lineage::default() },
        precision: "fp32".to_owned(),
        licence: Some("MIT".to_owned()),
        created_ms: 1_700_000_000_000,
        sealed: None,
        files: vec![FileEntry::of("a.json", b"{}"), FileEntry::of("model.onnx", b"graph")],
    }
}

/// Asserts that a change makes the manifest invalid, on writing and on reading.
#[track_caller]
fn refuses(change: impl FnOnce(&mut Manifest)) {
    let mut manifest = sample();
    change(&mut manifest);
    let error = manifest.to_bytes().expect_err("must not be written");
    assert_eq!(error.code(), Code::InvalidBundle, "{error}");
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(Manifest::parse(&bytes).expect_err("must not be read").code(), Code::InvalidBundle);
}

#[test]
fn a_manifest_reads_back_as_written() {
    let manifest = sample();
    assert_eq!(Manifest::parse(&manifest.to_bytes().unwrap()).unwrap(), manifest);
}

#[test]
fn unknown_and_repeated_fields_are_refused() {
    let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap();
    let unknown = text.replacen("\"schema\"", "\"extra\": 1, \"schema\"", 1);
    let repeated = text.replacen("\"schema\": 1", "\"schema\": 1, \"schema\": 1", 1);
    let nested = text.replacen("\"width\"", "\"extra\": 1, \"width\"", 1);
    for text in [unknown, repeated, nested] {
        let error = Manifest::parse(text.as_bytes()).expect_err(&text);
        assert_eq!(error.code(), Code::InvalidBundle);
        assert!(error.message().contains("malformed"), "{error}");
    }
}

#[test]
fn names_tasks_and_versions_are_checked() {
    for name in ["", "Digits", "-digits", "a b", "a/b", "数字", &"x".repeat(limits::NAME_CHARS_MAX + 1)] {
        refuses(|manifest| manifest.name = name.to_owned());
    }
    refuses(|manifest| manifest.schema = 2);
    refuses(|manifest| manifest.task = "guessing".to_owned());
    refuses(|manifest| manifest.task = "tabular-classification".to_owned());
    refuses(|manifest| manifest.precision = "int4".to_owned());
    refuses(|manifest| manifest.model = "../model.onnx".to_owned());
    refuses(|manifest| manifest.lineage.parent = Some("CD".repeat(32)));
    refuses(|manifest| manifest.metrics[0].data_digest = "short".to_owned());
}

#[test]
fn pipelines_are_checked() {
    let image = |width, mean: &[f32], std: &[f32]| {
        Preprocess::Image(ImageInput { width, height: 28, mean: mean.to_vec(), std: std.to_vec() })
    };
    refuses(|manifest| manifest.pipeline.preprocess = image(0, &[0.5], &[0.5]));
    refuses(|manifest| manifest.pipeline.preprocess = image(28, &[0.5, 0.5], &[0.5, 0.5]));
    refuses(|manifest| manifest.pipeline.preprocess = image(28, &[0.5], &[0.0]));
    refuses(|manifest| manifest.pipeline.preprocess = image(28, &[0.5], &[]));
    refuses(|manifest| manifest.pipeline.postprocess = Postprocess::Classify { labels: vec![] });
    refuses(|manifest| {
        manifest.pipeline.postprocess =
            Postprocess::Classify { labels: vec!["a".to_owned(), "a".to_owned()] };
    });
    refuses(|manifest| {
        manifest.task = "tabular-classification".to_owned();
        manifest.pipeline.preprocess = Preprocess::Table(TableInput {
            columns: vec!["a".to_owned()],
            mean: vec![0.0, 0.0],
            std: vec![1.0, 1.0],
        });
    });
}

#[test]
fn tensors_are_checked() {
    refuses(|manifest| manifest.inputs.clear());
    refuses(|manifest| manifest.outputs.clear());
    refuses(|manifest| manifest.inputs[0].dtype = "float".to_owned());
    refuses(|manifest| manifest.inputs[0].shape = vec![None; RANK_MAX + 1]);
    refuses(|manifest| manifest.inputs.push(manifest.inputs[0].clone()));
}

#[test]
fn file_lists_are_checked() {
    refuses(|manifest| manifest.files.reverse());
    refuses(|manifest| manifest.files[0] = FileEntry::of("MODEL.ONNX", b""));
    refuses(|manifest| manifest.files[0] = FileEntry::of("../a", b""));
    refuses(|manifest| manifest.files[0] = FileEntry::of(MANIFEST, b""));
    refuses(|manifest| manifest.files[0] = FileEntry::of("Model.Sig", b""));
    refuses(|manifest| manifest.files[0].sha256 = "0".repeat(63));
    refuses(|manifest| manifest.files[0].size = limits::BUNDLE_BYTES_MAX);
}

#[test]
fn the_model_must_be_listed() {
    let mut manifest = sample();
    manifest.files.pop();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(Manifest::parse(&bytes).expect_err("not listed").code(), Code::InvalidBundle);
}

#[test]
fn numbers_that_json_cannot_hold_are_refused() {
    let mut manifest = sample();
    manifest.metrics[0].values.insert("loss".to_owned(), f64::NAN);
    assert_eq!(manifest.to_bytes().expect_err("not finite").code(), Code::InvalidBundle);
}

#[test]
fn an_oversized_manifest_is_refused_before_it_is_parsed() {
    let bytes = vec![b' '; limits::CONTROL_BODY_BYTES_MAX + 1];
    let error = Manifest::parse(&bytes).expect_err("too large");
    assert!(error.message().contains("over"), "{error}");
}

#[test]
fn a_language_model_has_no_tensors_and_its_own_precisions() {
    let language = |change: fn(&mut Manifest)| {
        let mut manifest = sample();
        manifest.task = "text-generation".to_owned();
        manifest.precision = "q4_k_m".to_owned();
        manifest.pipeline =
            Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} };
        manifest.inputs.clear();
        manifest.outputs.clear();
        change(&mut manifest);
        manifest
    };
    let good = language(|_| {});
    assert!(good.is_language_model() && !sample().is_language_model());
    assert_eq!(Manifest::parse(&good.to_bytes().unwrap()).unwrap(), good);
    language(|m| m.task = "text-embedding".to_owned()).to_bytes().unwrap();
    refuses(|m| *m = language(|m| m.precision = String::new()));
    refuses(|m| *m = language(|m| m.precision = "Q4".to_owned()));
    refuses(|m| *m = language(|m| m.inputs = sample().inputs));
    refuses(|m| *m = language(|m| m.pipeline = sample().pipeline));
}
