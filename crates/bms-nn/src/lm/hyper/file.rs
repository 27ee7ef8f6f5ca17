//! Reads the key-value pairs of a GGUF file.
//!
//! Source of the keys: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; of what they default to for each
//! family: llama.cpp, which the files are made for.

use bms_kernels::{Format, dequantise_row};
use bms_wire::{Code, Error, Result};

use super::{
    Activation, Arch, Experts, Hyper, Pooling, Rope, RopeStyle, Scaling, Window, alternating, unsupported,
};
use crate::lm::gguf::{GgufFile, Value};

/// The pairs of one family: keys are given without its name in front.
struct Keys<'a> {
    file: &'a GgufFile<'a>,
    arch: Arch,
}

impl<'a> Keys<'a> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.as_str())
    }

    fn real(&self, key: &str) -> Result<Option<f32>> {
        self.file.metadata.real(&self.key(key))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.file.metadata.flag(&self.key(key))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.file.metadata.text(&self.key(key))
    }

    /// A number, which may be given for each layer when all are equal.
    fn number(&self, key: &str) -> Result<Option<usize>> {
        let Some(numbers) = self.file.metadata.numbers(&self.key(key))? else { return Ok(None) };
        match numbers.first() {
            Some(first) if numbers.iter().all(|number| number == first) => Ok(Some(*first)),
            _ => Err(unsupported(format_args!("`{}` differs between layers", self.key(key)))),
        }
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.number(key)?.ok_or_else(|| {
            Error::new(Code::InvalidBundle, format!("the GGUF file does not give `{}`", self.key(key)))
        })
    }

    /// The values of a tensor of one dimension.
    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.file.tensor(name) else { return Ok(None) };
        let Some(format) = Format::from_ggml(tensor.kind.number()) else {
            return Err(unsupported(format_args!("the tensor `{name}` holds {}", tensor.kind.name())));
        };
        let mut values = vec![0.0; tensor.rows() * tensor.cols()];
        dequantise_row(format, tensor.bytes, &mut values);
        Ok(Some(values))
    }

    /// Refuses what has another value than the one that changes nothing.
    fn refuse_extras(&self) -> Result<()> {
        let neutral = [
            ("logit_scale", 1.0),
            ("residual_scale", 1.0),
            ("embedding_scale", 1.0),
            ("attention.max_alibi_bias", 0.0),
            ("attention.clamp_kqv", 0.0),
            ("rope.scaling.yarn_log_multiplier", 0.0),
        ];
        for (key, value) in neutral {
            if self.real(key)?.is_some_and(|found| found != 0.0 && found != value) {
                return Err(unsupported(format_args!("it gives `{}`", self.key(key))));
            }
        }
        if self.flag("use_parallel_residual")? == Some(true) {
            return Err(unsupported("attention and feed-forward network are parallel"));
        }
        if self.number("leading_dense_block_count")?.is_some_and(|count| count != 0) {
            return Err(unsupported("its first layers have no experts"));
        }
        if self.number("expert_gating_func")?.is_some_and(|function| 1 < function) {
            return Err(unsupported("its experts are not chosen by a softmax"));
        }
        Ok(())
    }
}

impl Hyper {
    /// Reads the key-value pairs of a GGUF file.
    ///
    /// # Errors
    /// [`Code::UnsupportedModel`] for another family or what is not computed here; [`Code::InvalidBundle`] for
    /// missing or impossible values.
    pub fn from_gguf(file: &GgufFile<'_>) -> Result<Hyper> {
        let name = file.metadata.text("general.architecture")?.ok_or_else(|| {
            Error::new(Code::InvalidBundle, "the GGUF file does not give `general.architecture`")
        })?;
        let arch = Arch::parse(name).ok_or_else(|| Arch::unknown(name))?;
        let keys = Keys { file, arch };
        keys.refuse_extras()?;
        let (d_model, heads) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
        let head_dim = match keys.number("attention.key_length")? {
            Some(width) => width,
            None => d_model.checked_div(heads).unwrap_or(0),
        };
        if keys.number("attention.value_length")?.is_some_and(|width| width != head_dim) {
            return Err(unsupported("its keys and values have different widths"));
        }
        let bert = arch == Arch::Bert;
        if keys.flag("attention.causal")?.is_some_and(|causal| causal == bert) {
            return Err(unsupported("`attention.causal` is not what its architecture has"));
        }
        let layers = keys.needed("block_count")?;
        let gemma = matches!(arch, Arch::Gemma2 | Arch::Gemma3);
        let eps = if bert { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
        let eps = keys.real(eps)?.ok_or_else(|| {
            Error::new(Code::InvalidBundle, format!("the GGUF file does not give `{}`", keys.key(eps)))
        })?;
        let hyper = Hyper {
            arch,
            name: file.metadata.text("general.name")?.map(str::to_owned),
            layers,
            d_model,
            heads,
            kv_heads: keys.number("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            ffn: keys.needed("feed_forward_length")?,
            vocab: keys.number("vocab_size")?,
            context: keys.needed("context_length")?,
            norm_eps: eps,
            rope: if bert { None } else { Some(rope(&keys, head_dim)?) },
            window: window(&keys, layers, head_dim)?,
            attention_scale: attention_scale(&keys, layers, d_model, heads, head_dim)?,
            attention_softcap: softcap(&keys, "attn_logit_softcapping", 50.0)?,
            logit_softcap: softcap(&keys, "final_logit_softcapping", 30.0)?,
            embedding_scale: if gemma { (d_model as f32).sqrt() } else { 1.0 },
            activation: match arch {
                Arch::Bert => Activation::Gelu,
                Arch::Gemma2 | Arch::Gemma3 => Activation::GeluTanh,
                _ => Activation::Silu,
            },
            experts: experts(&keys)?,
            dense_layers: dense_layers(&keys, layers)?,
            tied: None,
            pooling: pooling(&keys)?,
        };
        hyper.checked()
    }
}

fn softcap(keys: &Keys<'_>, key: &str, gemma2: f32) -> Result<Option<f32>> {
    let default = (keys.arch == Arch::Gemma2).then_some(gemma2);
    Ok(keys.real(key)?.or(default).filter(|cap| *cap != 0.0))
}

/// The largest Gemmas scale by the mean width of a head instead of its own.
fn attention_scale(
    keys: &Keys<'_>,
    layers: usize,
    d_model: usize,
    heads: usize,
    head_dim: usize,
) -> Result<f32> {
    if let Some(scale) = keys.real("attention.scale")?.filter(|scale| *scale != 0.0) {
        return Ok(scale);
    }
    let largest = matches!((keys.arch, layers), (Arch::Gemma2, 46) | (Arch::Gemma3, 62));
    let width = if largest { d_model as f32 / heads as f32 } else { head_dim as f32 };
    Ok(width.powf(-0.5))
}

fn rope(keys: &Keys<'_>, head_dim: usize) -> Result<Rope> {
    let dims = keys.number("rope.dimension_count")?.unwrap_or(head_dim);
    let base = keys.real("rope.freq_base")?.unwrap_or(1e4);
    let style = if keys.arch == Arch::Llama { RopeStyle::Interleaved } else { RopeStyle::Halves };
    let given = scaling(keys)?;
    let scaling = match (keys.vector("rope_freqs.weight")?, given) {
        (Some(factors), Scaling::None) => Scaling::Factors(factors),
        (Some(_), _) => return Err(unsupported("its rotary embedding is scaled in two ways")),
        (None, given) => given,
    };
    Ok(Rope { base, dims, style, scaling })
}

fn scaling(keys: &Keys<'_>) -> Result<Scaling> {
    let factor = keys.real("rope.scaling.factor")?.or(keys.real("rope.scale_linear")?).filter(|f| *f != 0.0);
    let factor = factor.unwrap_or(1.0);
    let original = match keys.number("rope.scaling.original_context_length")? {
        Some(length) => length,
        None => keys.needed("context_length")?,
    };
    let attention = keys.real("rope.scaling.attn_factor")?.filter(|factor| *factor != 0.0);
    let long = keys.vector("rope_factors_long.weight")?.zip(keys.vector("rope_factors_short.weight")?);
    if let Some((long, short)) = long {
        return Ok(Scaling::Long { short, long, original, attention: attention.unwrap_or(1.0) });
    }
    match keys.text("rope.scaling.type")? {
        None | Some("none" | "linear") if attention.is_some_and(|factor| factor != 1.0) => {
            Err(unsupported("it gives `rope.scaling.attn_factor` without a scaling it belongs to"))
        }
        Some("none") => Ok(Scaling::None),
        None | Some("linear") if factor == 1.0 => Ok(Scaling::None),
        None | Some("linear") => Ok(Scaling::Linear { factor }),
        Some("yarn") => Ok(Scaling::Yarn {
            factor,
            original: original as f32,
            fast: keys.real("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            slow: keys.real("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            attention: attention.unwrap_or(1.0) * (1.0 + 0.1 * factor.max(1.0).ln()),
            rounded: true,
        }),
        Some("longrope") => Err(Error::new(
            Code::InvalidBundle,
            "the tensors `rope_factors_long.weight` and `rope_factors_short.weight` are missing",
        )),
        Some(other) => Err(unsupported(format_args!("its rotary embedding is scaled by `{other}`"))),
    }
}

/// Which layers see how far. Files of most families give the distance alone.
fn window(keys: &Keys<'_>, layers: usize, head_dim: usize) -> Result<Option<Window>> {
    let Some(tokens) = keys.number("attention.sliding_window")?.filter(|tokens| *tokens != 0) else {
        return Ok(None);
    };
    let period = match keys.arch {
        Arch::Gemma2 => 2,
        Arch::Gemma3 => 6,
        _ => 0,
    };
    let pattern = match keys.file.metadata.get(&keys.key("attention.sliding_window_pattern")) {
        None if period == 0 => vec![true; layers],
        None => alternating(layers, period),
        Some(Value::Array(flags)) => {
            let limited = |value: Value<'_>| match value {
                Value::Bool(limited) => Some(limited),
                other => other.number().map(|number| number != 0),
            };
            flags.iter().map(limited).collect::<Option<Vec<bool>>>().unwrap_or_default()
        }
        Some(value) => match value.number().and_then(|period| usize::try_from(period).ok()) {
            Some(period) if 0 < period => alternating(layers, period),
            _ => return Err(unsupported("its `attention.sliding_window_pattern`")),
        },
    };
    let told = keys.file.metadata.get(&keys.key("attention.sliding_window_pattern")).is_some();
    match keys.arch {
        Arch::Llama | Arch::Phi3 | Arch::Gemma2 | Arch::Gemma3 => {}
        // Their files give the distance although no layer is limited, unless one lists the layers.
        _ if !told => return Ok(None),
        _ => {}
    }
    let rope = match keys.arch {
        Arch::Gemma3 => Some(Rope {
            base: keys.real("rope.freq_base_swa")?.unwrap_or(1e4),
            dims: keys.number("rope.dimension_count")?.unwrap_or(head_dim),
            style: RopeStyle::Halves,
            scaling: Scaling::None,
        }),
        _ => None,
    };
    Ok(Some(Window { tokens, layers: pattern, rope }))
}

fn experts(keys: &Keys<'_>) -> Result<Option<Experts>> {
    let Some(count) = keys.number("expert_count")?.filter(|count| *count != 0) else { return Ok(None) };
    if !matches!(keys.arch, Arch::Llama | Arch::Qwen2Moe | Arch::Qwen3Moe) {
        return Err(unsupported(format_args!("a `{}` with experts", keys.arch.as_str())));
    }
    let ffn = match keys.number("expert_feed_forward_length")? {
        Some(width) => width,
        // Older files leave it to the tensor, `d_model × width × count`.
        None => match keys.file.tensor("blk.0.ffn_gate_exps.weight").map(|tensor| tensor.dims()) {
            Some([_, width, ..]) => *width,
            _ => keys.needed("feed_forward_length")?,
        },
    };
    let shared = keys.file.tensor("blk.0.ffn_gate_shexp.weight").map_or(0, |tensor| tensor.rows());
    Ok(Some(Experts {
        count,
        used: keys.needed("expert_used_count")?,
        ffn,
        shared_ffn: shared,
        normalised: keys.flag("expert_weights_norm")?.unwrap_or(keys.arch != Arch::Qwen2Moe),
        scale: keys.real("expert_weights_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0),
    }))
}

/// No key tells which layers are without experts, their tensors do.
fn dense_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<usize>> {
    Ok(match keys.number("expert_count")? {
        None | Some(0) => Vec::new(),
        Some(_) => {
            let routed =
                |layer: &usize| keys.file.tensor(&format!("blk.{layer}.ffn_gate_inp.weight")).is_some();
            (0..layers).filter(|layer| !routed(layer)).collect()
        }
    })
}

fn pooling(keys: &Keys<'_>) -> Result<Option<Pooling>> {
    match keys.number("pooling_type")? {
        None | Some(0) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::Cls)),
        Some(3) => Ok(Some(Pooling::Last)),
        Some(other) => Err(unsupported(format_args!("its pooling is number {other}"))),
    }
}
