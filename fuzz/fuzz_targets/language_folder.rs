//! A Hugging Face folder: the first byte says which of its files the others are.
#![no_main]

use bms_nn::lm::hf::HfFolder;
use bms_nn::lm::{ChatTemplate, Hyper};
use libfuzzer_sys::fuzz_target;

const CONFIG: &[u8] = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64}"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let names = [
        "model.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    let name = names[usize::from(*which) % names.len()];
    let files = if name == "config.json" {
        vec![(name, bytes)]
    } else {
        vec![("config.json", CONFIG), (name, bytes)]
    };
    if name == "config.json" {
        let _ = Hyper::from_config(bytes);
    }
    let Ok(folder) = HfFolder::open(&files) else { return };
    if let Ok(tensors) = folder.tensors() {
        for tensor in tensors {
            assert!(tensor.bytes.len() <= bytes.len());
        }
    }
    if let Ok(tokenizer) = folder.tokenizer() {
        let _ = tokenizer.encode("Hello, w\u{f6}rld 123\n\n  <s>", true, true);
        let _ = folder.template(&tokenizer);
    }
    if let Ok(source) = std::str::from_utf8(bytes)
        && let Ok(template) = ChatTemplate::new(source, "<s>", "</s>")
    {
        let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
        let _ = template.render(&messages, None, true, &serde_json::Map::new());
    }
});
