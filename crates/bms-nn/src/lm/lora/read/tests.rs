use super::*;

fn config(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn scales_follow_patterns() {
    let plain = config(r#"{"r": 8, "lora_alpha": 16}"#);
    assert_eq!(scale(&plain, "model.layers.0.self_attn.q_proj", 8).unwrap(), 2.0);
    let rooted = config(r#"{"r": 4, "lora_alpha": 16, "use_rslora": true}"#);
    assert_eq!(scale(&rooted, "model.layers.0.self_attn.q_proj", 4).unwrap(), 8.0);
    let patterns = config(
        r#"{"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 4},
            "alpha_pattern": {"^model.layers.0.self_attn.v_proj": 4}}"#,
    );
    assert_eq!(scale(&patterns, "model.layers.0.self_attn.q_proj", 2).unwrap(), 8.0);
    assert_eq!(scale(&patterns, "model.layers.1.mlp.up_proj", 4).unwrap(), 4.0);
    assert_eq!(scale(&patterns, "model.layers.0.mlp.up_proj", 8).unwrap(), 2.0);
    assert_eq!(scale(&patterns, "model.layers.0.self_attn.v_proj", 8).unwrap(), 0.5);
    assert!(scale(&patterns, "model.layers.0.self_attn.q_proj", 8).is_err(), "another rank than stated");
    assert!(scale(&config(r#"{"r": 8}"#), "x", 8).is_err(), "no alpha");
    let hard = config(r#"{"r": 8, "lora_alpha": 16, "alpha_pattern": {"layers\\.[01]\\.q_proj": 4}}"#);
    assert!(scale(&hard, "model.layers.0.self_attn.q_proj", 8).is_err());
}

#[test]
fn what_is_not_computed_is_refused() {
    assert!(
        refuse(&config(
            r#"{"peft_type": "LORA", "bias": "none", "use_dora": false, "modules_to_save": null}"#
        ))
        .is_ok()
    );
    for (keys, word) in [
        (r#""peft_type": "IA3""#, "peft_type"),
        (r#""peft_type": "LORA", "use_dora": true"#, "use_dora"),
        (r#""peft_type": "LORA", "bias": "all""#, "biases"),
        (r#""peft_type": "LORA", "modules_to_save": ["embed_tokens"]"#, "modules_to_save"),
        (r#""peft_type": "LORA", "init_lora_weights": "pissa_niter_4""#, "pissa"),
        (r#""peft_type": "LORA", "fan_in_fan_out": true"#, "fan_in_fan_out"),
    ] {
        let error = refuse(&config(&format!("{{{keys}}}"))).unwrap_err();
        assert!(error.message().contains(word), "{error}");
    }
}

#[test]
fn files_that_are_no_adapter_are_refused() {
    let json = br#"{"peft_type": "LORA", "r": 2, "lora_alpha": 2}"#;
    let tensors = |names: &[&str]| {
        let data = [0; 16];
        let view = |name: &&str| {
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &data).unwrap();
            ((*name).to_owned(), view)
        };
        safetensors::serialize(names.iter().map(view).collect::<Vec<_>>(), None).unwrap()
    };
    let attempt = |weights: &[u8], config: Option<&[u8]>| {
        read(Arch::Llama, &AdapterFiles { weights, config }).unwrap_err().message().to_owned()
    };
    assert!(attempt(b"no tensors", Some(json)).contains("cannot be read"));
    assert!(attempt(&tensors(&[]), None).contains("adapter_config.json"));
    let half = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight";
    assert!(attempt(&tensors(&[half]), Some(json)).contains("only one"));
    let magnitude = "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector.weight";
    assert!(attempt(&tensors(&[magnitude]), Some(json)).contains("magnitude"));
    let elsewhere = [
        "base_model.model.model.layers.0.other.lora_A.weight",
        "base_model.model.model.layers.0.other.lora_B.weight",
    ];
    assert!(attempt(&tensors(&elsewhere), Some(json)).contains("other"));
    assert!(attempt(b"GGUF", None).contains("GGUF"));
}
