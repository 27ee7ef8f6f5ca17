use super::*;

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 96, "vocab_size": 100"#;

/// The hyper-parameters of a small llama with more keys.
fn llama(keys: &str) -> Result<Hyper> {
    Hyper::from_config(format!("{LLAMA}{keys}}}").as_bytes())
}

#[track_caller]
fn refused(keys: &str, code: Code, words: &str) {
    let error = llama(keys).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(words), "{error}");
}

#[test]
fn a_short_configuration_has_its_class_defaults() {
    let hyper = llama("").unwrap();
    assert_eq!((hyper.kv_heads, hyper.head_dim, hyper.context), (4, 16, 2048));
    assert_eq!((hyper.norm_eps, hyper.tied), (1e-6, Some(false)));
    assert_eq!(hyper.rope.unwrap().base, 1e4);
}

#[test]
fn scalings_of_both_ages_are_read() {
    let old = llama(r#", "rope_theta": 5000.0, "rope_scaling": {"type": "linear", "factor": 4.0}"#).unwrap();
    let new = llama(r#", "rope_parameters": {"rope_theta": 5000.0, "rope_type": "linear", "factor": 4.0}"#)
        .unwrap();
    assert_eq!(old.rope, new.rope);
    assert_eq!(new.rope.unwrap().scaling, Scaling::Linear { factor: 4.0 });
    let none = llama(r#", "rope_scaling": null"#).unwrap();
    assert_eq!(none.rope.unwrap().scaling, Scaling::None);
}

#[test]
fn what_is_not_computed_is_refused() {
    let unsupported = Code::UnsupportedModel;
    refused(r#", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}"#, unsupported, "dynamic");
    refused(r#", "hidden_act": "relu""#, unsupported, "relu");
    refused(r#", "quantization_config": {"quant_method": "gptq"}"#, unsupported, "gptq");
    let other = Hyper::from_config(br#"{"model_type": "mamba"}"#).unwrap_err();
    assert_eq!(other.code(), unsupported);
    assert!(other.advice().unwrap().contains("qwen3moe"), "{other}");
}

#[test]
fn what_is_impossible_is_refused() {
    let invalid = Code::InvalidBundle;
    refused(r#", "num_key_value_heads": 3"#, invalid, "3 key-value heads");
    refused(r#", "num_key_value_heads": "two""#, invalid, "num_key_value_heads");
    refused(r#", "head_dim": 15"#, invalid, "rotary");
    refused(r#", "rope_theta": 0.0"#, invalid, "base");
    refused(r#", "rope_scaling": {"rope_type": "linear"}"#, invalid, "factor");
    assert_eq!(Hyper::from_config(b"[]").unwrap_err().code(), invalid);
    assert_eq!(Hyper::from_config(b"{").unwrap_err().code(), invalid);
}

#[test]
fn windows_follow_each_family() {
    let qwen = |keys: &str| {
        let text = LLAMA
            .replace("\"llama\"", "\"qwen2\"")
            .replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4");
        Hyper::from_config(
            format!("{text}, \"num_key_value_heads\": 2, \"sliding_window\": 8{keys}}}").as_bytes(),
        )
        .unwrap()
    };
    assert_eq!(qwen("").window, None);
    let layers = |hyper: Hyper| hyper.window.unwrap().layers;
    assert_eq!(
        layers(qwen(r#", "use_sliding_window": true, "max_window_layers": 3"#)),
        [false, false, false, true]
    );
    let gemma = LLAMA.replace("\"llama\"", "\"gemma2\"");
    let gemma = Hyper::from_config(format!("{gemma}, \"num_key_value_heads\": 2}}").as_bytes()).unwrap();
    assert_eq!((gemma.head_dim, gemma.embedding_scale), (256, 8.0));
    assert_eq!(gemma.logit_softcap, Some(30.0));
    assert_eq!(layers(gemma), [true, false]);
    let mistral = LLAMA.replace("\"llama\"", "\"mistral\"");
    let with = |keys: &str| {
        Hyper::from_config(format!("{mistral}, \"num_key_value_heads\": 2{keys}}}").as_bytes()).unwrap()
    };
    assert_eq!(with("").window.map(|window| window.tokens), Some(4096));
    assert_eq!(with(r#", "sliding_window": null"#).window, None);
}
