//! Encoders against Hugging Face transformers, and MiniLM against its computation in 64-bit numbers.
//!
//! `BMS_MINILM` names the folder of all-MiniLM-L6-v2.

use std::path::Path;

use bms_kernels::{Format, Isa};
use bms_nn::lm::{Embedder, LoadOptions, ModelFiles, Network, load};
use serde_json::Value;

use super::hf::{Expected, Files, check};
use super::options;

fn embedder(files: &[(&str, &[u8])], options: &LoadOptions<'_>) -> Embedder {
    match load(&ModelFiles::Folder(files), options).unwrap_or_else(|error| panic!("{error}")) {
        Network::Embedder(embedder) => *embedder,
        Network::Decoder(_) => panic!("a decoder"),
    }
}

#[test]
fn vectors_are_those_of_transformers() {
    let (files, expected) = (Files::of("bert"), Expected::of("bert"));
    let texts: Vec<Vec<u32>> = (0..3).map(|index| expected.tokens(&format!("tokens_{index}"))).collect();
    for (pooling, json) in [
        ("mean", r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}"#),
        ("first", r#"{"pooling_mode_cls_token": true}"#),
    ] {
        let [config, weights] = files.list();
        let list = [config, weights, ("1_Pooling/config.json", json.as_bytes())];
        for isa in Isa::available() {
            let mut embedder = embedder(&list, &options(2, isa));
            assert_eq!((embedder.width(), embedder.context(), embedder.vocab()), (32, 64, 64));
            let vectors = embedder.embed(&texts).unwrap();
            for (index, vector) in vectors.iter().enumerate() {
                let wanted = expected.values(&format!("{pooling}_{index}"));
                check(&format!("{pooling} {index} on {isa}"), vector, &wanted, 1e-5);
            }
        }
    }
}

#[test]
fn texts_that_do_not_fit_are_refused() {
    let files = Files::of("bert");
    let mut embedder = embedder(&files.list(), &options(1, Isa::best()));
    for wrong in [vec![], vec![1; 65], vec![64]] {
        let error = embedder.embed(&[vec![3], wrong]).unwrap_err();
        assert_eq!(error.code(), bms_wire::Code::InvalidInput);
        assert!(error.message().contains("text 1"), "{error}");
    }
    assert!(embedder.embed::<Vec<u32>>(&[]).unwrap().is_empty());
    let modules = [("modules.json", br#"[{"type": "sentence_transformers.models.Dense"}]"#.as_slice())];
    let list: Vec<_> = files.list().into_iter().chain(modules).collect();
    assert!(load(&ModelFiles::Folder(&list), &options(1, Isa::best())).is_err());
}

#[test]
fn minilm_tells_what_is_alike() {
    let Some(root) = std::env::var_os("BMS_MINILM") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BMS_MINILM must be set in CI; `cargo xtask fixtures` gets the model"
        );
        eprintln!("SKIPPED: MiniLM was not run, because BMS_MINILM is not set");
        return;
    };
    let read = |file: &str| std::fs::read(Path::new(&root).join(file)).unwrap();
    let names = ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"];
    let bytes: Vec<Vec<u8>> = names.iter().map(|name| read(name)).collect();
    let files: Vec<(&str, &[u8])> = names.iter().copied().zip(bytes.iter().map(Vec::as_slice)).collect();
    let expected: Value = serde_json::from_str(include_str!("../../data/minilm/expected.json")).unwrap();
    let sentences = expected["sentences"].as_array().unwrap();
    let ids = |sentence: &Value| -> Vec<u32> {
        sentence["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let texts: Vec<Vec<u32>> = sentences.iter().map(ids).collect();
    for (quantise, tolerance) in [(None, 1e-3), (Some(Format::Q8_0), 2e-2)] {
        let options = LoadOptions { quantise, ..options(2, Isa::best()) };
        let vectors = embedder(&files, &options).embed(&texts).unwrap();
        for (sentence, vector) in sentences.iter().zip(&vectors) {
            let wanted: Vec<f32> = sentence["embedding_first8"]
                .as_array()
                .unwrap()
                .iter()
                .map(|value| value.as_f64().unwrap() as f32)
                .collect();
            check("an embedding", &vector[..8], &wanted, tolerance);
        }
        let matrix = expected["cosine_matrix"].as_array().unwrap();
        for (row, a) in matrix.iter().zip(&vectors) {
            for (wanted, b) in row.as_array().unwrap().iter().zip(&vectors) {
                let found: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                check("a similarity", &[found], &[wanted.as_f64().unwrap() as f32], tolerance);
            }
        }
    }
}
