//! LoRA adapters in both formats, on models in both.

use bms_kernels::Isa;
use bms_nn::lm::gguf::{Entry, GgufWriter, Pair, TensorKind};
use bms_nn::lm::names::{self, Mapped};
use bms_nn::lm::{AdapterFiles, Arch, Decoder, LogitRows, ModelFiles, Segment};
use safetensors::SafeTensors;

use super::converted::{converted, letters};
use super::hf::{Expected, Files, adapter_file, check};
use super::{decoder, options};

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
    let (list, gguf, tokenizer) = (files.list(), adapter_as_gguf(&peft), letters());
    let [own_config, own_weights] = list;
    let (file, _) = converted(&[own_config, own_weights, ("tokenizer.json", &tokenizer)], "f32");
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

#[test]
fn an_adapter_that_would_spoil_every_answer_is_refused() {
    let files = Files::of("llama");
    let config = adapter_file("adapter_config.json");
    let mut model = decoder(&ModelFiles::Folder(&files.list()), &options(1, Isa::best()));
    for value in [f32::NAN, f32::INFINITY] {
        let mut weights = adapter_file("adapter_model.safetensors");
        let last = weights.len() - 4;
        weights[last..].copy_from_slice(&value.to_le_bytes());
        let error =
            model.add_adapter(&AdapterFiles { weights: &weights, config: Some(&config) }).unwrap_err();
        assert!(error.message().contains("infinite"), "{error}");
    }
}

#[test]
fn an_adapter_changes_its_rows_alone() {
    let (files, expected) = (Files::of("llama"), Expected::of("llama"));
    let (weights, config) = (adapter_file("adapter_model.safetensors"), adapter_file("adapter_config.json"));
    let mut model = decoder(&ModelFiles::Folder(&files.list()), &options(2, Isa::best()));
    let adapter = model.add_adapter(&AdapterFiles { weights: &weights, config: Some(&config) }).unwrap();
    let tokens = expected.tokens("tokens");
    let (plain, adapted) = (expected.values("logits"), expected.values("adapter_logits"));
    let segment =
        |pages, adapter| Segment { tokens: &tokens, start: 0, pages, logits: LogitRows::All, adapter };
    let mut logits = Vec::new();
    let batch = [
        segment(&[0, 1], None),
        segment(&[2, 3], Some(adapter)),
        segment(&[4, 5], Some(adapter)),
        segment(&[6, 7], None),
    ];
    model.forward(&batch, &mut logits).unwrap();
    for (found, wanted) in logits.chunks(plain.len()).zip([&plain, &adapted, &adapted, &plain]) {
        check("with an adapter", found, wanted, 1e-4);
    }
    model.remove_adapter(adapter);
    let wrong = model.forward(&batch, &mut logits).unwrap_err();
    assert!(wrong.message().contains("adapter"), "{wrong}");
    assert_eq!(
        model.add_adapter(&AdapterFiles { weights: &weights, config: Some(&config) }).unwrap(),
        adapter
    );
    assert!(model.add_adapter(&AdapterFiles { weights: &weights, config: None }).is_err());
}
