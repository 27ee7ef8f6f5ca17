//! Library, command line, server and both run-times give one answer.

use bms_bundle::{Bundle, Policy};
use bms_engine::{Engine, EngineOptions, Input};
use bms_nn::onnx::{RuntimeChoice, RuntimeKind, runtimes};
use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters};
use serde_json::{Value, json};

use crate::program::{Server, Shared, bms, ok, shared};

/// How far probabilities may differ.
const TOLERANCE: f64 = 1e-4;
/// The same between run-times on an int8 graph: one keeps convolutions between quantisation steps in floats, so
/// a value on the edge of a step may round to its neighbour.
const TOLERANCE_INT8: f64 = 0.02;
/// Digits compared.
const SAMPLES: usize = 20;

/// Label to probability.
type Answer = std::collections::BTreeMap<String, f64>;

#[track_caller]
fn agree(got: &Answer, want: &Answer, tolerance: f64, what: &str) {
    assert_eq!(got.len(), 10, "{what}");
    for (label, p) in want {
        assert!(
            (got[label] - p).abs() <= tolerance,
            "{what}: {label} is {} where {p} is expected",
            got[label]
        );
    }
}

fn library(bundle: &str, runtime: RuntimeKind, pictures: &[Vec<u8>]) -> Vec<Answer> {
    let shared = shared();
    let policy = Policy::load(&shared.home().join("policy.toml")).unwrap();
    let verified = policy.verify(Bundle::open(&shared.at(bundle)).unwrap()).map_err(|r| r.error).unwrap();
    let options = EngineOptions { runtime: RuntimeChoice::Fixed(runtime), ..EngineOptions::default() };
    let engine = Engine::load(verified, &options).unwrap();
    let answer = engine.predict(Input::Images(pictures.to_vec())).unwrap();
    let classes = answer.classes.unwrap().into_iter();
    classes.map(|c| c.ranked.into_iter().map(|(label, p)| (label, f64::from(p))).collect()).collect()
}

fn command_line(bundle: &str, files: &[std::path::PathBuf]) -> Vec<Answer> {
    let shared = shared();
    let result = ok(bms(&shared.home()).arg("predict").args(files).arg("--bundle").arg(shared.at(bundle)));
    let ranked = |p: &Value| {
        let ranked = p["ranked"].as_array().unwrap().iter();
        ranked
            .map(|r| (r["label"].as_str().unwrap().to_owned(), r["probability"].as_f64().unwrap()))
            .collect()
    };
    result["predictions"].as_array().unwrap().iter().map(ranked).collect()
}

fn served(bundle: &str, pictures: &[Vec<u8>]) -> Vec<Answer> {
    use base64::Engine as _;
    let shared = shared();
    let server = Server::start(&shared.home(), &["serve", shared.at(bundle).to_str().unwrap()]);
    server.wait_for("digits");
    let encode = |p: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(p);
    let tensor = InferTensor {
        name: "image".into(),
        shape: vec![pictures.len() as i64],
        datatype: Datatype::Bytes,
        parameters: Parameters::new(),
        data: json!(pictures.iter().map(encode).collect::<Vec<_>>()),
    };
    let request =
        InferRequest { id: None, parameters: Parameters::new(), inputs: vec![tensor], outputs: vec![] };
    let response = server.client.infer("digits", &request).unwrap();
    let output =
        |name: &str| response.outputs.iter().find(|o| o.name == name).unwrap().data.as_array().unwrap();
    let flat: Vec<(String, f64)> = output("label")
        .iter()
        .zip(output("probability"))
        .map(|(label, p)| (label.as_str().unwrap().to_owned(), p.as_f64().unwrap()))
        .collect();
    flat.chunks(10).map(|row| row.iter().cloned().collect()).collect()
}

#[test]
fn every_path_and_run_time_gives_the_same_answer() {
    let shared = shared();
    let mut files = Vec::new();
    let mut pictures = Vec::new();
    for sample in Shared::held_out().take(SAMPLES).samples {
        let file = shared.at(&format!("{}.png", sample.name));
        let picture = sample.image.encode_png().unwrap();
        std::fs::write(&file, &picture).unwrap();
        files.push(file);
        pictures.push(picture);
    }
    for bundle in ["fp32", "int8"] {
        let want = library(bundle, RuntimeKind::Rten, &pictures);
        assert_eq!(want.len(), SAMPLES);
        for (got, what) in
            [(command_line(bundle, &files), "command line"), (served(bundle, &pictures), "server")]
        {
            got.iter()
                .zip(&want)
                .for_each(|(got, want)| agree(got, want, TOLERANCE, &format!("{bundle} by {what}")));
        }
        if !has_onnxruntime() {
            continue;
        }
        let ort = library(bundle, RuntimeKind::OnnxRuntime, &pictures);
        let tolerance = if bundle == "int8" { TOLERANCE_INT8 } else { TOLERANCE };
        ort.iter()
            .zip(&want)
            .for_each(|(got, want)| agree(got, want, tolerance, &format!("{bundle} on onnxruntime")));
    }
}

/// Whether ONNX Runtime is here. In CI it must be; elsewhere its absence is said aloud.
fn has_onnxruntime() -> bool {
    let found = runtimes().iter().any(|r| r.kind == RuntimeKind::OnnxRuntime && r.available);
    assert!(found || std::env::var_os("CI").is_none(), "CI compares with ONNX Runtime; set BMS_ONNXRUNTIME");
    if !found {
        eprintln!("NOT COMPARED with ONNX Runtime: its library is not on this machine");
    }
    found
}
