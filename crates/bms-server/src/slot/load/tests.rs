use bms_nn::lm::gguf::{GgufWriter, Pair};

use super::*;

/// A tokenizer with these tokens.
fn tokenizer(tokens: &[String]) -> Tokenizer {
    let texts = tokens.iter().map(|token| token.as_bytes().to_vec()).collect();
    let pairs = [
        ("tokenizer.ggml.model".to_owned(), Pair::Text("gpt2".into())),
        ("tokenizer.ggml.pre".to_owned(), Pair::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens".to_owned(), Pair::Texts(texts)),
        ("tokenizer.ggml.token_type".to_owned(), Pair::Wholes(vec![1; tokens.len()])),
        ("tokenizer.ggml.merges".to_owned(), Pair::Texts(Vec::new())),
    ];
    let bytes = GgufWriter::new(Vec::new(), &pairs, Vec::new()).unwrap().finish().unwrap();
    Tokenizer::from_gguf(&GgufFile::parse(&bytes).unwrap().metadata).unwrap()
}

#[test]
fn a_model_that_drafts_has_the_same_tokens() {
    let tokens: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
    let own = tokenizer(&tokens);
    // Padded, with a few that are named differently.
    let mut family = tokens.clone();
    family.extend(["pad0".to_owned(), "pad1".to_owned()]);
    family[7] = "other".to_owned();
    check_same_tokens(&own, &tokenizer(&family)).unwrap();
    // As many tokens, but others.
    let mut stranger = tokens;
    stranger.rotate_left(1);
    let error = check_same_tokens(&own, &tokenizer(&stranger)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput);
    assert!(error.message().contains("200 of 200 tokens"), "{error}");
}
