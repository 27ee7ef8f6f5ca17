//! A language model's GGUF file, as the engine reads it: pairs, tensors, hyper-parameters, tokenizer, template.
#![no_main]

use bms_nn::lm::gguf::{GgufFile, Value};
use bms_nn::lm::{ChatTemplate, Hyper, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = GgufFile::parse(bytes) else { return };
    for (_, value) in file.metadata.pairs() {
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    for tensor in file.tensors() {
        assert_eq!(
            tensor.kind.row_bytes(tensor.cols()).map(|row| row * tensor.rows()),
            Some(tensor.bytes.len())
        );
    }
    let _ = Hyper::from_gguf(&file);
    let Ok(tokenizer) = Tokenizer::from_gguf(&file.metadata) else { return };
    for text in ["Hello, w\u{f6}rld 123\n\n  <s>", "\u{4f60}\u{597d}\0"] {
        if let Ok(ids) = tokenizer.encode(text, true, true) {
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.len()));
            tokenizer.decode(&ids);
        }
    }
    if let Ok(Some(template)) = ChatTemplate::from_gguf(&file.metadata, &tokenizer) {
        let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
        let _ = template.render(&messages, None, true, &serde_json::Map::new());
    }
});
