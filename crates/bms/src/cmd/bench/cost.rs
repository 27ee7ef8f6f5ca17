//! What one token costs at least: bytes that must be read, operations that must be done.

use bms_nn::lm::DecoderInfo;
use bms_nn::lm::gguf::{GgufFile, TensorInfo};
use bms_wire::Result;
use serde_json::{Value, json};

use super::drive::PROMPT_TOKENS;

/// The cost of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Bytes of weights that one sequence reads for one token.
    decode_bytes: f64,
    /// Operations for one token with its logits; a product and its addition are two.
    decode_operations: f64,
    /// Operations for one token of a prompt: without the logits, with attention to half of the prompt.
    prefill_operations: f64,
    /// Whether most weights are quantised, so that their products can be computed in integers.
    integer_products: bool,
}

impl Cost {
    /// Of a GGUF file, tensor by tensor.
    pub(super) fn of_gguf(bytes: &[u8], info: &DecoderInfo) -> Result<Cost> {
        let file = GgufFile::parse(bytes)?;
        let tied = file.tensor("output.weight").is_none();
        let count = |name: &str| file.metadata.number(&format!("{}.{name}", info.arch));
        let (used, all) = (count("expert_used_count")?, count("expert_count")?);
        let share = used.zip(all).map_or(1.0, |(used, all)| used as f64 / all.max(1) as f64);
        let mut cost = Cost::default();
        let (mut quantised, mut plain) = (0, 0);
        for tensor in file.tensors().iter().filter(|tensor| is_matrix(tensor)) {
            let embedding = tensor.name == "token_embd.weight";
            if embedding && !tied {
                continue;
            }
            let share = if tensor.name.contains("_exps") { share } else { 1.0 };
            let operations = share * 2.0 * (tensor.rows() * tensor.cols()) as f64;
            cost.decode_bytes += share * tensor.bytes.len() as f64;
            cost.decode_operations += operations;
            if !embedding && tensor.name != "output.weight" {
                cost.prefill_operations += operations;
            }
            let values = tensor.rows() * tensor.cols();
            match tensor.kind.block_len() {
                1 => plain += values,
                _ => quantised += values,
            }
        }
        cost.integer_products = plain < quantised;
        cost.prefill_operations += attention(info);
        Ok(cost)
    }

    /// Of what the loaded model says of itself, as if every weight took part in every token.
    pub(super) fn of_info(info: &DecoderInfo) -> Cost {
        let parameters = info.parameters as f64;
        let output = (info.vocab * info.d_model) as f64;
        Cost {
            decode_bytes: info.weight_bytes as f64,
            decode_operations: 2.0 * parameters,
            prefill_operations: 2.0 * (parameters - output).max(0.0) + attention(info),
            integer_products: (info.weight_bytes as f64) < 1.5 * parameters,
        }
    }

    pub(super) fn json(self, info: &DecoderInfo) -> Value {
        json!({
            "name": info.name, "arch": info.arch, "vocab": info.vocab, "parameters": info.parameters,
            "weight_bytes": info.weight_bytes, "kv_bytes_per_token": info.kv_bytes_per_token,
            "decode_bytes_per_token": self.decode_bytes, "decode_operations_per_token": self.decode_operations,
            "prefill_operations_per_token": self.prefill_operations, "integer_products": self.integer_products,
        })
    }
}

fn is_matrix(tensor: &TensorInfo<'_>) -> bool {
    1 < tensor.dims().len() && 1 < tensor.rows()
}

/// Scores and sums of the values, over half of the prompt on average.
fn attention(info: &DecoderInfo) -> f64 {
    4.0 * (info.d_model * info.layers * PROMPT_TOKENS / 2) as f64
}

#[cfg(test)]
mod tests;
