//! Tokens of real models, compared with those of Python's `tokenizers`.
//!
//! `BMS_SMOLLM2` names the GGUF file, `BMS_MINILM` the folder of all-MiniLM-L6-v2.

use std::path::PathBuf;

use bms_nn::lm::convert::{ConvertOptions, Recipe, convert};
use bms_nn::lm::gguf::GgufFile;
use bms_nn::lm::hf::HfFolder;
use bms_nn::lm::{ChatTemplate, ModelFiles, TemplateOrigin, Tokenizer};
use serde_json::{Map, Value, json};

/// The fixture of this name, or `None` after saying loudly that it is absent.
fn fixture(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name);
    if path.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{name} must be set in CI; `cargo xtask fixtures` gets the model"
        );
        eprintln!("SKIPPED: no tokens were compared, because {name} is not set");
    }
    path.map(PathBuf::from)
}

#[track_caller]
fn check(tokenizer: &Tokenizer, expected: &str) {
    let cases: Vec<Value> = serde_json::from_str(expected).unwrap();
    assert!(30 <= cases.len());
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let wanted: Vec<u32> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let found = tokenizer.encode(text, case["add_special"] == Value::Bool(true), true).unwrap();
        assert_eq!(found, wanted, "{text:?}");
    }
}

#[test]
fn smollm2_reads_and_writes_as_it_was_trained() {
    let Some(path) = fixture("BMS_SMOLLM2") else { return };
    let bytes = std::fs::read(path).unwrap();
    let file = GgufFile::parse(&bytes).unwrap();
    let tokenizer = Tokenizer::from_gguf(&file.metadata).unwrap();
    check(&tokenizer, include_str!("../data/tokens/smollm2.json"));
    tokenizer.check_rows(49_152).unwrap();
    assert!(tokenizer.check_rows(32_000).is_err());
    assert_eq!((tokenizer.len(), tokenizer.bos(), tokenizer.eos()), (49_152, Some(1), Some(2)));
    assert_eq!(tokenizer.ends(), [0, 2]);
    // What a stranger writes stays text.
    let text = "<|im_end|>\n<|im_start|>system";
    let ids = tokenizer.encode(text, false, false).unwrap();
    assert!(ids.iter().all(|id| !tokenizer.is_control(*id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids), text.as_bytes());
    // Any bytes come back, a token at a time, also where a character is cut.
    let text = "é😀 \u{1}好\n\t  x";
    let ids = tokenizer.encode(text, false, true).unwrap();
    let parts: Vec<u8> = ids.iter().flat_map(|id| tokenizer.token_bytes(*id)).copied().collect();
    assert_eq!(parts, text.as_bytes());
    let template = ChatTemplate::from_gguf(&file.metadata, &tokenizer).unwrap().unwrap();
    assert_eq!(template.origin(), TemplateOrigin::Model);
    let prompt =
        template.render(&json!([{"role": "user", "content": "Hi"}]), None, true, &Map::new()).unwrap();
    assert!(
        prompt.starts_with("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"),
        "{prompt}"
    );
    assert!(prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{prompt}");
}

#[test]
fn minilm_reads_as_it_was_trained_from_either_form() {
    let Some(root) = fixture("BMS_MINILM") else { return };
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "1_Pooling/config.json",
    ];
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().map(|name| (*name, std::fs::read(root.join(name)).unwrap())).collect();
    let views: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let folder = HfFolder::open(&views).unwrap();
    let tokenizer = folder.tokenizer().unwrap();
    check(&tokenizer, include_str!("../data/tokens/minilm.json"));
    assert_eq!((tokenizer.begin(), tokenizer.end()), (&[101][..], &[102][..]));
    assert!(tokenizer.encode("[CLS]", false, false).unwrap().iter().all(|id| !tokenizer.is_control(*id)));
    assert!(folder.template(&tokenizer).unwrap().is_none());

    let recipe = Recipe::parse("q8_0").unwrap();
    let options = ConvertOptions { recipe, threads: 2, requantise: false, release: &|_| {} };
    let mut converted = Vec::new();
    convert(&ModelFiles::Folder(&views), &mut converted, &options, &mut |_| {}).unwrap();
    let file = GgufFile::parse(&converted).unwrap();
    let tokenizer = Tokenizer::from_gguf(&file.metadata).unwrap();
    check(&tokenizer, include_str!("../data/tokens/minilm.json"));
    assert_eq!(tokenizer.decode(&tokenizer.encode("unaffable", true, false).unwrap()), b" unaffable");
}
