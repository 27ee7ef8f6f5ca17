//! Tokens of many vocabularies, compared with those that llama.cpp expects of itself.
//!
//! `BMS_LLAMA_VOCABULARIES` names a folder with llama.cpp's `ggml-vocab-*.gguf`, `.inp` and `.out`: a
//! vocabulary, texts, and their tokens as the model's own tokenizer makes them.

use std::path::{Path, PathBuf};

use bms_nn::lm::Tokenizer;
use bms_nn::lm::gguf::GgufFile;

#[test]
fn all_vocabularies_tokenize_as_their_models_do() {
    let Some(root) = std::env::var_os("BMS_LLAMA_VOCABULARIES") else {
        eprintln!("SKIPPED: no vocabulary was tried, because BMS_LLAMA_VOCABULARIES is not set");
        return;
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension().is_some_and(|kind| kind == "gguf")
            && Path::new(&format!("{}.inp", path.display())).exists()
    });
    files.sort();
    assert!(!files.is_empty(), "the folder has no vocabularies");
    let mut wrong = Vec::new();
    for path in &files {
        match check(path) {
            Ok(texts) => println!("{}: {texts} texts", path.display()),
            // Byte pair encoding without an alphabet of bytes.
            Err(message) if message.contains("`gemma4`") => println!("{}: {message}", path.display()),
            Err(message) => wrong.push(format!("{}: {message}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(path: &Path) -> Result<usize, String> {
    let bytes = std::fs::read(path).unwrap();
    let file = GgufFile::parse(&bytes).map_err(|e| e.to_string())?;
    let tokenizer = Tokenizer::from_gguf(&file.metadata).map_err(|e| e.to_string())?;
    let read = |kind: &str| std::fs::read_to_string(format!("{}.{kind}", path.display())).unwrap();
    let (inputs, outputs) = (read("inp"), read("out"));
    let mut count = 0;
    for (text, line) in inputs.split("\n__ggml_vocab_test__\n").zip(outputs.lines()) {
        let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(text, false, false).map_err(|e| e.to_string())?;
        if found != expected {
            return Err(format!("{text:?}: {found:?}, expected {expected:?}"));
        }
        count += 1;
    }
    Ok(count)
}
