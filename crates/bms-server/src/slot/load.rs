//! From a verified language model to the engine, tokeniser and template that its routes work with.

mod guard;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bms_bundle::{Bundle, MANIFEST, Policy, Verified};
use bms_engine::lm::{LanguageEngine, LanguageOptions};
use bms_kernels::{Isa, KvKind, trim_heap};
use bms_nn::lm::gguf::GgufFile;
use bms_nn::lm::hf::HfFolder;
use bms_nn::lm::{
    AdapterFiles, ChatTemplate, Decoder, DecoderInfo, Embedder, LoadOptions, ModelFiles, Network, PageId,
    Segment, Tokenizer,
};
use bms_wire::{Code, Error, Result, limits};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::Options;
use super::language::{GROUP_TOKENS, Language, Script};
use crate::machine::available_memory;
use crate::slots::{KvCache, Place};

/// The share of the machine's free memory that keys and values may take when nobody says how much.
const KV_SHARE: u64 = 4;
/// Bytes they may take when the machine does not say what is free.
const KV_BYTES: u64 = 2 << 30;
/// One in so many tokens of a model that drafts may be another than the model's.
const OTHER_TOKENS_SHARE: usize = 50;
/// Positions in a page of an embedder's cache, which holds nothing.
const PAGE_TOKENS: usize = 16;

/// What a slot has that a command which soon ends has not.
pub(super) struct Slot<'a> {
    /// Checks the model that drafts.
    pub(super) policy: &'a Policy,
    /// Told why when the model can answer no more. Its weights are guarded until then.
    pub(super) lost: oneshot::Sender<Error>,
}

/// Loads a model. What was checked is what was loaded, or it is an error.
pub(super) fn load(verified: &Verified, options: &Options, slot: Option<Slot<'_>>) -> Result<Language> {
    let (policy, lost) = slot.map(|slot| (slot.policy, slot.lost)).unzip();
    let manifest = verified.manifest();
    let doing = |e: Error| e.while_doing(format_args!("load `{}`", manifest.name));
    let files: Vec<(&str, &[u8])> = verified.files().collect();
    let model = verified.model_bytes();
    let model = model_files(&model, &files);
    let script = ModelScript::read(&model).map_err(doing)?;
    let asked = engine_options(options);
    // Said once: what is free when a weight is made again is another number.
    let kv_bytes = Some(asked.kv_bytes.unwrap_or_else(kv_bytes));
    let engine_options = LanguageOptions { kv_bytes, ..asked.clone() };
    let network = network(verified, &model, options, &engine_options).map_err(doing)?;
    let (decoder, engine_options): (Box<dyn Decoder>, LanguageOptions) = match network {
        Network::Decoder(decoder) => (decoder, engine_options),
        // A text is read as a whole: the engine must not cut it.
        Network::Embedder(embedder) => {
            let chunk_max = GROUP_TOKENS.max(embedder.context());
            (Box::new(Encoder::new(embedder)), LanguageOptions { chunk_max, ..engine_options })
        }
    };
    script.tokenizer.check_rows(decoder.info().vocab).map_err(doing)?;
    verified.recheck()?;
    let draft = options.language.draft.as_deref();
    let draft = draft.map(|path| draft_model(path, &script.tokenizer, options, &asked, policy));
    let vocabulary = script.tokenizer.clone();
    let guarding = guard::guarding(verified, options, &engine_options, lost);
    let engine =
        LanguageEngine::start_guarded(decoder, draft.transpose()?, vocabulary, guarding, &engine_options)?;
    // Vocabularies are read and thrown away.
    trim_heap();
    Ok(Language::new(manifest.name.clone(), engine, Box::new(script), adapter_folders(options)))
}

/// The model that drafts for one with these tokens, through the same gate.
fn draft_model(
    path: &Path,
    tokens: &Tokenizer,
    options: &Options,
    engine_options: &LanguageOptions,
    policy: Option<&Policy>,
) -> Result<Box<dyn Decoder>> {
    let doing = |e: Error| e.while_doing(format_args!("load the draft model `{}`", path.display()));
    let bundle = match path.join(MANIFEST).is_file() {
        true => Bundle::open(path),
        false => Bundle::of_model(path, None),
    };
    let no_policy = || Error::new(Code::InvalidRequest, "there is no policy to check a draft model against");
    let policy = policy.ok_or_else(no_policy).map_err(doing)?;
    let verified = policy.verify(bundle?).map_err(|rejected| doing(rejected.into()))?;
    let files: Vec<(&str, &[u8])> = verified.files().collect();
    let model = verified.model_bytes();
    let model = model_files(&model, &files);
    let script = ModelScript::read(&model).map_err(doing)?;
    let network = network(&verified, &model, options, engine_options).map_err(doing)?;
    verified.recheck().map_err(doing)?;
    match network {
        Network::Decoder(decoder) => {
            check_same_tokens(tokens, &script.tokenizer).map_err(doing)?;
            Ok(decoder)
        }
        Network::Embedder(_) => {
            Err(doing(Error::new(Code::UnsupportedModel, "a model that embeds texts cannot draft any")))
        }
    }
}

/// Refuses a model that drafts in other tokens: what it guesses would hardly ever be right, and cost its time all the
/// same. Models of one family differ in a few control tokens.
fn check_same_tokens(own: &Tokenizer, drafts: &Tokenizer) -> Result<()> {
    let both = u32::try_from(own.len().min(drafts.len())).unwrap_or(u32::MAX);
    let other = (0..both).filter(|token| own.token_bytes(*token) != drafts.token_bytes(*token)).count();
    if other * OTHER_TOKENS_SHARE <= both as usize {
        return Ok(());
    }
    let what = format!("{other} of {both} tokens are not those of the model: they do not belong together");
    Err(Error::new(Code::InvalidInput, what).hint("A model of the same family drafts in the same tokens."))
}

fn model_files<'a>(model: &'a [u8], files: &'a [(&'a str, &'a [u8])]) -> ModelFiles<'a> {
    match model.starts_with(b"GGUF") {
        true => ModelFiles::Gguf(model),
        false => ModelFiles::Folder(files),
    }
}

fn network(
    verified: &Verified,
    model: &ModelFiles<'_>,
    options: &Options,
    engine_options: &LanguageOptions,
) -> Result<Network> {
    let release = |bytes: &[u8]| verified.release(bytes);
    bms_nn::lm::load(model, &load_options(options, engine_options, &release))
}

fn load_options<'a>(
    options: &Options,
    engine_options: &LanguageOptions,
    release: &'a dyn Fn(&[u8]),
) -> LoadOptions<'a> {
    LoadOptions {
        threads: engine_options.threads,
        isa: options.language.isa.unwrap_or_else(Isa::best),
        kv: if engine_options.kv_q8 { KvKind::Q8 } else { KvKind::F16 },
        context: engine_options.context,
        kv_bytes: engine_options.kv_bytes.unwrap_or_else(kv_bytes),
        quantise: None,
        release,
    }
}

fn engine_options(options: &Options) -> LanguageOptions {
    let defaults = LanguageOptions::default();
    let asked = &options.language;
    LanguageOptions {
        threads: options.threads.unwrap_or(defaults.threads).max(1),
        context: asked.context.or(defaults.context),
        kv_bytes: asked.kv_memory.map(|mib| mib.saturating_mul(1 << 20)).or(defaults.kv_bytes),
        kv_q8: asked.kv_cache.map_or(defaults.kv_q8, |kind| kind == KvCache::Q8),
        sequences_max: asked.sequences.unwrap_or(defaults.sequences_max),
        queue_max: asked.queue.unwrap_or(defaults.queue_max),
        ..defaults
    }
}

/// A share of the memory that is free now. Pages that are never used take none.
fn kv_bytes() -> u64 {
    available_memory().map_or(KV_BYTES, |bytes| bytes / KV_SHARE)
}

/// Where adapters may be loaded from: beside the bundle's model, and where the operator says.
fn adapter_folders(options: &Options) -> Vec<PathBuf> {
    let own = match &options.place {
        Place::Bundle(folder) => Some(folder.join("adapters")),
        Place::Bare { .. } => None,
    };
    own.into_iter().chain(options.language.adapters.clone()).collect()
}

/// A model's tokeniser and template, from its own files.
#[derive(Debug)]
struct ModelScript {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    /// The text of the template.
    source: Option<String>,
}

impl ModelScript {
    fn read(model: &ModelFiles<'_>) -> Result<Self> {
        match model {
            ModelFiles::Gguf(bytes) => {
                let file = GgufFile::parse(bytes)?;
                let tokenizer = Tokenizer::from_gguf(&file.metadata)?;
                let template = ChatTemplate::from_gguf(&file.metadata, &tokenizer)?;
                let source = file.metadata.text("tokenizer.chat_template")?.map(str::to_owned);
                Ok(ModelScript { tokenizer: Arc::new(tokenizer), template, source })
            }
            ModelFiles::Folder(files) => ModelScript::of_folder(files),
        }
    }

    fn of_folder(files: &[(&str, &[u8])]) -> Result<Self> {
        let folder = HfFolder::open(files)?;
        let tokenizer = folder.tokenizer()?;
        let template = folder.template(&tokenizer)?;
        let own = folder.file("chat_template.jinja").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let written = || {
            folder.tokenizer_config()?.get("chat_template").map(|template| match template {
                serde_json::Value::String(source) => source.clone(),
                // Several, for several uses: what one of them knows the model knows.
                list => list.to_string(),
            })
        };
        let source = own.or_else(written);
        Ok(ModelScript { tokenizer: Arc::new(tokenizer), template, source })
    }
}

impl Script for ModelScript {
    fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, add_special, parse_special)
    }

    fn bytes(&self, token: u32) -> Vec<u8> {
        self.tokenizer.token_bytes(token).to_vec()
    }

    fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        self.tokenizer.decode(tokens)
    }

    fn is_control(&self, token: u32) -> bool {
        self.tokenizer.is_control(token)
    }

    fn control_names(&self) -> Vec<String> {
        let tokens = (0..self.tokenizer.len()).filter_map(|token| u32::try_from(token).ok());
        let names = tokens.filter(|token| self.tokenizer.is_control(*token));
        names.map(|token| String::from_utf8_lossy(self.tokenizer.token_bytes(token)).into_owned()).collect()
    }

    fn tokens(&self) -> usize {
        self.tokenizer.len()
    }

    fn template_source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
        variables: &Map<String, Value>,
    ) -> Result<String> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::new(Code::UnsupportedModel, "the model has no chat template")
                .hint("Ask it with a text at /v1/completions.")
        })?;
        template.render(messages, tools, add_generation_prompt, variables)
    }
}

/// A model that embeds whole texts, as the engine sees it: every token of a text has the text's vector, which any
/// pooling gives back.
#[derive(Debug)]
struct Encoder {
    embedder: Box<Embedder>,
    info: DecoderInfo,
}

impl Encoder {
    fn new(embedder: Box<Embedder>) -> Self {
        let hyper = embedder.hyper();
        let info = DecoderInfo {
            name: String::new(),
            arch: "bert".to_owned(),
            vocab: embedder.vocab(),
            context: embedder.context(),
            layers: hyper.layers,
            d_model: embedder.width(),
            // For one group of inputs, each of which begins a page.
            pages: limits::EMBED_INPUTS_MAX + GROUP_TOKENS.max(embedder.context()).div_ceil(PAGE_TOKENS),
            page_tokens: PAGE_TOKENS,
            kv_bytes_per_token: 0,
            parameters: embedder.parameters(),
            weight_bytes: embedder.weight_bytes(),
        };
        Encoder { embedder, info }
    }
}

impl Decoder for Encoder {
    fn info(&self) -> &DecoderInfo {
        &self.info
    }

    fn forward(&mut self, _batch: &[Segment<'_>], _logits: &mut Vec<f32>) -> Result<()> {
        Err(Error::new(Code::UnsupportedModel, "the model embeds texts, it does not continue them")
            .hint("Ask it at /v1/embeddings."))
    }

    fn hidden(&mut self, batch: &[Segment<'_>], states: &mut Vec<f32>) -> Result<()> {
        if batch.iter().any(|segment| segment.start != 0) {
            return Err(Error::new(Code::Internal, "a text to embed was cut"));
        }
        let texts: Vec<&[u32]> = batch.iter().map(|segment| segment.tokens).collect();
        for (segment, vector) in batch.iter().zip(self.embedder.embed(&texts)?) {
            segment.tokens.iter().for_each(|_| states.extend_from_slice(&vector));
        }
        Ok(())
    }

    fn copy_page(&mut self, _from: PageId, _to: PageId) {}

    fn weights_mut(&mut self) -> Vec<&mut [u8]> {
        self.embedder.weights_mut()
    }

    fn add_adapter(&mut self, _files: &AdapterFiles<'_>) -> Result<usize> {
        Err(Error::new(Code::UnsupportedModel, "a model that embeds texts takes no adapters"))
    }
}

#[cfg(test)]
mod tests;
