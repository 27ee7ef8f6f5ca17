//! The key-value pairs of a GGUF file that say how its model is computed, from a folder's configuration.

use bms_kernels::Format;
use bms_wire::{Code, Error, Result};

use super::plan::{Part, Planned};
use crate::lm::gguf::Pair;
use crate::lm::hf::HfFolder;
use crate::lm::{Activation, Arch, Hyper, Pooling, Rope, Scaling};

/// Pairs with the family's name in front of their keys.
struct Pairs {
    arch: Arch,
    pairs: Vec<(String, Pair)>,
}

impl Pairs {
    fn put(&mut self, key: &str, value: Pair) {
        self.pairs.push((format!("{}.{key}", self.arch.as_str()), value));
    }

    fn number(&mut self, key: &str, value: usize) -> Result<()> {
        let value = u32::try_from(value)
            .map_err(|_| Error::new(Code::UnsupportedModel, format!("`{key}` of the model is {value}")))?;
        self.put(key, Pair::U32(value));
        Ok(())
    }

    fn real(&mut self, key: &str, value: f32) {
        self.put(key, Pair::F32(value));
    }
}

/// What a GGUF file of this model says, the tokenizer aside. `rows` are those of the embedding.
///
/// Errors: [`Code::UnsupportedModel`] for what the format has no key for.
pub(super) fn pairs(hyper: &Hyper, folder: &HfFolder<'_>, rows: usize) -> Result<Vec<(String, Pair)>> {
    let mut out = Pairs { arch: hyper.arch, pairs: Vec::new() };
    out.pairs.push(("general.architecture".into(), Pair::Text(hyper.arch.as_str().into())));
    out.pairs.push(("general.type".into(), Pair::Text("model".into())));
    if let Some(name) = &hyper.name {
        let name = name.rsplit('/').next().unwrap_or(name);
        out.pairs.push(("general.name".into(), Pair::Text(name.into())));
    }
    out.number("block_count", hyper.layers)?;
    out.number("context_length", hyper.context)?;
    out.number("embedding_length", hyper.d_model)?;
    out.number("feed_forward_length", hyper.ffn)?;
    out.number("attention.head_count", hyper.heads)?;
    out.number("attention.head_count_kv", hyper.kv_heads)?;
    out.number("vocab_size", rows)?;
    match hyper.arch {
        Arch::Bert => bert(hyper, folder, &mut out)?,
        _ => decoder(hyper, &mut out)?,
    }
    Ok(out.pairs)
}

fn unsupported(what: &str) -> Error {
    Error::new(Code::UnsupportedModel, format!("a GGUF file cannot say {what}"))
        .hint("Serve the folder itself.")
}

fn bert(hyper: &Hyper, folder: &HfFolder<'_>, out: &mut Pairs) -> Result<()> {
    if hyper.activation != Activation::Gelu {
        return Err(unsupported("that an encoder has another activation than GELU"));
    }
    out.real("attention.layer_norm_epsilon", hyper.norm_eps);
    out.put("attention.causal", Pair::Bool(false));
    let pooling = match hyper.pooling {
        Some(pooling) => Some(pooling),
        None => pooling(folder)?,
    };
    if let Some(pooling) = pooling {
        let number = match pooling {
            Pooling::Mean => 1,
            Pooling::Cls => 2,
            Pooling::Last => 3,
        };
        out.put("pooling_type", Pair::U32(number));
    }
    Ok(())
}

/// How a folder of Sentence Transformers pools.
fn pooling(folder: &HfFolder<'_>) -> Result<Option<Pooling>> {
    let Some(bytes) = folder.file("1_Pooling/config.json") else { return Ok(None) };
    let config: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
        Error::new(Code::InvalidBundle, format!("`1_Pooling/config.json` is no JSON: {error}"))
    })?;
    let on = |key: &str| config.get(key).and_then(serde_json::Value::as_bool).unwrap_or(false);
    let modes = [
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let chosen: Vec<Pooling> = modes.iter().filter(|(key, _)| on(key)).map(|(_, mode)| *mode).collect();
    match chosen.as_slice() {
        [mode] => Ok(Some(*mode)),
        _ => Err(unsupported("that a model pools in several ways or in none")),
    }
}

fn decoder(hyper: &Hyper, out: &mut Pairs) -> Result<()> {
    out.real("attention.layer_norm_rms_epsilon", hyper.norm_eps);
    out.number("attention.key_length", hyper.head_dim)?;
    out.number("attention.value_length", hyper.head_dim)?;
    if let Some(rope) = &hyper.rope {
        self::rope(rope, out)?;
    }
    if !hyper.dense_layers.is_empty() {
        return Err(unsupported("that some layers have experts and others not"));
    }
    let gemma = matches!(hyper.arch, Arch::Gemma2 | Arch::Gemma3);
    let activation = if gemma { Activation::GeluTanh } else { Activation::Silu };
    if hyper.activation != activation {
        return Err(unsupported("that the model has another activation than its family"));
    }
    window(hyper, out)?;
    let natural = (hyper.head_dim as f32).powf(-0.5);
    if 1e-6 < (hyper.attention_scale / natural - 1.0).abs() {
        out.real("attention.scale", hyper.attention_scale);
    }
    if let Some(cap) = hyper.attention_softcap {
        out.real("attn_logit_softcapping", cap);
    }
    if let Some(cap) = hyper.logit_softcap {
        out.real("final_logit_softcapping", cap);
    }
    if let Some(experts) = &hyper.experts {
        out.number("expert_count", experts.count)?;
        out.number("expert_used_count", experts.used)?;
        out.number("expert_feed_forward_length", experts.ffn)?;
        if experts.shared_ffn != 0 {
            out.number("expert_shared_feed_forward_length", experts.shared_ffn)?;
        }
        out.put("expert_weights_norm", Pair::Bool(experts.normalised));
        if experts.scale != 1.0 {
            out.real("expert_weights_scale", experts.scale);
        }
    }
    Ok(())
}

fn window(hyper: &Hyper, out: &mut Pairs) -> Result<()> {
    let Some(window) = &hyper.window else { return Ok(()) };
    if window.layers.iter().all(|limited| !limited) {
        return Ok(());
    }
    out.number("attention.sliding_window", window.tokens)?;
    out.put("attention.sliding_window_pattern", Pair::Bools(window.layers.clone()));
    if let Some(rope) = &window.rope {
        if rope.scaling != Scaling::None {
            return Err(unsupported("that layers with limited sight scale their rotary embedding"));
        }
        out.real("rope.freq_base_swa", rope.base);
    }
    Ok(())
}

fn rope(rope: &Rope, out: &mut Pairs) -> Result<()> {
    out.number("rope.dimension_count", rope.dims)?;
    out.real("rope.freq_base", rope.base);
    match &rope.scaling {
        Scaling::None | Scaling::Llama3 { .. } | Scaling::Factors(_) => {}
        Scaling::Linear { factor } => {
            out.put("rope.scaling.type", Pair::Text("linear".into()));
            out.real("rope.scaling.factor", *factor);
        }
        Scaling::Yarn { factor, original, fast, slow, attention, rounded } => {
            if !rounded {
                return Err(unsupported("that YaRN's bounds are not whole dimensions"));
            }
            out.put("rope.scaling.type", Pair::Text("yarn".into()));
            out.real("rope.scaling.factor", *factor);
            out.number("rope.scaling.original_context_length", *original as usize)?;
            out.real("rope.scaling.yarn_beta_fast", *fast);
            out.real("rope.scaling.yarn_beta_slow", *slow);
            // Readers multiply with what the factor implies.
            let implied = 1.0 + 0.1 * factor.max(1.0).ln();
            if 1e-6 < (attention / implied - 1.0).abs() {
                out.real("rope.scaling.attn_factor", attention / implied);
            }
        }
        Scaling::Long { original, attention, .. } => {
            out.put("rope.scaling.type", Pair::Text("longrope".into()));
            out.number("rope.scaling.original_context_length", *original)?;
            out.real("rope.scaling.attn_factor", *attention);
        }
    }
    Ok(())
}

/// The tensors by which a GGUF file scales a rotary embedding.
pub(super) fn rope_tensors<'a>(hyper: &Hyper) -> Result<Vec<Planned<'a>>> {
    let Some(rope) = &hyper.rope else { return Ok(Vec::new()) };
    let tensor = |name: &str, factors: &[f32]| {
        let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        let cols = factors.len();
        let part = Part::owned(bytes, Format::F32, cols);
        Planned { name: name.to_owned(), format: Format::F32, dims: vec![cols], parts: vec![part] }
    };
    Ok(match &rope.scaling {
        Scaling::Factors(factors) => vec![tensor("rope_freqs.weight", factors)],
        Scaling::Llama3 { factor, low, high, original } => {
            vec![tensor("rope_freqs.weight", &llama3(rope, [*factor, *low, *high, *original]))]
        }
        Scaling::Long { short, long, .. } => {
            vec![tensor("rope_factors_long.weight", long), tensor("rope_factors_short.weight", short)]
        }
        _ => Vec::new(),
    })
}

/// What each frequency of Llama 3 is divided by.
///
/// Source: `_compute_llama3_parameters` of transformers.
fn llama3(rope: &Rope, [factor, low, high, original]: [f32; 4]) -> Vec<f32> {
    let divisor = |pair: usize| {
        let frequency = f64::from(rope.base).powf(-(2.0 * pair as f64) / rope.dims as f64);
        let wavelength = (2.0 * std::f64::consts::PI / frequency) as f32;
        if wavelength < original / high {
            1.0
        } else if original / low < wavelength {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..rope.dims / 2).map(divisor).collect()
}
