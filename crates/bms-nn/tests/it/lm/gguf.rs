//! The same tiny models as GGUF files, and adapters in both formats on both.

use bms_kernels::Isa;
use bms_nn::lm::convert::{ConvertOptions, Recipe, convert};
use bms_nn::lm::gguf::{Entry, GgufWriter, Pair, TensorKind};
use bms_nn::lm::names::{self, Mapped};
use bms_nn::lm::{AdapterFiles, Arch, Decoder, LoadOptions, LogitRows, ModelFiles, Network, Segment, load};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::hf::{Expected, FAMILIES, Files, adapter_file, check, context};
use super::{Sequence, decoder, options};

/// A tokenizer for a vocabulary of 64: a file cannot do without.
fn tokenizer(kind: &str) -> Vec<u8> {
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true})
    };
    let names = match kind {
        "bert" => ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        _ => ["<unk>", "<s>", "</s>", "▁", "."],
    };
    let texts = names
        .iter()
        .map(|name| (*name).to_owned())
        .chain((5..64).map(|id| char::from_u32('A' as u32 + id - 5).map(String::from).unwrap_or_default()));
    let vocab: Map<String, Value> = texts.enumerate().map(|(id, text)| (text, json!(id))).collect();
    let value = match kind {
        "bert" => json!({
            "version": "1.0",
            "added_tokens": (0..5).map(|id| special(id, names[id as usize])).collect::<Vec<_>>(),
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                    "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab},
        }),
        _ => json!({
            "version": "1.0",
            "added_tokens": (0..3).map(|id| special(id, names[id as usize])).collect::<Vec<_>>(),
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null,
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "vocab": vocab, "merges": []},
        }),
    };
    serde_json::to_vec(&value).unwrap()
}

/// The model as a GGUF file with the values it has.
fn converted(name: &str) -> bms_wire::Result<Vec<u8>> {
    let (files, tokenizer) = (Files::of(name), tokenizer(name));
    let [config, weights] = files.list();
    let marks = br#"{"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
        "mask_token": "[MASK]"}"#;
    let mut list = vec![config, weights, ("tokenizer.json", tokenizer.as_slice())];
    if name == "bert" {
        list.push(("tokenizer_config.json", marks));
    }
    let recipe = Recipe::parse("bf16").unwrap();
    let options = ConvertOptions { recipe, threads: 2, requantise: false, release: &|_| {} };
    let mut out = Vec::new();
    convert(&ModelFiles::Folder(&list), &mut out, &options, &mut |_| {})?;
    Ok(out)
}

#[test]
fn gguf_files_compute_the_same() {
    for name in FAMILIES {
        // A file of this family cannot say that a layer is without experts.
        if name == "qwen2-moe" {
            assert!(converted(name).is_err());
            continue;
        }
        let (bytes, expected) =
            (converted(name).unwrap_or_else(|error| panic!("{name}: {error}")), Expected::of(name));
        let options = LoadOptions { context: context(name), ..options(2, Isa::best()) };
        let mut model = decoder(&ModelFiles::Gguf(&bytes), &options);
        let tokens = expected.tokens("tokens");
        let found = Sequence::new(4).extend(&mut model, &tokens, LogitRows::All);
        check(&format!("{name} as GGUF"), &found, &expected.values("logits"), 1e-4);
    }
}

#[test]
fn an_encoder_as_gguf_computes_the_same() {
    let (bytes, expected) = (converted("bert").unwrap(), Expected::of("bert"));
    let loaded = load(&ModelFiles::Gguf(&bytes), &options(2, Isa::best())).unwrap();
    let Network::Embedder(mut embedder) = loaded else { panic!("a decoder") };
    for (index, vector) in (0..3)
        .map(|i| expected.tokens(&format!("tokens_{i}")))
        .enumerate()
        .map(|(i, tokens)| (i, embedder.embed(&[tokens]).unwrap().remove(0)))
    {
        check("an encoder as GGUF", &vector, &expected.values(&format!("mean_{index}")), 1e-5);
    }
}

/// The adapter of the folder as `convert_lora_to_gguf.py` writes it.
fn adapter_as_gguf(weights: &[u8]) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(weights).unwrap();
    let mut entries = Vec::new();
    let mut data = Vec::new();
    for (name, tensor) in tensors.tensors() {
        let path = name.strip_prefix("base_model.model.").unwrap();
        let (module, half) = path.split_once(".lora_").unwrap();
        let Mapped::Place(place) = names::place(Arch::Llama, &format!("{module}.weight")) else {
            panic!("{name}")
        };
        let (rows, cols) = (tensor.shape()[0], tensor.shape()[1]);
        let b = half.starts_with('B');
        let row = |row: usize| &tensor.data()[row * cols * 2..(row + 1) * cols * 2];
        let permuted = b && place.change != names::Change::None;
        let order = |at: usize| if permuted { names::permuted_row(at, 8) } else { at };
        data.push((0..rows).flat_map(|at| row(order(at)).to_vec()).collect::<Vec<u8>>());
        let name = format!("{}.lora_{}", place.name, if b { "b" } else { "a" });
        let kind = TensorKind::from_number(30).unwrap();
        entries.push(Entry { name, kind, dims: vec![cols, rows] });
    }
    let text = |text: &str| Pair::Text(text.to_owned());
    let pairs = [
        ("general.type".to_owned(), text("adapter")),
        ("general.architecture".to_owned(), text("llama")),
        ("adapter.type".to_owned(), text("lora")),
        ("adapter.lora.alpha".to_owned(), Pair::F32(6.0)),
    ];
    let mut out = Vec::new();
    let mut writer = GgufWriter::new(&mut out, &pairs, entries).unwrap();
    data.iter().for_each(|bytes| writer.write(bytes).unwrap());
    writer.finish().unwrap();
    out
}

#[test]
fn adapters_of_both_formats_fit_both_formats() {
    let (files, expected) = (Files::of("llama"), Expected::of("llama"));
    let (peft, config) = (adapter_file("adapter_model.safetensors"), adapter_file("adapter_config.json"));
    let (list, file, gguf) = (files.list(), converted("llama").unwrap(), adapter_as_gguf(&peft));
    let tokens = expected.tokens("tokens");
    for (base, model) in [("folder", ModelFiles::Folder(&list)), ("GGUF", ModelFiles::Gguf(&file))] {
        let mut model = decoder(&model, &options(2, Isa::best()));
        for (kind, files) in [
            ("PEFT", AdapterFiles { weights: &peft, config: Some(&config) }),
            ("GGUF", AdapterFiles { weights: &gguf, config: None }),
        ] {
            let adapter = Some(model.add_adapter(&files).unwrap_or_else(|error| panic!("{kind}: {error}")));
            let mut logits = Vec::new();
            let segment =
                Segment { tokens: &tokens, start: 0, pages: &[0, 1], logits: LogitRows::All, adapter };
            model.forward(&[segment], &mut logits).unwrap();
            check(&format!("{kind} on {base}"), &logits, &expected.values("adapter_logits"), 1e-4);
        }
    }
    let other = Files::of("mistral");
    let mut other = decoder(&ModelFiles::Folder(&other.list()), &options(1, Isa::best()));
    let error = other.add_adapter(&AdapterFiles { weights: &gguf, config: None }).unwrap_err();
    assert!(error.message().contains("attn_k"), "{error}");
}
