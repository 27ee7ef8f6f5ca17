//! Real models of other projects, packaged with the pipelines of the guide, served, and asked with files as they are.
//!
//! `BMS_MAGIKA`, `BMS_RAPIDOCR` and `BMS_SILERO` name the folders of the models, `BMS_ONNXRUNTIME` the library that runs the last;
//! `cargo xtask fixtures` gets them.

use std::path::{Path, PathBuf};

use bms_data::Image;
use bms_data::draw::Canvas;
use bms_wire::{Outcome, Outcomes};
use serde_json::{Value, json};

use crate::program::{Server, bms, ok};

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/pipelines");

fn fixture(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(name).map(PathBuf::from);
    if folder.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{name} must be set in CI; `cargo xtask fixtures` gets the model"
        );
        eprintln!("SKIPPED: {name} is not set");
    }
    folder
}

/// A folder with a home and the bundle of a model with a pipeline of the guide.
fn packaged(recipe: &str, model: &Path, more: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (home, bundle) = (folder.path().join("home"), folder.path().join("bundle"));
    let recipe = format!("{RECIPES}/{recipe}.toml");
    ok(bms(&home)
        .args(["package", model.to_str().unwrap(), "--name", "it", "--pipeline", &recipe])
        .args(["--out", bundle.to_str().unwrap()])
        .args(more));
    folder
}

fn serve(folder: &tempfile::TempDir) -> Server {
    let bundle = folder.path().join("bundle");
    let server = Server::start(&folder.path().join("home"), &["serve", bundle.to_str().unwrap()]);
    server.wait_for("it");
    server
}

fn ask(server: &Server, body: &[u8], media: &str) -> Outcome {
    let answer = server.client.ask("it", body, media, "application/json").unwrap();
    let mut answer: Outcomes = serde_json::from_slice(&answer).unwrap();
    assert_eq!((answer.model_name.as_str(), answer.outcomes.len()), ("it", 1));
    answer.outcomes.remove(0)
}

#[test]
fn magika_tells_files_apart() {
    let Some(magika) = fixture("BMS_MAGIKA") else { return };
    let config: Value =
        serde_json::from_slice(&std::fs::read(magika.join("config.min.json")).unwrap()).unwrap();
    let names = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(names.path(), config["target_labels_space"].to_string()).unwrap();
    let labels = names.path().to_str().unwrap();
    let folder = packaged("magika", &magika.join("model.onnx"), &["--labels", labels]);
    let server = serve(&folder);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let png = Image::new(64, 64, 3, (0..64 * 64 * 3).map(|i| (i * i / 7) as u8).collect()).unwrap();
    let files = [
        ("toml", std::fs::read(here.join("Cargo.toml")).unwrap()),
        ("rust", std::fs::read(here.join("src/main.rs")).unwrap()),
        ("png", png.encode_png().unwrap()),
        ("python", std::fs::read(here.join("tests/python/silero_expected.py")).unwrap()),
    ];
    for (label, bytes) in files {
        let Outcome::Labels { labels } = ask(&server, &bytes, "application/octet-stream") else { panic!() };
        assert_eq!(labels.len(), 3);
        assert_eq!(labels[0].label, label);
        assert!(0.5 < labels[0].probability, "{labels:?}");
    }
    // By the command line, with the bundle: a file in JSON is what the model is asked about, too.
    let file = folder.path().join("question.json");
    std::fs::write(&file, json!({"name": "it", "values": [1, 2, 3], "nested": {"deep": true}}).to_string())
        .unwrap();
    let bundle = folder.path().join("bundle");
    let told = ok(bms(&folder.path().join("home")).args([
        "predict",
        file.to_str().unwrap(),
        "--bundle",
        bundle.to_str().unwrap(),
    ]));
    let best = told["predictions"][0]["ranked"][0]["label"].as_str().unwrap().to_owned();
    assert!(best.starts_with("json"), "{told}");
}

/// A page with these lines in large letters. In them an O may be read as a 0.
fn page(lines: &[&str]) -> Vec<u8> {
    let mut canvas = Canvas::new(&Image::new(960, 960, 3, vec![255; 960 * 960 * 3]).unwrap());
    for (index, line) in lines.iter().enumerate() {
        canvas.text(80.0, 100.0 + 150.0 * index as f32, line, [255; 3]);
    }
    canvas.into_image().encode_png().unwrap()
}

#[test]
fn two_graphs_read_a_page() {
    let Some(models) = fixture("BMS_RAPIDOCR") else { return };
    let second = format!("recognise.onnx={}", models.join("PP-OCRv6_rec_small.onnx").display());
    let folder = packaged("ppocr", &models.join("PP-OCRv6_det_small.onnx"), &["--add", &second]);
    let server = serve(&folder);
    let lines = ["RECEIPT 2748", "TOTAL 137.50", "THANK YOU"];
    let page = page(&lines);
    let Outcome::Lines { width, height, text, lines: found } = ask(&server, &page, "image/png") else {
        panic!()
    };
    assert_eq!((width, height), (960, 960));
    assert_eq!(text, lines.join("\n"));
    for (index, line) in found.iter().enumerate() {
        let middle = (line.corners[0][1] + line.corners[2][1]) / 2.0;
        let expected = 100.0 + 150.0 * index as f32 + 20.0;
        assert!((middle - expected).abs() < 10.0, "{line:?}, expected around {expected}");
    }
    // Drawn beside it, over the server and by the command line: the same picture.
    let drawn = server.client.ask("it", &page, "image/png", "image/png").unwrap();
    let picture = Image::decode(&drawn).unwrap();
    assert_eq!((picture.width, picture.height), (1920, 960));
    assert_ne!(picture, Image::decode(&page).unwrap());
    let [input, output, bundle] = ["page.png", "drawn.png", "bundle"].map(|name| folder.path().join(name));
    std::fs::write(&input, &page).unwrap();
    let told = ok(bms(&folder.path().join("home"))
        .args(["predict", input.to_str().unwrap(), "--bundle", bundle.to_str().unwrap()])
        .args(["--draw", output.to_str().unwrap()]));
    assert_eq!(told["predictions"][0]["outcome"]["text"], lines.join("\n"));
    assert_eq!(std::fs::read(&output).unwrap(), drawn);
}

/// The made-up voice of `tests/python/silero_expected.py` as a WAV file.
fn voice() -> Vec<u8> {
    let sample = |at: u32| {
        let time = f64::from(at) / 16_000.0;
        let turn = 2.0 * std::f64::consts::PI * time;
        let buzz: f64 = (1..20).map(|k| (140.0 * f64::from(k) * turn).sin() / f64::from(k)).sum();
        let beat = 0.5 - 0.5 * (3.0 * turn).cos();
        if (0.5..1.5).contains(&time) { (buzz * beat * 8000.0) as i16 } else { 0 }
    };
    let samples: Vec<u8> = (0..32_000).flat_map(|at| sample(at).to_le_bytes()).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + samples.len() as u32).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    wav.extend((samples.len() as u32).to_le_bytes());
    wav.extend(samples);
    wav
}

#[rustfmt::skip]
const PROBABILITIES: [f32; 63] = [
    0.0017, 0.0069, 0.0089, 0.0079, 0.0059, 0.006, 0.0059, 0.0056, 0.0054, 0.0052, 0.005, 0.0049, 0.0047, 0.0046, 0.0044, 0.0097,
    0.0289, 0.009, 0.0051, 0.0054, 0.0088, 0.0796, 0.0657, 0.0312, 0.026, 0.0097, 0.0069, 0.0029, 0.0024, 0.0049, 0.0146, 0.0301,
    0.1243, 0.0293, 0.011, 0.0051, 0.002, 0.0012, 0.0007, 0.0025, 0.0054, 0.0106, 0.1625, 0.1721, 0.0286, 0.0094, 0.0178, 0.0069,
    0.0051, 0.036, 0.0166, 0.0172, 0.0248, 0.0227, 0.0225, 0.0242, 0.025, 0.0249, 0.0253, 0.026, 0.0266, 0.0269, 0.0271,
];

#[test]
fn silero_hears_a_recording_window_by_window() {
    // rten refuses the graph's cast to bool. The server finds the library by the same variable.
    let (Some(models), Some(_)) = (fixture("BMS_SILERO"), fixture("BMS_ONNXRUNTIME")) else { return };
    let folder = packaged("silero-vad", &models.join("silero_vad_16k_op15.onnx"), &[]);
    let server = serve(&folder);
    let Outcome::Speech { seconds, probabilities, segments, .. } = ask(&server, &voice(), "audio/wav") else {
        panic!()
    };
    assert_eq!((seconds, segments.len(), probabilities.len()), (2.0, 0, 63));
    for (index, (got, expected)) in probabilities.iter().zip(PROBABILITIES).enumerate() {
        assert!((got - expected).abs() < 1e-3, "window {index}: {got}, expected {expected}");
    }
    let refused = server.client.ask("it", b"no recording", "audio/wav", "application/json").unwrap_err();
    assert_eq!(refused.code(), bms_wire::Code::InvalidInput);
}
