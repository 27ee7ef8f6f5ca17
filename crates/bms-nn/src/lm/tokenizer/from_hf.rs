//! Tokenizers from Hugging Face folders.

use bms_wire::{Code, Error, Result};
use serde_json::Value;

use super::library::Library;
use super::vocabulary::Vocabulary;
use super::{Engine, Marks, Tokenizer, ends};

/// The files of a folder that say how its model reads and writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`, parsed.
    pub tokenizer_config: Option<&'a Value>,
    /// `generation_config.json`, parsed.
    pub generation_config: Option<&'a Value>,
    /// `config.json`, parsed.
    pub config: Option<&'a Value>,
}

impl Tokenizer {
    /// Reads a folder's files. Later files fill in what the earlier ones leave open: `tokenizer_config.json`
    /// names tokens, `generation_config.json` and `config.json` number them.
    ///
    /// Errors: [`Code::InvalidBundle`] for files that are broken or contradict each other.
    pub fn from_hf(files: &TokenizerFiles<'_>) -> Result<Self> {
        let library = Library::read(files.tokenizer)?;
        let vocabulary = library.vocabulary()?;
        let (begin, end) = library.frame()?;
        let named = |name: &str| -> Result<Option<u32>> {
            let Some(text) = files.tokenizer_config.and_then(|config| token_text(config, name)) else {
                return Ok(None);
            };
            let found = vocabulary.ids().find(|id| vocabulary.bytes(*id) == text.as_bytes());
            found.map(Some).ok_or_else(|| {
                Error::new(Code::InvalidBundle, format!("the tokenizer has no token `{text}`, its {name}"))
            })
        };
        let generation = numbers(files.generation_config, "eos_token_id");
        let config = numbers(files.config, "eos_token_id");
        let bos = named("bos_token")?.or(numbers(files.config, "bos_token_id").first().copied());
        let bos = bos.filter(|id| (*id as usize) < vocabulary.len());
        let eos = named("eos_token")?.or(generation.first().copied()).or(config.first().copied());
        let eos = eos.filter(|id| (*id as usize) < vocabulary.len());
        let mut marks = Marks { begin, end, bos, eos, ends: ends(&vocabulary) };
        // A model may be made with more rows than its tokenizer knows.
        marks
            .ends
            .extend(generation.into_iter().chain(config).filter(|id| (*id as usize) < vocabulary.len()));
        settle(&mut marks, files.tokenizer_config);
        Tokenizer::assemble(vocabulary, Engine::Library(Box::new(library)), marks)
    }
}

/// `add_bos_token` and `add_eos_token` win over what `tokenizer.json` does.
fn settle(marks: &mut Marks, config: Option<&Value>) {
    let flag = |name: &str| config.and_then(|config| config.get(name)).and_then(Value::as_bool);
    match (flag("add_bos_token"), marks.bos) {
        (Some(true), Some(bos)) if marks.begin.first() != Some(&bos) => marks.begin.insert(0, bos),
        (Some(false), Some(bos)) => marks.begin.retain(|id| *id != bos),
        _ => {}
    }
    match (flag("add_eos_token"), marks.eos) {
        (Some(true), Some(eos)) if marks.end.last() != Some(&eos) => marks.end.push(eos),
        (Some(false), Some(eos)) => marks.end.retain(|id| *id != eos),
        _ => {}
    }
}

/// A token's text: `"<s>"` or `{"content": "<s>"}`.
pub(in crate::lm) fn token_text<'a>(config: &'a Value, name: &str) -> Option<&'a str> {
    let value = config.get(name)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// One number or several.
fn numbers(config: Option<&Value>, name: &str) -> Vec<u32> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    match config.and_then(|config| config.get(name)) {
        Some(Value::Array(values)) => values.iter().filter_map(number).collect(),
        Some(value) => number(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Added tokens that end an answer, by their texts.
fn ends(vocabulary: &Vocabulary) -> Vec<u32> {
    use super::TokenKind as K;
    let added = |id: &u32| matches!(vocabulary.kind(*id), Some(K::Control | K::UserDefined));
    let present: Vec<(&str, u32)> = vocabulary
        .ids()
        .filter(added)
        .filter_map(|id| {
            let text = std::str::from_utf8(vocabulary.bytes(id)).ok()?;
            ends::ENDS.contains(&text).then_some((text, id))
        })
        .collect();
    let texts: Vec<&str> = present.iter().map(|(text, _)| *text).collect();
    let chosen = ends::choose(&texts);
    present.into_iter().filter(|(text, _)| chosen.contains(text)).map(|(_, id)| id).collect()
}
