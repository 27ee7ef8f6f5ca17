//! The scanner on ONNX models.

use bms_bundle::{Format, Nature, Severity, scan};

use crate::samples::{
    clean, external, field, finds, model, node, node_body, number, onnx, rules, serious, tensor,
};

/// An initializer whose data lies at `location`.
fn stored_at(location: &str) -> Vec<u8> {
    tensor(&[4], &[], &external(&[("location", location)]))
}

#[test]
fn an_ordinary_model_is_clean() {
    let scanned = scan::scan_file("anything.txt", &onnx());
    assert_eq!(scanned.format, Format::Onnx, "content decides, not the name");
    assert_eq!(scanned.findings, []);
}

#[test]
fn external_data_outside_the_folder_is_found_wherever_it_hides() {
    let evil = stored_at("../../etc/passwd");
    let constant = |body: Vec<u8>| node_body("", "Constant", &field(5, &[field(1, b"value"), body].concat()));
    let attribute = |body: Vec<u8>| field(1, &constant(body));
    let subgraph = |depth: usize| (0..depth).fold(field(5, &evil), |inner, _| attribute(field(6, &inner)));
    let function = [field(1, b"f"), field(10, b"local"), field(7, &constant(field(5, &evil)))].concat();
    for (place, bytes) in [
        ("initializer", model(&field(5, &evil), &[])),
        ("sparse values", model(&field(15, &field(1, &evil)), &[])),
        ("sparse indices", model(&field(15, &field(2, &evil)), &[])),
        ("attribute", model(&attribute(field(5, &evil)), &[])),
        ("attribute list", model(&attribute(field(10, &evil)), &[])),
        ("sparse attribute", model(&attribute(field(22, &field(1, &evil))), &[])),
        ("subgraph", model(&subgraph(1), &[])),
        ("deep subgraph", model(&subgraph(20), &[])),
        ("graph list", model(&attribute(field(11, &field(5, &evil))), &[])),
        ("function", model(&[], &field(25, &function))),
        ("function default", model(&[], &field(25, &field(11, &field(5, &evil))))),
        ("training start", model(&[], &field(20, &field(1, &field(5, &evil))))),
        ("training step", model(&[], &field(20, &field(2, &field(5, &evil))))),
    ] {
        assert!(rules(&bytes).contains(&"onnx-external-path".to_owned()), "{place}");
    }
}

#[test]
fn every_kind_of_bad_location_is_found() {
    for location in [
        "../x",
        "safe/../../x",
        "/etc/passwd",
        "C:\\x",
        "..\\x",
        "https://x/y",
        "x\0.bin",
        "file:///x",
        "~/x",
    ] {
        finds(&model(&field(5, &stored_at(location)), &[]), "onnx-external-path");
    }
    clean(&model(&field(5, &stored_at("weights/model.bin")), &[]));
    let range = tensor(&[4], &[], &external(&[("location", "w.bin"), ("offset", "-4096")]));
    finds(&model(&field(5, &range), &[]), "onnx-external-range");
}

#[test]
fn the_last_of_repeated_fields_counts_as_for_readers() {
    let twice = field(13, &[field(1, b"location"), field(2, b"safe.bin"), field(2, b"../evil")].concat());
    finds(&model(&field(5, &tensor(&[4], &[], &twice)), &[]), "onnx-external-path");
}

#[test]
fn operators_that_need_code_are_found() {
    finds(&model(&node("ai.onnx.contrib", "PyCustomOp", &[]), &[]), "onnx-code-operator");
    finds(&model(&node("", "PyOp", &[]), &[]), "onnx-code-operator");
    finds(&model(&node("my.company", "Secret", &[]), &[]), "onnx-custom-operator");
    for domain in ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"] {
        clean(&model(&node(domain, "Gelu", &[]), &[]));
    }
}

#[test]
fn functions_the_model_defines_are_no_custom_operators() {
    let function =
        [field(1, b"Swish"), field(10, b"local"), field(7, &node_body("", "Sigmoid", &[]))].concat();
    clean(&model(&node("local", "Swish", &[]), &field(25, &function)));
    finds(&model(&node("local", "Other", &[]), &field(25, &function)), "onnx-custom-operator");
}

#[test]
fn compiled_programs_are_found() {
    let attribute = |value: &[u8]| field(5, &[field(1, b"ep_cache_context"), field(4, value)].concat());
    let at = |value: &[u8]| serious(&model(&node("com.microsoft", "EPContext", &attribute(value)), &[]));
    assert_eq!(at(b"../engine.bin")[0].severity, Severity::High);
    assert_eq!(at(b"engine.bin")[0].severity, Severity::Medium);
}

#[test]
fn sizes_that_contradict_each_other_are_found() {
    for weight in [
        tensor(&[3], &[0; 16], &[]),
        tensor(&[u64::MAX], &[0; 16], &[]),
        tensor(&[1 << 40, 1 << 40], &[0; 16], &[]),
    ] {
        finds(&model(&field(5, &weight), &[]), "onnx-tensor");
    }
    finds(
        &model(&field(5, &[number(1, 1 << 40), number(1, 1 << 40), number(2, 1)].concat()), &[]),
        "onnx-size-bomb",
    );
    // Packed dimensions are the same dimensions.
    let packed = [field(1, &[2, 2]), number(2, 1), field(9, &[0; 16])].concat();
    clean(&model(&field(5, &packed), &[]));
    let wrong = [field(1, &[2, 3]), number(2, 1), field(9, &[0; 16])].concat();
    finds(&model(&field(5, &wrong), &[]), "onnx-tensor");
}

#[test]
fn endless_nesting_is_found_and_not_followed() {
    let mut graph = node("", "Relu", &[]);
    for _ in 0..5000 {
        graph = node("", "If", &field(5, &field(6, &graph)));
    }
    finds(&model(&graph, &[]), "onnx-nesting");
}

#[test]
fn a_truncated_model_is_malformed_and_no_attack() {
    let whole = onnx();
    let mut seen = 0;
    for length in 20..whole.len() {
        let scanned = scan::scan_file("model.onnx", &whole[..length]);
        if scanned.format != Format::Onnx {
            continue;
        }
        // A cut between two fields leaves a shorter model that is whole.
        for finding in &scanned.findings {
            assert_eq!(finding.nature, Nature::Malformed, "{length} bytes: {finding}");
            seen += 1;
        }
    }
    assert!(whole.len() / 2 < seen, "only {seen} truncations were noticed");
}

#[test]
fn two_graphs_are_found() {
    finds(&model(&node("", "Relu", &[]), &field(7, &node("", "Tanh", &[]))), "onnx-repeated-graph");
}

#[test]
fn metadata_that_hides_programs_is_found() {
    use base64::Engine;
    let hidden = base64::engine::general_purpose::STANDARD.encode(crate::samples::hostile_pickle());
    let entry = |value: &str| field(14, &[field(1, b"note"), field(2, value.as_bytes())].concat());
    finds(&model(&node("", "Relu", &[]), &entry(&hidden)), "metadata-encoded");
    finds(&model(&node("", "Relu", &[]), &entry("__import__('os').system('echo nope')")), "metadata-code");
    clean(&model(&node("", "Relu", &[]), &entry("trained without os.system( or eval( anywhere")));
}

#[test]
fn harmless_notes_do_not_crowd_out_an_attack() {
    let note = |at: usize| field(5, &stored_at(&format!("part-{at}.bin")));
    let many: Vec<u8> = (0..500).flat_map(note).collect();
    clean(&model(&many, &[]));
    finds(&model(&[many, field(5, &stored_at("../evil"))].concat(), &[]), "onnx-external-path");
}
