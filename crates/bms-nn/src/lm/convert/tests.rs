use bms_kernels::Format as F;

use super::recipe::Shape;
use super::*;
use crate::lm::Hyper;
use crate::lm::gguf::{Entry, GgufFile, Pair, TensorKind};

fn hyper(layers: usize) -> Hyper {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": layers, "intermediate_size": 512, "vocab_size": 32, "rms_norm_eps": 1e-5,
    });
    Hyper::from_config(config.to_string().as_bytes()).unwrap()
}

fn format(recipe: &str, name: &str, dims: &[usize]) -> F {
    Recipe::parse(recipe).unwrap().format(name, dims, Shape::new(&hyper(16), false))
}

#[test]
fn mixtures_are_those_of_llama_quantize() {
    let matrix = [256, 512];
    // Of 16 layers the first two, the last two, and every third between have more bits.
    let more: Vec<usize> = (0..16)
        .filter(|n| format("q4_k_m", &format!("blk.{n}.ffn_down.weight"), &matrix) == F::Q6_K)
        .collect();
    assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
    let values: Vec<usize> =
        (0..16).filter(|n| format("q5_k_m", &format!("blk.{n}.attn_v.weight"), &matrix) == F::Q6_K).collect();
    assert_eq!(values, more);
    assert_eq!(format("q4_k_m", "blk.2.attn_v.weight", &matrix), F::Q4_K);
    assert_eq!(format("q4_k_m", "blk.0.attn_k.weight", &matrix), F::Q4_K);
    assert_eq!(format("q4_k_m", "blk.0.attn_qkv.weight", &matrix), F::Q5_K);
    assert_eq!(format("q4_k_m", "output.weight", &matrix), F::Q6_K);
    assert_eq!(format("q4_k_m", "token_embd.weight", &matrix), F::Q4_K);
    assert_eq!(format("q4_0", "output.weight", &matrix), F::Q6_K);
    assert_eq!(format("q8_0", "output.weight", &matrix), F::Q8_0);
    let tied = Shape::new(&hyper(16), true);
    assert_eq!(Recipe::parse("q4_0").unwrap().format("token_embd.weight", &matrix, tied), F::Q6_K);
}

#[test]
fn what_is_small_or_does_not_fit_stays_finer() {
    for name in ["blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "position_embd.weight"] {
        assert_eq!(format("q4_0", name, &[256, 8]), F::F32);
    }
    assert_eq!(format("q4_0", "blk.0.attn_q.bias", &[256]), F::F32);
    assert_eq!(format("q4_k_m", "blk.0.attn_q.weight", &[576, 64]), F::Q5_0);
    assert_eq!(format("q5_k_m", "blk.0.attn_q.weight", &[576, 64]), F::Q5_1);
    assert_eq!(format("q6_k", "blk.0.attn_q.weight", &[576, 64]), F::Q8_0);
    assert_eq!(format("q8_0", "blk.0.attn_q.weight", &[48, 64]), F::F16);
    assert_eq!(format("bf16", "blk.0.attn_q.weight", &[48, 64]), F::BF16);
}

#[test]
fn recipes_have_names_to_be_found_by() {
    for recipe in Recipe::all() {
        assert_eq!(Recipe::parse(&recipe.name().to_uppercase()), Some(recipe));
        assert!(!recipe.about().is_empty());
    }
    assert_eq!(Recipe::parse("q2_k"), None);
}

/// A file of one matrix beside what a tokenizer and a model need.
fn file(kind: F, values: &[f32]) -> Vec<u8> {
    let text = |text: &str| Pair::Text(text.into());
    let texts = |texts: &[&str]| Pair::Texts(texts.iter().map(|text| text.as_bytes().to_vec()).collect());
    let pairs = [
        ("general.architecture", text("llama")),
        ("general.alignment", Pair::U32(32)),
        ("llama.block_count", Pair::U32(1)),
        ("llama.context_length", Pair::U32(64)),
        ("llama.embedding_length", Pair::U32(64)),
        ("llama.feed_forward_length", Pair::U32(64)),
        ("llama.attention.head_count", Pair::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Pair::F32(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", texts(&["a", "b"])),
        ("tokenizer.ggml.merges", texts(&[])),
    ];
    let pairs: Vec<(String, Pair)> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let entry = |name: &str| Entry {
        name: name.into(),
        kind: TensorKind::from(kind),
        dims: vec![64, values.len() / 64],
    };
    let mut writer = GgufWriter::new(Vec::new(), &pairs, vec![entry("blk.0.ffn_up.weight")]).unwrap();
    for row in values.chunks_exact(64) {
        let mut bytes = vec![0; kind.row_bytes(64).unwrap()];
        quantise_row(kind, row, &mut bytes);
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn options(recipe: &str, requantise: bool) -> ConvertOptions<'static> {
    ConvertOptions { recipe: Recipe::parse(recipe).unwrap(), threads: 3, requantise, release: &|_| {} }
}

#[test]
fn rows_arrive_in_order_whatever_the_threads() {
    let values: Vec<f32> = (0..64 * 20_000).map(|index| (index % 1000) as f32).collect();
    let mut out = Vec::new();
    let mut steps = 0;
    let source = file(F::F32, &values);
    let done =
        convert(&ModelFiles::Gguf(&source), &mut out, &options("f16", false), &mut |_| steps += 1).unwrap();
    assert_eq!((steps, done.parameters, done.bytes_in, done.bytes_out), (1, 1_280_000, 5_120_000, 2_560_000));
    assert_eq!(done.formats, [(F::F16, 1)]);
    let written = GgufFile::parse(&out).unwrap();
    assert_eq!(written.metadata.number("general.file_type").unwrap(), Some(1));
    assert_eq!(written.metadata.number("llama.block_count").unwrap(), Some(1));
    let mut found = vec![0.0; values.len()];
    dequantise_row(F::F16, written.tensor("blk.0.ffn_up.weight").unwrap().bytes, &mut found);
    assert!(found == values);
}

#[test]
fn quantised_weights_are_quantised_again_only_when_asked() {
    let values: Vec<f32> = (0..640).map(|index| (index as f32 / 40.0).sin()).collect();
    let source = file(F::Q8_0, &values);
    let run = |recipe: &str, requantise: bool| {
        convert(&ModelFiles::Gguf(&source), std::io::sink(), &options(recipe, requantise), &mut |_| {})
    };
    let error = run("q4_0", false).unwrap_err();
    assert_eq!(error.code(), Code::UnsupportedModel);
    assert!(error.message().contains("`blk.0.ffn_up.weight` is quantised already, as q8_0"), "{error}");
    let error = run("q4_0", true).unwrap().error;
    assert!((0.01..0.2).contains(&error), "{error}");
    // What has the format already is copied.
    assert_eq!(run("q8_0", false).unwrap().error, 0.0);
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let mut values = vec![1.0; 128];
    values[70] = f32::NAN;
    let source = file(F::F32, &values);
    let error = convert(&ModelFiles::Gguf(&source), std::io::sink(), &options("q8_0", false), &mut |_| {})
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidBundle);
    assert!(error.message().contains("holds the value NaN"), "{error}");
}
