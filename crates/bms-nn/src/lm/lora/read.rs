//! Reads the files of an adapter: a PEFT folder, or a GGUF file made by `convert_lora_to_gguf.py`.

use std::collections::BTreeMap;

use bms_kernels::Format;
use bms_wire::Result;
use safetensors::SafeTensors;
use serde_json::{Map, Value};

use super::{invalid, unsupported};
use crate::lm::decoder::AdapterFiles;
use crate::lm::gguf::{self, GgufFile};
use crate::lm::hyper::Arch;
use crate::lm::names::{self, Mapped};
use crate::lm::weights::MatrixView;

/// In which order rows of query and key heads lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As in a Hugging Face folder.
    Folder,
    /// As in a GGUF file.
    File,
}

/// What is added to one tensor.
#[derive(Debug)]
pub(super) struct Factors<'a> {
    /// The tensor's name in a GGUF file.
    pub(super) target: String,
    pub(super) a: MatrixView<'a>,
    pub(super) b: MatrixView<'a>,
    pub(super) scale: f32,
    pub(super) order: Order,
}

/// Reads an adapter for a model of this family.
pub(super) fn read<'a>(arch: Arch, files: &AdapterFiles<'a>) -> Result<Vec<Factors<'a>>> {
    match files.weights.starts_with(&gguf::MAGIC) {
        true => file(arch, files.weights),
        false => folder(arch, files),
    }
}

/// The two halves of a pair, as they are found.
type Halves<'a> = BTreeMap<String, (Option<MatrixView<'a>>, Option<MatrixView<'a>>)>;

fn whole<'a>(halves: Halves<'a>) -> Result<Vec<(String, MatrixView<'a>, MatrixView<'a>)>> {
    let both = |(target, pair)| match pair {
        (Some(a), Some(b)) => Ok((target, a, b)),
        _ => Err(invalid(format_args!("`{target}` has only one of its two matrices"))),
    };
    halves.into_iter().map(both).collect()
}

fn file(arch: Arch, bytes: &[u8]) -> Result<Vec<Factors<'_>>> {
    let file = GgufFile::parse(bytes)?;
    let (kind, method) = (file.metadata.text("general.type")?, file.metadata.text("adapter.type")?);
    if (kind, method) != (Some("adapter"), Some("lora")) {
        return Err(invalid("the GGUF file is no LoRA adapter"));
    }
    let own = file.metadata.text("general.architecture")?;
    if own != Some(arch.as_str()) {
        return Err(invalid(format_args!(
            "it is for `{}`, the model is a `{}`",
            own.unwrap_or("?"),
            arch.as_str()
        )));
    }
    if file.metadata.get("adapter.alora.invocation_tokens").is_some() {
        return Err(unsupported("it begins to work at certain tokens"));
    }
    let alpha = file.metadata.real("adapter.lora.alpha")?.unwrap_or(0.0);
    let mut halves = Halves::new();
    for tensor in file.tensors() {
        let Some(format) = Format::from_ggml(tensor.kind.number()).filter(|format| !format.is_quantised())
        else {
            return Err(unsupported(format_args!("`{}` holds {}", tensor.name, tensor.kind.name())));
        };
        if tensor.dims().len() != 2 {
            return Err(invalid(format_args!("`{}` is no matrix", tensor.name)));
        }
        let view = MatrixView { format, rows: tensor.rows(), cols: tensor.cols(), bytes: tensor.bytes };
        if let Some(target) = tensor.name.strip_suffix(".lora_a") {
            halves.entry(target.to_owned()).or_default().0 = Some(view);
        } else if let Some(target) = tensor.name.strip_suffix(".lora_b") {
            halves.entry(target.to_owned()).or_default().1 = Some(view);
        } else {
            return Err(unsupported(format_args!("it has the tensor `{}`", tensor.name)));
        }
    }
    let mut all = Vec::new();
    for (target, a, b) in whole(halves)? {
        let scale = if alpha == 0.0 { 1.0 } else { alpha / a.rows.max(1) as f32 };
        all.push(Factors { target, a, b, scale, order: Order::File });
    }
    Ok(all)
}

fn folder<'a>(arch: Arch, files: &AdapterFiles<'a>) -> Result<Vec<Factors<'a>>> {
    let json = files.config.ok_or_else(|| invalid("its `adapter_config.json` is missing"))?;
    let config: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|error| invalid(format_args!("`adapter_config.json` is no JSON object: {error}")))?;
    refuse(&config)?;
    let tensors = SafeTensors::deserialize(files.weights)
        .map_err(|error| invalid(format_args!("its weights cannot be read: {error}")))?;
    let mut halves = Halves::new();
    for (name, tensor) in tensors.iter() {
        let path = name.strip_prefix("base_model.model.").unwrap_or(name);
        let (module, rest) = [".lora_A.", ".lora_B."]
            .into_iter()
            .find_map(|part| path.split_once(part).map(|(module, end)| (module, (part, end))))
            .ok_or_else(|| unsupported(format_args!("it has the tensor `{name}`")))?;
        if !rest.1.ends_with("weight") {
            return Err(unsupported(format_args!("it has the tensor `{name}`")));
        }
        let format = match tensor.dtype() {
            safetensors::Dtype::F32 => Format::F32,
            safetensors::Dtype::F16 => Format::F16,
            safetensors::Dtype::BF16 => Format::BF16,
            other => return Err(unsupported(format_args!("`{name}` holds {other:?}"))),
        };
        let [rows, cols] = *tensor.shape() else {
            return Err(invalid(format_args!("`{name}` is no matrix")));
        };
        let view = MatrixView { format, rows, cols, bytes: tensor.data() };
        let pair = halves.entry(module.to_owned()).or_default();
        match rest.0 {
            ".lora_A." => pair.0 = Some(view),
            _ => pair.1 = Some(view),
        }
    }
    let mut all = Vec::new();
    for (module, a, b) in whole(halves)? {
        let Mapped::Place(place) = names::place(arch, &format!("{module}.weight")) else {
            return Err(unsupported(format_args!("it adds to `{module}`")));
        };
        let scale = scale(&config, &module, a.rows)?;
        all.push(Factors { target: place.name, a, b, scale, order: Order::Folder });
    }
    Ok(all)
}

/// Refuses what would change the computation and is not supported.
fn refuse(config: &Map<String, Value>) -> Result<()> {
    if config.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(unsupported("its `peft_type` is not `LORA`"));
    }
    for key in ["use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora"] {
        if config.get(key).is_some_and(|value| *value != Value::Bool(false) && !value.is_null()) {
            return Err(unsupported(format_args!("it uses `{key}`")));
        }
    }
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    for key in [
        "modules_to_save",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "alora_invocation_tokens",
        "arrow_config",
    ] {
        if config.get(key).is_some_and(|value| !empty(value)) {
            return Err(unsupported(format_args!("it uses `{key}`")));
        }
    }
    if config.get("bias").is_some_and(|bias| !bias.is_null() && bias != "none") {
        return Err(unsupported("it changes biases"));
    }
    // These move a part of the model's own weights into the adapter, so it belongs to another model.
    let start = config.get("init_lora_weights").and_then(Value::as_str).unwrap_or("");
    if ["pissa", "olora", "corda", "loftq"].iter().any(|kind| start.starts_with(kind)) {
        return Err(unsupported(format_args!("it was made with `init_lora_weights` = `{start}`"))
            .hint("Convert it to a plain LoRA with PEFT's `path_initial_model_for_weight_conversion`."));
    }
    Ok(())
}

/// What `B (A x)` is multiplied with in one module.
fn scale(config: &Map<String, Value>, module: &str, rank: usize) -> Result<f32> {
    let alpha = match pattern(config, "alpha_pattern", module)? {
        Some(alpha) => Some(alpha),
        None => config.get("lora_alpha").and_then(Value::as_f64),
    };
    let alpha = alpha.ok_or_else(|| invalid("`adapter_config.json` does not give `lora_alpha`"))?;
    let stated = match pattern(config, "rank_pattern", module)? {
        Some(rank) => Some(rank),
        None => config.get("r").and_then(Value::as_f64),
    };
    if stated.is_some_and(|stated| stated != rank as f64) {
        return Err(invalid(format_args!("`{module}` has the rank {rank}, its configuration says another")));
    }
    let rank = rank.max(1) as f64;
    let rooted = config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
    Ok((alpha / if rooted { rank.sqrt() } else { rank }) as f32)
}

/// The number a table of patterns gives a module. A pattern is the end of the module's path.
fn pattern(config: &Map<String, Value>, key: &str, module: &str) -> Result<Option<f64>> {
    let Some(table) = config.get(key).and_then(Value::as_object) else { return Ok(None) };
    for (pattern, value) in table {
        let (anchored, plain) = match pattern.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, pattern.as_str()),
        };
        if plain.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')) {
            return Err(unsupported(format_args!("the pattern `{pattern}` of its `{key}`")));
        }
        let ends = module.strip_suffix(plain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if ends && (!anchored || module == plain) {
            return Ok(value.as_f64());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
