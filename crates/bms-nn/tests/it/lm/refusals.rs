//! Models that lack something, have too much, or contradict themselves.

use bms_kernels::{Format, Isa};
use bms_nn::lm::{Decoder, LoadOptions, LogitRows, ModelFiles, Segment, load};
use bms_wire::Code;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;

use super::hf::{Expected, Files, check};
use super::{Sequence, decoder, options};

/// A tensor that can be changed.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// The tensors of the tiny `llama`, changed.
fn changed(change: impl FnOnce(&mut Vec<Tensor>)) -> Vec<u8> {
    let files = Files::of("llama");
    let bytes = files.list()[1].1;
    let own = |(name, tensor): (&str, TensorView<'_>)| Tensor {
        name: name.to_owned(),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        data: tensor.data().to_vec(),
    };
    let mut tensors: Vec<Tensor> = SafeTensors::deserialize(bytes).unwrap().iter().map(own).collect();
    change(&mut tensors);
    let views = tensors.iter().map(|tensor| {
        (&tensor.name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap())
    });
    serialize(views, None).unwrap()
}

fn config(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut config: Value = serde_json::from_slice(Files::of("llama").list()[0].1).unwrap();
    change(&mut config);
    serde_json::to_vec(&config).unwrap()
}

#[track_caller]
fn refused(config: &[u8], weights: &[u8], code: Code, words: &str) {
    let files = [("config.json", config), ("model.safetensors", weights)];
    let error = load(&ModelFiles::Folder(&files), &options(1, Isa::best())).expect_err(words);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(words), "{error}");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let same = config(|_| {});
    let find = |tensors: &mut Vec<Tensor>, name: &str| tensors.iter().position(|t| t.name == name).unwrap();
    let missing = changed(|tensors| {
        let at = find(tensors, "model.layers.1.mlp.up_proj.weight");
        tensors.remove(at);
    });
    refused(&same, &missing, Code::InvalidBundle, "blk.1.ffn_up.weight");
    let extra = changed(|tensors| {
        let name = "model.layers.0.self_attn.q_norm.weight".to_owned();
        tensors.push(Tensor { name, dtype: Dtype::F32, shape: vec![8], data: vec![0; 32] });
    });
    refused(&same, &extra, Code::UnsupportedModel, "self_attn.q_norm");
    let unknown = changed(|tensors| {
        let name = "model.layers.0.self_attn.sinks".to_owned();
        tensors.push(Tensor { name, dtype: Dtype::F32, shape: vec![8], data: vec![0; 32] });
    });
    refused(&same, &unknown, Code::UnsupportedModel, "sinks");
    let turned = changed(|tensors| {
        let at = find(tensors, "model.layers.0.mlp.down_proj.weight");
        tensors[at].shape.reverse();
    });
    refused(&same, &turned, Code::InvalidBundle, "model.layers.0.mlp.down_proj.weight");
    let whole = changed(|tensors| {
        let at = find(tensors, "model.norm.weight");
        tensors[at].dtype = Dtype::I16;
    });
    refused(&same, &whole, Code::UnsupportedModel, "model.norm.weight");
    let layers = config(|config| config["num_hidden_layers"] = 1.into());
    refused(&layers, &changed(|_| {}), Code::UnsupportedModel, "model.layers.1");
    let layers = config(|config| config["num_hidden_layers"] = 3.into());
    refused(&layers, &changed(|_| {}), Code::InvalidBundle, "blk.2");
    let vocab = config(|config| config["vocab_size"] = 63.into());
    refused(&vocab, &changed(|_| {}), Code::InvalidBundle, "embed_tokens");
}

#[test]
fn a_context_beyond_the_model_is_refused() {
    let files = Files::of("llama");
    let long = LoadOptions { context: Some(65), ..options(1, Isa::best()) };
    let error = load(&ModelFiles::Folder(&files.list()), &long).unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput, "{error}");
}

#[test]
fn the_context_is_what_fits_unless_it_is_asked_for() {
    let files = Files::of("llama");
    let info = |context, kv_bytes| {
        let options = LoadOptions { context, kv_bytes, ..options(1, Isa::best()) };
        decoder(&ModelFiles::Folder(&files.list()), &options).info().clone()
    };
    let bytes = info(None, 1 << 20).kv_bytes_per_token as u64;
    let sizes = |context, tokens| {
        let info = info(context, tokens * bytes);
        (info.context, info.pages)
    };
    assert_eq!(sizes(None, 640), (64, 40));
    assert_eq!(sizes(None, 47), (32, 2));
    assert_eq!(sizes(None, 0), (16, 1));
    assert_eq!(sizes(Some(33), 0), (33, 3));
}

#[test]
fn a_wrong_batch_is_refused() {
    let files = Files::of("llama");
    let mut model = decoder(&ModelFiles::Folder(&files.list()), &options(1, Isa::best()));
    let pages = model.info().pages as u32;
    let right =
        Segment { tokens: &[3; 4], start: 14, pages: &[0, 1], logits: LogitRows::Last, adapter: None };
    for (wrong, words) in [
        (Segment { tokens: &[], ..right }, "no tokens"),
        (Segment { tokens: &[64], ..right }, "token 64"),
        (Segment { pages: &[0], ..right }, "1 pages"),
        (Segment { pages: &[0, pages], ..right }, "page"),
        (Segment { start: 61, ..right }, "position 65"),
        (Segment { adapter: Some(0), ..right }, "adapter"),
    ] {
        let error = model.forward(&[wrong], &mut Vec::new()).unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
    let mut logits = Vec::new();
    model
        .forward(&[right, Segment { pages: &[2, 3], logits: LogitRows::None, ..right }], &mut logits)
        .unwrap();
    assert_eq!(logits.len(), 64);
    model.forward(&[], &mut logits).unwrap();
}

#[test]
fn copied_pages_go_on_alike_and_states_come_before_logits() {
    let (files, expected) = (Files::of("llama"), Expected::of("llama"));
    let tokens = expected.tokens("tokens");
    let mut model = decoder(&ModelFiles::Folder(&files.list()), &options(2, Isa::best()));
    Sequence::new(2).extend(&mut model, &tokens[..20], LogitRows::None);
    model.copy_page(0, 5);
    model.copy_page(1, 3);
    let mut logits = Vec::new();
    let rest =
        Segment { tokens: &tokens[20..], start: 20, pages: &[5, 3], logits: LogitRows::All, adapter: None };
    model.forward(&[rest], &mut logits).unwrap();
    check("after a copy", &logits, &expected.values("logits")[20 * 64..], 1e-4);
    let mut states = Vec::new();
    model.hidden(&[rest], &mut states).unwrap();
    assert_eq!(states.len(), 4 * model.info().d_model);
}

/// The root mean square of the differences.
fn difference(found: &[f32], wanted: &[f32]) -> f32 {
    let squares: f32 = found.iter().zip(wanted).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / wanted.len() as f32).sqrt()
}

#[test]
fn weights_are_quantised_on_request() {
    let (files, expected) = (Files::of("qwen3"), Expected::of("qwen3"));
    let wanted = expected.values("logits");
    let plain = decoder(&ModelFiles::Folder(&files.list()), &options(1, Isa::best()));
    // Rows of 40 values are no whole blocks: they become half precision. A row of 32 is no block of 256: Q8_0.
    for (format, tolerance) in
        [(Format::Q8_0, 0.1), (Format::Q4_K, 0.1), (Format::F16, 1e-4), (Format::Q4_0, 1.0)]
    {
        let options = LoadOptions { quantise: Some(format), ..options(1, Isa::best()) };
        let mut model = decoder(&ModelFiles::Folder(&files.list()), &options);
        let found = Sequence::new(4).extend(&mut model, &expected.tokens("tokens"), LogitRows::All);
        let error = difference(&found, &wanted);
        assert!(error < tolerance, "quantised as {format}: off by {error}");
        assert!(model.info().weight_bytes <= plain.info().weight_bytes);
        assert_eq!(model.info().parameters, plain.info().parameters);
    }
}

#[test]
fn bytes_that_were_read_are_given_back() {
    let files = Files::of("llama");
    let seen = std::cell::Cell::new(0);
    let release = |bytes: &[u8]| seen.set(seen.get() + bytes.len());
    let options = LoadOptions { release: &release, ..options(1, Isa::best()) };
    let model = decoder(&ModelFiles::Folder(&files.list()), &options);
    assert_eq!(seen.get() as u64, 2 * model.info().parameters);
}
