//! Reads the `config.json` of a Hugging Face folder.
//!
//! Defaults are those of the model's class in Hugging Face transformers, for a file leaves out what equals them.

use bms_wire::{Code, Error, Result};
use serde_json::{Map, Value};

use super::{
    Activation, Arch, Experts, Hyper, Pooling, Rope, RopeStyle, Scaling, Window, alternating, unsupported,
};

/// A JSON object whose readers give `None` for an absent or null key and an error for one of another type.
#[derive(Clone, Copy)]
struct Config<'a>(&'a Map<String, Value>);

impl<'a> Config<'a> {
    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(self, key: &str, what: &str, take: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match take(value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(Error::new(Code::InvalidBundle, format!("`{key}` of config.json must be {what}"))),
        }
    }

    fn number(self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number that is not negative", |value| {
            value.as_u64().and_then(|number| usize::try_from(number).ok())
        })
    }

    fn needed(self, key: &str) -> Result<usize> {
        self.number(key)?
            .ok_or_else(|| Error::new(Code::InvalidBundle, format!("config.json does not give `{key}`")))
    }

    fn real(self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| value.as_f64().map(|number| number as f32))
    }

    fn flag(self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn text(self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text", Value::as_str)
    }

    fn object(self, key: &str) -> Result<Option<Config<'a>>> {
        self.typed(key, "an object", |value| value.as_object().map(Config))
    }

    fn reals(self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(|value| value.as_f64().map(|number| number as f32)).collect()
        })
    }

    fn numbers(self, key: &str) -> Result<Option<Vec<usize>>> {
        self.typed(key, "a list of whole numbers", |value| {
            let whole = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
            value.as_array()?.iter().map(whole).collect()
        })
    }

    /// Refuses `true`.
    fn refuse(self, key: &str) -> Result<()> {
        match self.flag(key)? {
            Some(true) => Err(unsupported(format_args!("`{key}` of config.json"))),
            _ => Ok(()),
        }
    }
}

impl Hyper {
    /// Reads the `config.json` of a Hugging Face folder.
    ///
    /// # Errors
    /// [`Code::UnsupportedModel`] for another family or what is not computed here; [`Code::InvalidBundle`] for
    /// missing or impossible values.
    pub fn from_config(json: &[u8]) -> Result<Hyper> {
        let value: Value = serde_json::from_slice(json).map_err(|error| {
            Error::new(Code::InvalidBundle, format!("config.json is no JSON: {error}")).because(error)
        })?;
        let Some(map) = value.as_object() else {
            return Err(Error::new(Code::InvalidBundle, "config.json is no JSON object"));
        };
        let outer = Config(map);
        let kind = outer
            .text("model_type")?
            .ok_or_else(|| Error::new(Code::InvalidBundle, "config.json does not give `model_type`"))?;
        let arch = Arch::of_model_type(kind).ok_or_else(|| Arch::unknown(kind))?;
        let config = match outer.object("text_config")? {
            Some(inner) if arch == Arch::Gemma3 => inner,
            _ => outer,
        };
        if let Some(quantised) = outer.object("quantization_config")? {
            let method = quantised.text("quant_method")?.unwrap_or("of unknown method");
            return Err(unsupported(format_args!("its folder holds weights quantised by {method}"))
                .hint("Use the original weights, or a GGUF file."));
        }
        let name = outer.text("_name_or_path")?.filter(|name| !name.is_empty()).map(str::to_owned);
        let hyper = match arch {
            Arch::Bert => bert(config)?,
            _ => decoder(arch, kind, config)?,
        };
        Hyper { name, ..hyper }.checked()
    }
}

/// What a class of transformers assumes where a file says nothing.
struct Defaults {
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    eps: f32,
    base: f32,
    context: usize,
    tied: bool,
}

fn defaults(arch: Arch, kind: &str) -> Defaults {
    let plain =
        Defaults { kv_heads: None, head_dim: None, eps: 1e-6, base: 1e4, context: 32_768, tied: false };
    match (arch, kind) {
        (_, "mistral") => Defaults { kv_heads: Some(8), context: 131_072, ..plain },
        (_, "mixtral") => Defaults { kv_heads: Some(8), context: 131_072, eps: 1e-5, base: 1e6, ..plain },
        (Arch::Qwen3 | Arch::Qwen2, _) => {
            Defaults { kv_heads: Some(32), head_dim: (arch == Arch::Qwen3).then_some(128), ..plain }
        }
        (Arch::Qwen2Moe, _) => Defaults { kv_heads: Some(16), ..plain },
        (Arch::Qwen3Moe, _) => Defaults { kv_heads: Some(4), ..plain },
        (Arch::Gemma2, _) => {
            Defaults { kv_heads: Some(4), head_dim: Some(256), context: 8192, tied: true, ..plain }
        }
        (Arch::Gemma3, _) => Defaults {
            kv_heads: Some(4),
            head_dim: Some(256),
            base: 1e6,
            context: 131_072,
            tied: true,
            ..plain
        },
        (Arch::Phi3, _) => Defaults { eps: 1e-5, context: 4096, ..plain },
        _ => Defaults { context: 2048, ..plain },
    }
}

fn decoder(arch: Arch, kind: &str, config: Config<'_>) -> Result<Hyper> {
    let defaults = defaults(arch, kind);
    config.refuse("use_bidirectional_attention")?;
    if config.flag("qkv_bias")? == Some(false) {
        return Err(unsupported("`qkv_bias` of config.json is false"));
    }
    let layers = config.needed("num_hidden_layers")?;
    let (d_model, heads) = (config.needed("hidden_size")?, config.needed("num_attention_heads")?);
    let head_dim = match config.number("head_dim")?.or(defaults.head_dim) {
        Some(width) => width,
        None => d_model.checked_div(heads).unwrap_or(0),
    };
    let context = config.number("max_position_embeddings")?.unwrap_or(defaults.context);
    let ropes = Ropes { config, head_dim, context, default_base: defaults.base };
    let gemma = matches!(arch, Arch::Gemma2 | Arch::Gemma3);
    let scalar = match gemma {
        true => config.real("query_pre_attn_scalar")?.unwrap_or(256.0),
        false => head_dim as f32,
    };
    Ok(Hyper {
        arch,
        name: None,
        layers,
        d_model,
        heads,
        kv_heads: config.number("num_key_value_heads")?.or(defaults.kv_heads).unwrap_or(heads),
        head_dim,
        ffn: config.needed("intermediate_size")?,
        vocab: config.number("vocab_size")?,
        context,
        norm_eps: config.real("rms_norm_eps")?.unwrap_or(defaults.eps),
        rope: Some(ropes.global()?),
        window: window(arch, kind, config, layers, &ropes)?,
        attention_scale: scalar.powf(-0.5),
        attention_softcap: softcap(config, "attn_logit_softcapping", (arch == Arch::Gemma2).then_some(50.0))?,
        logit_softcap: softcap(config, "final_logit_softcapping", (arch == Arch::Gemma2).then_some(30.0))?,
        embedding_scale: if gemma { (d_model as f32).sqrt() } else { 1.0 },
        activation: activation(config, if gemma { "hidden_activation" } else { "hidden_act" })?,
        experts: experts(arch, kind, config)?,
        dense_layers: dense_layers(arch, config, layers)?,
        tied: Some(config.flag("tie_word_embeddings")?.unwrap_or(defaults.tied)),
        pooling: None,
    })
}

fn bert(config: Config<'_>) -> Result<Hyper> {
    config.refuse("is_decoder")?;
    config.refuse("add_cross_attention")?;
    if let Some(kind) = config.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
        return Err(unsupported(format_args!("its positions are embedded by `{kind}`")));
    }
    let (d_model, heads) = (config.needed("hidden_size")?, config.needed("num_attention_heads")?);
    let head_dim = d_model.checked_div(heads).unwrap_or(0);
    Ok(Hyper {
        arch: Arch::Bert,
        name: None,
        layers: config.needed("num_hidden_layers")?,
        d_model,
        heads,
        kv_heads: heads,
        head_dim,
        ffn: config.needed("intermediate_size")?,
        vocab: config.number("vocab_size")?,
        context: config.needed("max_position_embeddings")?,
        norm_eps: config.real("layer_norm_eps")?.unwrap_or(1e-12),
        rope: None,
        window: None,
        attention_scale: (head_dim as f32).powf(-0.5),
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: 1.0,
        activation: activation(config, "hidden_act")?,
        experts: None,
        dense_layers: Vec::new(),
        tied: None,
        pooling: None::<Pooling>,
    })
}

/// Absent and null differ here: a file that leaves the cap out means the class's, one that says null means none.
fn softcap(config: Config<'_>, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    match config.0.contains_key(key) {
        true => config.real(key),
        false => Ok(default),
    }
}

fn activation(config: Config<'_>, key: &str) -> Result<Activation> {
    let name = config.text(key)?.or(config.text("hidden_act")?);
    match (name, key) {
        (None, "hidden_activation") => Ok(Activation::GeluTanh),
        (Some("silu" | "swish"), _) | (None, _) => Ok(Activation::Silu),
        (Some("gelu_pytorch_tanh" | "gelu_new"), _) => Ok(Activation::GeluTanh),
        (Some("gelu"), _) => Ok(Activation::Gelu),
        (Some(other), _) => Err(unsupported(format_args!("its activation is `{other}`"))),
    }
}

/// The layers with limited sight, and how far they see.
fn window(
    arch: Arch,
    kind: &str,
    config: Config<'_>,
    layers: usize,
    ropes: &Ropes<'_>,
) -> Result<Option<Window>> {
    let gemma = matches!(arch, Arch::Gemma2 | Arch::Gemma3);
    let assumed = match kind {
        "mistral" if !config.0.contains_key("sliding_window") => Some(4096),
        _ if gemma => Some(4096),
        _ => None,
    };
    let Some(tokens) = config.number("sliding_window")?.or(assumed) else { return Ok(None) };
    let qwen = matches!(arch, Arch::Qwen2 | Arch::Qwen2Moe | Arch::Qwen3 | Arch::Qwen3Moe);
    if qwen && config.flag("use_sliding_window")? != Some(true) {
        return Ok(None);
    }
    if kind == "llama" {
        return Err(unsupported("a `llama` with a sliding window"));
    }
    let listed = config.typed("layer_types", "a list of texts", |value| {
        value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
    })?;
    let layers = match (listed, arch) {
        (Some(types), _) => {
            let limited = |kind: &&str| match *kind {
                "sliding_attention" => Ok(true),
                "full_attention" => Ok(false),
                other => Err(unsupported(format_args!("a layer of type `{other}`"))),
            };
            types.iter().map(limited).collect::<Result<Vec<bool>>>()?
        }
        (None, Arch::Gemma2) => alternating(layers, 2),
        (None, Arch::Gemma3) => match config.number("sliding_window_pattern")?.unwrap_or(6) {
            0 => return Err(unsupported("a `sliding_window_pattern` of 0")),
            period => alternating(layers, period),
        },
        (None, _) if qwen => {
            let first = config.number("max_window_layers")?.unwrap_or(28);
            (0..layers).map(|layer| first <= layer).collect()
        }
        (None, _) => vec![true; layers],
    };
    let rope = if arch == Arch::Gemma3 { Some(ropes.local()?) } else { None };
    Ok(Some(Window { tokens, layers, rope }))
}

fn experts(arch: Arch, kind: &str, config: Config<'_>) -> Result<Option<Experts>> {
    Ok(Some(match arch {
        Arch::Llama if kind == "mixtral" => Experts {
            count: config.number("num_local_experts")?.unwrap_or(8),
            used: config.number("num_experts_per_tok")?.unwrap_or(2),
            ffn: config.needed("intermediate_size")?,
            shared_ffn: 0,
            normalised: true,
            scale: 1.0,
        },
        Arch::Qwen2Moe | Arch::Qwen3Moe => {
            let second = arch == Arch::Qwen2Moe;
            // The configuration of one version of transformers names the count as Mixtral's does.
            let count = match config.number("num_experts")? {
                Some(count) => count,
                None => config.number("num_local_experts")?.unwrap_or(if second { 60 } else { 128 }),
            };
            let shared = config.number("shared_expert_intermediate_size")?.unwrap_or(5632);
            Experts {
                count,
                used: config.number("num_experts_per_tok")?.unwrap_or(if second { 4 } else { 8 }),
                ffn: config.number("moe_intermediate_size")?.unwrap_or(if second { 1408 } else { 768 }),
                shared_ffn: if second { shared } else { 0 },
                normalised: config.flag("norm_topk_prob")?.unwrap_or(false),
                scale: 1.0,
            }
        }
        _ => return Ok(None),
    }))
}

fn dense_layers(arch: Arch, config: Config<'_>, layers: usize) -> Result<Vec<usize>> {
    if !matches!(arch, Arch::Qwen2Moe | Arch::Qwen3Moe) {
        return Ok(Vec::new());
    }
    let step = config.number("decoder_sparse_step")?.unwrap_or(1);
    let listed = config.numbers("mlp_only_layers")?.unwrap_or_default();
    if step == 0 {
        return Err(unsupported("a `decoder_sparse_step` of 0"));
    }
    Ok((0..layers).filter(|layer| listed.contains(layer) || !(layer + 1).is_multiple_of(step)).collect())
}

/// Where the rotary embeddings of a file stand: `rope_parameters` since version 5 of transformers, before that
/// `rope_theta`, `rope_scaling` and others.
struct Ropes<'a> {
    config: Config<'a>,
    head_dim: usize,
    context: usize,
    default_base: f32,
}

impl<'a> Ropes<'a> {
    /// The object that describes scaling, by layers of one type when the file tells them apart.
    fn parameters(&self, layers: &str) -> Result<Option<Config<'a>>> {
        let Some(all) = self.config.object("rope_parameters")? else { return Ok(None) };
        match all.object(layers)? {
            Some(own) => Ok(Some(own)),
            None if all.0.values().any(Value::is_object) => Ok(None),
            None => Ok(Some(all)),
        }
    }

    fn global(&self) -> Result<Rope> {
        let scaling = match self.parameters("full_attention")? {
            Some(own) => Some(own),
            None => self.config.object("rope_scaling")?,
        };
        let own = scaling.map(|own| own.real("rope_theta")).transpose()?.flatten();
        self.rope(own.or(self.config.real("rope_theta")?).unwrap_or(self.default_base), scaling)
    }

    fn local(&self) -> Result<Rope> {
        let scaling = match self.config.object("rope_parameters")? {
            Some(all) => all.object("sliding_attention")?,
            None => None,
        };
        let own = scaling.map(|own| own.real("rope_theta")).transpose()?.flatten();
        self.rope(own.or(self.config.real("rope_local_base_freq")?).unwrap_or(1e4), scaling)
    }

    fn rope(&self, base: f32, scaling: Option<Config<'a>>) -> Result<Rope> {
        let own = scaling.map(|own| own.real("partial_rotary_factor")).transpose()?.flatten();
        let part = own.or(self.config.real("partial_rotary_factor")?).unwrap_or(1.0);
        let dims = (self.head_dim as f32 * part) as usize;
        let scaling = match scaling {
            Some(own) => self.scaling(own)?,
            None => Scaling::None,
        };
        Ok(Rope { base, dims, style: RopeStyle::Halves, scaling })
    }

    fn scaling(&self, own: Config<'a>) -> Result<Scaling> {
        let kind = own.text("rope_type")?.or(own.text("type")?).unwrap_or("default");
        let factor = || {
            own.real("factor")?.ok_or_else(|| {
                Error::new(Code::InvalidBundle, "the rotary scaling of config.json has no `factor`")
            })
        };
        let original = own
            .number("original_max_position_embeddings")?
            .or(self.config.number("original_max_position_embeddings")?);
        Ok(match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: factor()? },
            "llama3" => Scaling::Llama3 {
                factor: factor()?,
                low: own.real("low_freq_factor")?.unwrap_or(1.0),
                high: own.real("high_freq_factor")?.unwrap_or(4.0),
                original: original.unwrap_or(self.context) as f32,
            },
            "yarn" => self.yarn(own, factor()?, original.unwrap_or(self.context) as f32)?,
            "longrope" | "su" => self.long(own, original.unwrap_or(self.context))?,
            other => return Err(unsupported(format_args!("its rotary embedding is scaled by `{other}`"))),
        })
    }

    fn yarn(&self, own: Config<'a>, factor: f32, original: f32) -> Result<Scaling> {
        let scale = |m: f32| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let attention =
            match (own.real("attention_factor")?, own.real("mscale")?, own.real("mscale_all_dim")?) {
                (Some(attention), _, _) => attention,
                (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => scale(m) / scale(all),
                _ => scale(1.0),
            };
        Ok(Scaling::Yarn {
            factor,
            original,
            fast: own.real("beta_fast")?.unwrap_or(32.0),
            slow: own.real("beta_slow")?.unwrap_or(1.0),
            attention,
            rounded: own.flag("truncate")?.unwrap_or(true),
        })
    }

    fn long(&self, own: Config<'a>, original: usize) -> Result<Scaling> {
        let list = |key: &str| {
            own.reals(key)?
                .ok_or_else(|| Error::new(Code::InvalidBundle, format!("the rotary scaling has no `{key}`")))
        };
        let factor = self.context as f32 / original.max(1) as f32;
        let attention = match own.real("attention_factor")? {
            Some(attention) => attention,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original as f32).ln()).sqrt(),
        };
        Ok(Scaling::Long { short: list("short_factor")?, long: list("long_factor")?, original, attention })
    }
}
