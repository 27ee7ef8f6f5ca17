//! How Hugging Face models name their tensors, in GGUF's names.
//!
//! A GGUF file of the architecture `llama` holds the rows of the query and key projections in another order than a
//! Hugging Face folder does, because its rotary embedding turns neighbouring pairs where the original turns the two
//! halves of a head. A folder is computed as it lies; [`Change::PermuteQuery`] and its sibling tell a converter what to
//! do. Gemma's norms are stored less one in a folder, and whole in a GGUF file.

use super::Arch;

/// What a tensor is in a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name there, as in `blk.0.attn_q.weight`. Experts stored one by one have their number in it:
    /// `blk.0.ffn_gate.3.weight`, which belongs at place 3 of `blk.0.ffn_gate_exps.weight`.
    pub name: String,
    /// How the values differ.
    pub change: Change,
}

/// How a tensor of a folder differs from that of a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    None,
    /// The file holds the value plus one.
    PlusOne,
    /// The file holds the rows of each query head as [`permuted_row`] says.
    PermuteQuery,
    /// The same for the key heads.
    PermuteKey,
}

/// Where a tensor of a folder belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// It is this tensor.
    Place(Place),
    /// It takes no part in the computation: a buffer that follows from the configuration, or a head for training.
    Unneeded,
    /// Nobody knows.
    Unknown,
}

/// The row of a folder's projection that row `row` of the file's is, for heads of `head_dim` rows.
///
/// The file's rows `2 i` and `2 i + 1` of a head are the folder's `i` and `i + head_dim / 2`.
pub fn permuted_row(row: usize, head_dim: usize) -> usize {
    let (head, place) = (row / head_dim, row % head_dim);
    head * head_dim + place / 2 + (place % 2) * (head_dim / 2)
}

/// Where the tensor `name` of a folder belongs.
pub fn place(arch: Arch, name: &str) -> Mapped {
    match arch {
        Arch::Bert => bert(name),
        _ => decoder(arch, name),
    }
}

fn mapped(name: impl Into<String>, change: Change) -> Mapped {
    Mapped::Place(Place { name: name.into(), change })
}

fn decoder(arch: Arch, name: &str) -> Mapped {
    let gemma = matches!(arch, Arch::Gemma2 | Arch::Gemma3);
    let norm = if gemma { Change::PlusOne } else { Change::None };
    let picture = name.strip_prefix("model.").unwrap_or(name);
    if arch == Arch::Gemma3
        && (picture.starts_with("vision_tower.") || picture.starts_with("multi_modal_projector."))
    {
        return Mapped::Unneeded;
    }
    let name = match arch {
        Arch::Gemma3 => &without_language_model(name),
        _ => name,
    };
    match name {
        "model.embed_tokens.weight" => return mapped("token_embd.weight", Change::None),
        "model.norm.weight" => return mapped("output_norm.weight", norm),
        "lm_head.weight" => return mapped("output.weight", Change::None),
        "lm_head.bias" => return mapped("output.bias", Change::None),
        _ => {}
    }
    if name.ends_with("rotary_emb.inv_freq") {
        return Mapped::Unneeded;
    }
    let Some((layer, rest)) = layer(name, "model.layers.") else { return Mapped::Unknown };
    let Some((module, kind)) = rest.rsplit_once('.') else { return Mapped::Unknown };
    let Some(stem) = block(arch, module) else { return Mapped::Unknown };
    let change = match stem.as_str() {
        "attn_q" if arch == Arch::Llama => Change::PermuteQuery,
        "attn_k" if arch == Arch::Llama => Change::PermuteKey,
        stem if stem.ends_with("_norm") => norm,
        _ => Change::None,
    };
    match kind {
        "weight" | "bias" => mapped(format!("blk.{layer}.{stem}.{kind}"), change),
        _ => Mapped::Unknown,
    }
}

/// Text models taken out of a model of pictures keep its prefix.
fn without_language_model(name: &str) -> String {
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("model.{rest}"),
        None => name.to_owned(),
    }
}

/// The number of a layer and what follows it.
fn layer<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// The file's name of a module of a block.
pub(super) fn block(arch: Arch, module: &str) -> Option<String> {
    let sandwich = matches!(arch, Arch::Gemma2 | Arch::Gemma3);
    let stem = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if sandwich => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        "pre_feedforward_layernorm" if sandwich => "ffn_norm",
        "post_feedforward_layernorm" if sandwich => "post_ffw_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.gate" | "block_sparse_moe.gate" => "ffn_gate_inp",
        "mlp.shared_expert.gate_proj" => "ffn_gate_shexp",
        "mlp.shared_expert.up_proj" => "ffn_up_shexp",
        "mlp.shared_expert.down_proj" => "ffn_down_shexp",
        "mlp.shared_expert_gate" => "ffn_gate_inp_shexp",
        _ => return expert(module),
    };
    Some(stem.to_owned())
}

fn expert(module: &str) -> Option<String> {
    let rest =
        module.strip_prefix("mlp.experts.").or_else(|| module.strip_prefix("block_sparse_moe.experts."))?;
    let (number, part) = rest.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let stem = match part {
        "gate_proj" | "w1" => "ffn_gate",
        "down_proj" | "w2" => "ffn_down",
        "up_proj" | "w3" => "ffn_up",
        _ => return None,
    };
    Some(format!("{stem}.{number}"))
}

fn bert(name: &str) -> Mapped {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    if name == "embeddings.position_ids" || name.starts_with("pooler.") || name.starts_with("cls.") {
        return Mapped::Unneeded;
    }
    match name {
        "embeddings.word_embeddings.weight" => return mapped("token_embd.weight", Change::None),
        "embeddings.position_embeddings.weight" => return mapped("position_embd.weight", Change::None),
        "embeddings.token_type_embeddings.weight" => return mapped("token_types.weight", Change::None),
        "embeddings.LayerNorm.weight" => return mapped("token_embd_norm.weight", Change::None),
        "embeddings.LayerNorm.bias" => return mapped("token_embd_norm.bias", Change::None),
        _ => {}
    }
    let Some((layer, rest)) = layer(name, "encoder.layer.") else { return Mapped::Unknown };
    let Some((module, kind)) = rest.rsplit_once('.') else { return Mapped::Unknown };
    let stem = match module {
        "attention.self.query" => "attn_q",
        "attention.self.key" => "attn_k",
        "attention.self.value" => "attn_v",
        "attention.output.dense" => "attn_output",
        "attention.output.LayerNorm" => "attn_output_norm",
        "intermediate.dense" => "ffn_up",
        "output.dense" => "ffn_down",
        "output.LayerNorm" => "layer_output_norm",
        _ => return Mapped::Unknown,
    };
    match kind {
        "weight" | "bias" => mapped(format!("blk.{layer}.{stem}.{kind}"), Change::None),
        _ => Mapped::Unknown,
    }
}

#[cfg(test)]
mod tests;
