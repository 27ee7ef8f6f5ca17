//! From the files of a model to what computes it.

use bms_kernels::{Format, Isa, KvKind, Pool};
use bms_wire::{Code, Error, Result};
use safetensors::Dtype;
use serde_json::Value;

use super::embedder::Embedder;
use super::gguf::GgufFile;
use super::hf::{HfFolder, HfTensor};
use super::hyper::{Arch, Hyper, Pooling, unsupported};
use super::linear::{Part, Source};
use super::transformer::{Setup, Transformer};
use super::weights::{FolderTensor, Stored, Weights};

/// The files of a model.
#[derive(Clone, Copy, Debug)]
pub enum ModelFiles<'a> {
    /// A GGUF file.
    Gguf(&'a [u8]),
    /// A Hugging Face folder: names of files and their bytes.
    Folder(&'a [(&'a str, &'a [u8])]),
}

/// How a model is loaded.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Threads to compute on.
    pub threads: usize,
    /// The instruction set; the best there is when the machine lacks it.
    pub isa: Isa,
    /// How keys and values are stored.
    pub kv: KvKind,
    /// Positions a sequence may have, for which room is made in any case; `None` for those the model was trained for, or
    /// as many as fit into the KV cache.
    pub context: Option<usize>,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// The format to turn matrices of floating point numbers into. Where its blocks do not divide a row, Q8_0 stands
    /// in, and where that does not fit either, F16.
    pub quantise: Option<Format>,
    /// Told of bytes of the files that are not read again, so that their memory can be given back.
    pub release: &'a dyn Fn(&[u8]),
}

impl std::fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LoadOptions { threads, isa, kv, context, kv_bytes, quantise, release: _ } = self;
        f.debug_struct("LoadOptions")
            .field("threads", threads)
            .field("isa", isa)
            .field("kv", kv)
            .field("context", context)
            .field("kv_bytes", kv_bytes)
            .field("quantise", quantise)
            .finish_non_exhaustive()
    }
}

/// What computes a model.
#[derive(Debug)]
pub enum Network {
    /// It continues texts.
    Decoder(Box<Transformer>),
    /// It embeds texts.
    Embedder(Box<Embedder>),
}

/// Loads the weights of a model.
///
/// # Errors
/// [`Code::UnsupportedModel`] for a family, a configuration or a tensor that is not computed here,
/// [`Code::InvalidBundle`] for files that contradict themselves or lack something, each naming what.
pub fn load(files: &ModelFiles<'_>, options: &LoadOptions<'_>) -> Result<Network> {
    load_part(files, options, None)
}

/// Loads all weights, or only small ones and a part of one matrix.
pub(super) fn load_part(
    files: &ModelFiles<'_>,
    options: &LoadOptions<'_>,
    part: Option<&Part>,
) -> Result<Network> {
    // A part is soon made, by the calling thread alone.
    let pool = Pool::new(if part.is_some() { 1 } else { options.threads }, options.isa);
    match files {
        ModelFiles::Gguf(bytes) => {
            let file = GgufFile::parse(bytes)?;
            let hyper = Hyper::from_gguf(&file)?;
            let weights = Weights::from_gguf(&file);
            network(weights, pool, hyper, true, options, part)
        }
        ModelFiles::Folder(files) => {
            let folder = HfFolder::open(files)?;
            let mut hyper = Hyper::from_config(folder.file("config.json").unwrap_or(b"{}"))?;
            let normalised = sentence_embedding(&folder, &mut hyper)?;
            let weights = Weights::from_folder(hyper.arch, tensors(&folder)?)?;
            network(weights, pool, hyper, normalised, options, part)
        }
    }
}

fn network(
    weights: Weights<'_>,
    pool: Pool,
    hyper: Hyper,
    normalised: bool,
    options: &LoadOptions<'_>,
    part: Option<&Part>,
) -> Result<Network> {
    let source = Source { weights, release: options.release, quantise: options.quantise, part };
    Ok(match hyper.arch {
        Arch::Bert => Network::Embedder(Box::new(Embedder::load(source, pool, hyper, normalised)?)),
        _ => {
            let setup = Setup { kind: options.kv, context: options.context, kv_bytes: options.kv_bytes };
            Network::Decoder(Box::new(Transformer::load(source, pool, hyper, setup)?))
        }
    })
}

/// All tensors of a folder.
fn tensors<'a>(folder: &HfFolder<'a>) -> Result<Vec<FolderTensor<'a>>> {
    let stored = |dtype: Dtype| match dtype {
        Dtype::F32 => Stored::As(Format::F32),
        Dtype::F16 => Stored::As(Format::F16),
        Dtype::BF16 => Stored::As(Format::BF16),
        Dtype::F64 => Stored::Other("f64"),
        _ => Stored::Other("numbers that are not floating point"),
    };
    Ok(folder
        .tensors()?
        .into_iter()
        .map(|HfTensor { name, dtype, shape, bytes }| FolderTensor {
            name,
            stored: stored(dtype),
            shape,
            bytes,
        })
        .collect())
}

/// Reads how a folder of Sentence Transformers pools, and whether its vectors have length one.
fn sentence_embedding(folder: &HfFolder<'_>, hyper: &mut Hyper) -> Result<bool> {
    if let Some(json) = folder.file("1_Pooling/config.json") {
        let config = parsed("1_Pooling/config.json", json)?;
        let on = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        let modes = [
            ("pooling_mode_mean_tokens", Pooling::Mean),
            ("pooling_mode_cls_token", Pooling::Cls),
            ("pooling_mode_lasttoken", Pooling::Last),
        ];
        let known: Vec<Pooling> = modes.iter().filter(|(key, _)| on(key)).map(|(_, mode)| *mode).collect();
        let other = [
            "pooling_mode_max_tokens",
            "pooling_mode_mean_sqrt_len_tokens",
            "pooling_mode_weightedmean_tokens",
        ];
        let [mode] = known.as_slice() else {
            return Err(unsupported("its pooling is not one of mean, first or last token"));
        };
        if other.into_iter().any(on) {
            return Err(unsupported("its pooling is not one of mean, first or last token"));
        }
        hyper.pooling = Some(*mode);
    }
    let Some(json) = folder.file("modules.json") else { return Ok(true) };
    let modules = parsed("modules.json", json)?;
    let mut normalised = false;
    for module in modules.as_array().into_iter().flatten() {
        let kind = module.get("type").and_then(Value::as_str).unwrap_or("?");
        match kind.rsplit('.').next() {
            Some("Transformer" | "Pooling") => {}
            Some("Normalize") => normalised = true,
            _ => return Err(unsupported(format_args!("it has the module `{kind}`"))),
        }
    }
    Ok(normalised)
}

fn parsed(name: &str, json: &[u8]) -> Result<Value> {
    serde_json::from_slice(json)
        .map_err(|error| Error::new(Code::InvalidBundle, format!("`{name}` is no JSON: {error}")))
}
