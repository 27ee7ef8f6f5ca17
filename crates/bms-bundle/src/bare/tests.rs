use super::slug;

#[test]
fn any_file_name_becomes_a_model_name() {
    for (text, name) in [
        ("SmolLM2-135M-Instruct.Q4_1", "smollm2-135m-instruct.q4_1"),
        ("model (1)", "model--1-"),
        ("__x", "x"),
        ("模型", "model"),
        ("", "model"),
    ] {
        assert_eq!(slug(text), name);
        crate::check_name(name).unwrap();
    }
    assert_eq!(slug(&"a".repeat(500)).len(), bms_wire::limits::NAME_CHARS_MAX);
}
