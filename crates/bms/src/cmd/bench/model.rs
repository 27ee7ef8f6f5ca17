//! A model of the command line, through the gate and loaded without a scheduler.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bms_bundle::{Policy, Verified};
use bms_kernels::KvKind;
use bms_nn::lm::gguf::GgufFile;
use bms_nn::lm::{self, Decoder, LoadOptions, ModelFiles, Network, Tokenizer, TokenizerFiles};
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::Value;

use super::ComputeOptions;
use crate::model;
use crate::output::Output;

/// Which model, and what it is computed on.
#[derive(Debug, Args)]
pub(super) struct ModelOptions {
    /// A GGUF file, a folder with `config.json` and safetensors, or a bundle. It need not be signed; it is scanned.
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) compute: ComputeOptions,
}

/// A model behind the gate.
pub(super) struct Opened {
    verified: Verified,
}

/// A loaded model.
pub(super) struct Loaded {
    pub(super) decoder: Box<dyn Decoder>,
    pub(super) took: Duration,
}

impl ModelOptions {
    /// Takes the model through the gate.
    pub(super) fn open(&self, output: &Output) -> Result<Opened> {
        Ok(Opened { verified: model::verified(&self.model, None, &Policy::development(), output)? })
    }
}

impl Opened {
    /// The file, when it is a GGUF model.
    pub(super) fn gguf(&self) -> Option<&[u8]> {
        self.verified.files().map(|(_, bytes)| bytes).find(|bytes| bytes.starts_with(b"GGUF"))
    }

    fn file(&self, name: &str) -> Option<&[u8]> {
        self.verified.files().find(|(path, _)| *path == name).map(|(_, bytes)| bytes)
    }

    /// Loads what computes it, with room in the cache for `tokens` tokens.
    pub(super) fn load(&self, compute: &ComputeOptions, tokens: usize) -> Result<Loaded> {
        let begin = Instant::now();
        let folder: Vec<(&str, &[u8])> = self.verified.files().collect();
        let files = match self.gguf() {
            Some(bytes) => ModelFiles::Gguf(bytes),
            None => ModelFiles::Folder(&folder),
        };
        let options = LoadOptions {
            threads: compute.threads(),
            isa: compute.isa(),
            kv: KvKind::F16,
            context: Some(tokens),
            kv_bytes: 0,
            quantise: None,
            release: &|bytes| self.verified.release(bytes),
        };
        match lm::load(&files, &options)? {
            Network::Decoder(decoder) => Ok(Loaded { decoder, took: begin.elapsed() }),
            Network::Embedder(_) => {
                Err(Error::new(Code::UnsupportedModel, "the model embeds texts; it does not continue them"))
            }
        }
    }

    /// The model's tokeniser.
    pub(super) fn tokenizer(&self) -> Result<Tokenizer> {
        if let Some(bytes) = self.gguf() {
            return Tokenizer::from_gguf(&GgufFile::parse(bytes)?.metadata);
        }
        let tokenizer = self
            .file("tokenizer.json")
            .ok_or_else(|| Error::new(Code::InvalidBundle, "the model's folder has no `tokenizer.json`"))?;
        let names = ["tokenizer_config.json", "generation_config.json", "config.json"];
        let [tokenizer_config, generation_config, config] = names.map(|name| self.json(name));
        let (tokenizer_config, generation_config, config) = (tokenizer_config?, generation_config?, config?);
        Tokenizer::from_hf(&TokenizerFiles {
            tokenizer,
            tokenizer_config: tokenizer_config.as_ref(),
            generation_config: generation_config.as_ref(),
            config: config.as_ref(),
        })
    }

    /// A file of the folder, parsed; `None` when there is none.
    fn json(&self, name: &str) -> Result<Option<Value>> {
        let parse = |bytes: &[u8]| {
            serde_json::from_slice(bytes)
                .map_err(|e| Error::new(Code::InvalidBundle, format!("`{name}` is no JSON: {e}")).because(e))
        };
        self.file(name).map(parse).transpose()
    }
}
