//! Folders turned into GGUF files compute what the folders do.

use bms_kernels::{Format, Isa};
use bms_nn::lm::convert::{ConvertOptions, Converted, Recipe, convert};
use bms_nn::lm::{LoadOptions, LogitRows, ModelFiles, Network, load};
use bms_wire::Result;
use serde_json::{Value, json};

use super::hf::{Expected, FAMILIES, Files, check, context};
use super::{Sequence, decoder, options};

/// A byte-level tokenizer that fits the models' 64 rows.
pub(super) fn letters() -> Vec<u8> {
    let mut vocab = serde_json::Map::new();
    let words = ('a'..='z').map(String::from).chain(["ab", "Ġ", "Ġa"].map(String::from));
    for (id, word) in words.enumerate() {
        vocab.insert(word, id.into());
    }
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 63, "content": "<end>", "special": true, "normalized": false, "single_word": false,
            "lstrip": false, "rstrip": false}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b", "Ġ a"]},
    });
    serde_json::to_vec(&document).unwrap()
}

/// A WordPiece tokenizer that fits them.
fn words() -> Vec<u8> {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b", "x", "##y"];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let added: Vec<_> = words[..4]
        .iter()
        .enumerate()
        .map(|(id, word)| {
            json!({"id": id, "content": word,
        "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false})
        })
        .collect();
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    });
    serde_json::to_vec(&document).unwrap()
}

const WORDS_CONFIG: &[u8] =
    br#"{"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}"#;

fn attempt(files: &[(&str, &[u8])], recipe: &str) -> Result<(Vec<u8>, Converted)> {
    let recipe = Recipe::parse(recipe).unwrap();
    let options = ConvertOptions { recipe, threads: 2, requantise: false, release: &|_| {} };
    let mut out = Vec::new();
    let done = convert(&ModelFiles::Folder(files), &mut out, &options, &mut |_| {})?;
    Ok((out, done))
}

pub(super) fn converted(files: &[(&str, &[u8])], recipe: &str) -> (Vec<u8>, Converted) {
    attempt(files, recipe).unwrap_or_else(|error| panic!("{error}"))
}

/// A GGUF file has no key for that.
fn has_plain_layers_among_experts(config: &[u8]) -> bool {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    let listed = config["mlp_only_layers"].as_array().is_some_and(|layers| !layers.is_empty());
    listed || config["decoder_sparse_step"].as_u64().is_some_and(|step| 1 < step)
}

#[test]
fn logits_stay_what_they_are() {
    let tokenizer = letters();
    for name in FAMILIES {
        let (files, expected) = (Files::of(name), Expected::of(name));
        let [config, weights] = files.list();
        let list = [config, weights, ("tokenizer.json", tokenizer.as_slice())];
        if has_plain_layers_among_experts(config.1) {
            let error = attempt(&list, "f32").unwrap_err();
            assert_eq!(error.code(), bms_wire::Code::UnsupportedModel, "{name}: {error}");
            continue;
        }
        let (gguf, done) = converted(&list, "f32");
        assert_eq!(done.error, 0.0, "{name}");
        let (tokens, wanted) = (expected.tokens("tokens"), expected.values("logits"));
        let options = LoadOptions { context: context(name), ..options(2, Isa::best()) };
        let mut model = decoder(&ModelFiles::Gguf(&gguf), &options);
        let found = Sequence::new(4).extend(&mut model, &tokens, LogitRows::All);
        check(name, &found, &wanted, 1e-4);
    }
}

#[test]
fn vectors_stay_what_they_are() {
    let tokenizer = words();
    let (files, expected) = (Files::of("bert"), Expected::of("bert"));
    let [config, weights] = files.list();
    let pooling = ("1_Pooling/config.json", &br#"{"pooling_mode_mean_tokens": true}"#[..]);
    let list =
        [config, weights, ("tokenizer.json", &tokenizer), ("tokenizer_config.json", WORDS_CONFIG), pooling];
    let (gguf, _) = converted(&list, "f32");
    let Network::Embedder(mut embedder) = load(&ModelFiles::Gguf(&gguf), &options(1, Isa::best())).unwrap()
    else {
        panic!("a decoder");
    };
    let vectors = embedder.embed(&[expected.tokens("tokens_0")]).unwrap();
    // A GGUF file's vectors have length one, the expected ones have their own.
    let mut wanted = expected.values("mean_0");
    let length = wanted.iter().map(|value| value * value).sum::<f32>().sqrt();
    wanted.iter_mut().for_each(|value| *value /= length);
    let own = vectors[0].iter().map(|value| value * value).sum::<f32>().sqrt();
    let found: Vec<f32> = vectors[0].iter().map(|value| value / own).collect();
    check("bert", &found, &wanted, 1e-5);
}

#[test]
fn rows_of_32_are_quantised_in_small_blocks() {
    let tokenizer = letters();
    let files = Files::of("llama");
    let [config, weights] = files.list();
    let (_, done) = converted(&[config, weights, ("tokenizer.json", &tokenizer)], "q4_k_m");
    assert!(done.formats.iter().any(|(format, _)| *format == Format::Q5_0), "{:?}", done.formats);
    assert!((0.001..0.1).contains(&done.error), "{}", done.error);
}

#[test]
fn a_tokenizer_that_a_file_cannot_hold_is_refused() {
    let files = Files::of("llama");
    let [config, weights] = files.list();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
    for (key, value) in [
        ("/normalizer", json!({"type": "Lowercase"})),
        ("/pre_tokenizer/add_prefix_space", json!(true)),
        ("/pre_tokenizer", json!({"type": "Sequence", "pretokenizers": [split, bytes]})),
    ] {
        let mut tokenizer: Value = serde_json::from_slice(&letters()).unwrap();
        *tokenizer.pointer_mut(key).unwrap() = value;
        let tokenizer = serde_json::to_vec(&tokenizer).unwrap();
        let list = [config, weights, ("tokenizer.json", tokenizer.as_slice())];
        let error = attempt(&list, "f32").unwrap_err();
        assert_eq!(error.code(), bms_wire::Code::UnsupportedModel, "{error}");
    }
}
