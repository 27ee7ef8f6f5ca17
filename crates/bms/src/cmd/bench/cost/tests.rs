use super::*;

fn info() -> DecoderInfo {
    DecoderInfo {
        name: String::new(),
        arch: "llama".to_owned(),
        vocab: 100,
        context: 512,
        layers: 2,
        d_model: 10,
        pages: 1,
        page_tokens: 16,
        kv_bytes_per_token: 1,
        parameters: 5000,
        weight_bytes: 2500,
    }
}

#[test]
fn without_a_file_all_weights_take_part() {
    let cost = Cost::of_info(&info());
    assert_eq!(cost.decode_bytes, 2500.0);
    assert_eq!(cost.decode_operations, 10_000.0);
    assert_eq!(cost.prefill_operations, 8000.0 + 4.0 * 10.0 * 2.0 * 256.0);
    assert!(cost.integer_products);
}
