use super::*;

#[track_caller]
fn check(arch: Arch, name: &str, wanted: &str, change: Change) {
    assert_eq!(place(arch, name), Mapped::Place(Place { name: wanted.to_owned(), change }), "{name}");
}

#[test]
fn names_of_blocks() {
    check(Arch::Llama, "model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight", Change::PermuteQuery);
    check(Arch::Llama, "model.layers.3.self_attn.k_proj.bias", "blk.3.attn_k.bias", Change::PermuteKey);
    check(Arch::Qwen2, "model.layers.0.self_attn.q_proj.bias", "blk.0.attn_q.bias", Change::None);
    check(
        Arch::Llama,
        "model.layers.11.post_attention_layernorm.weight",
        "blk.11.ffn_norm.weight",
        Change::None,
    );
    check(
        Arch::Gemma2,
        "model.layers.1.post_attention_layernorm.weight",
        "blk.1.post_attention_norm.weight",
        Change::PlusOne,
    );
    check(
        Arch::Gemma3,
        "model.layers.1.self_attn.q_norm.weight",
        "blk.1.attn_q_norm.weight",
        Change::PlusOne,
    );
    check(Arch::Qwen3, "model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight", Change::None);
    check(Arch::Gemma3, "language_model.model.norm.weight", "output_norm.weight", Change::PlusOne);
    check(Arch::Gemma3, "model.language_model.embed_tokens.weight", "token_embd.weight", Change::None);
    check(Arch::Phi3, "model.layers.1.mlp.gate_up_proj.weight", "blk.1.ffn_up.weight", Change::None);
    check(
        Arch::Llama,
        "model.layers.1.block_sparse_moe.experts.7.w2.weight",
        "blk.1.ffn_down.7.weight",
        Change::None,
    );
    check(
        Arch::Bert,
        "bert.encoder.layer.5.attention.output.LayerNorm.bias",
        "blk.5.attn_output_norm.bias",
        Change::None,
    );
}

#[test]
fn what_is_not_known_is_said() {
    assert_eq!(place(Arch::Llama, "model.layers.0.self_attn.q_proj.scales"), Mapped::Unknown);
    assert_eq!(place(Arch::Llama, "model.layers.x.self_attn.q_proj.weight"), Mapped::Unknown);
    assert_eq!(place(Arch::Llama, "model.layers.0.post_feedforward_layernorm.weight"), Mapped::Unknown);
    assert_eq!(place(Arch::Llama, "model.layers.0.self_attn.rotary_emb.inv_freq"), Mapped::Unneeded);
    assert_eq!(place(Arch::Bert, "pooler.dense.weight"), Mapped::Unneeded);
}

#[test]
fn rows_of_a_head_are_interleaved() {
    let order: Vec<usize> = (0..8).map(|row| permuted_row(row, 4)).collect();
    assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
}
