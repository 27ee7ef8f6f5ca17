//! Tokenizers from the metadata of GGUF files.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use super::bpe::Bpe;
use super::library::Library;
use super::pieces::{Pieces, SPACE};
use super::specials::{Special, Specials};
use super::split::{self, Splitter};
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Engine, Marks, Tokenizer, byte_level, ends};
use crate::lm::gguf::{Metadata, Value};

fn broken(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidBundle, message)
}

impl Tokenizer {
    /// Reads `tokenizer.ggml.*`.
    ///
    /// Errors: [`Code::UnsupportedModel`] for an algorithm or cutting rules that are not known,
    /// [`Code::InvalidBundle`] for parts that are missing or contradict each other.
    pub fn from_gguf(metadata: &Metadata<'_>) -> Result<Self> {
        let model = metadata
            .text("tokenizer.ggml.model")?
            .ok_or_else(|| broken("the GGUF file has no tokenizer").hint("Get the model's whole file."))?;
        let source = Source::read(metadata)?;
        match model {
            "gpt2" => bpe(metadata, &source),
            "llama" => pieces(metadata, &source),
            "bert" => word_pieces(metadata, &source),
            _ => Err(Error::new(
                Code::UnsupportedModel,
                format!("the tokenizer is a `{model}`, known are gpt2, llama and bert"),
            )),
        }
    }
}

/// What all kinds of tokenizers have.
struct Source<'a> {
    texts: Vec<&'a [u8]>,
    kinds: Vec<TokenKind>,
}

impl<'a> Source<'a> {
    fn read(metadata: &Metadata<'a>) -> Result<Self> {
        let list =
            metadata.array("tokenizer.ggml.tokens")?.ok_or_else(|| broken("the tokenizer has no tokens"))?;
        if limits::VOCABULARY_TOKENS_MAX < list.len() {
            return Err(Error::new(
                Code::UnsupportedModel,
                format!(
                    "the vocabulary has {} tokens, the limit is {}",
                    list.len(),
                    limits::VOCABULARY_TOKENS_MAX
                ),
            ));
        }
        let texts = metadata.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
        let mut kinds = vec![TokenKind::Normal; texts.len()];
        if let Some(numbers) = metadata.array("tokenizer.ggml.token_type")? {
            if numbers.len() < texts.len() {
                return Err(broken(format!(
                    "the tokenizer has kinds for {} of {} tokens",
                    numbers.len(),
                    texts.len()
                )));
            }
            for (kind, value) in kinds.iter_mut().zip(numbers.iter()) {
                *kind = TokenKind::from_number(value.number().map_or(0, |number| number as i64));
            }
        }
        let mut source = Source { texts, kinds };
        for id in source.ends() {
            source.kinds[id as usize] = TokenKind::Control;
        }
        Ok(source)
    }

    /// Tokens that end an answer, by their texts.
    fn ends(&self) -> Vec<u32> {
        let mut present: HashMap<&str, u32> = HashMap::new();
        for (id, (text, kind)) in self.texts.iter().zip(&self.kinds).enumerate() {
            if let Some(end) = ends::ENDS.iter().find(|end| end.as_bytes() == *text) {
                // Files forget to mark control tokens. What could be an ordinary piece needs the mark.
                if *kind != TokenKind::Normal || end.starts_with("<|") || end.starts_with("<end_of_") {
                    present.entry(*end).or_insert(id as u32);
                }
            }
        }
        let texts: Vec<&str> = present.keys().copied().collect();
        ends::choose(&texts).into_iter().map(|text| present[text]).collect()
    }

    fn vocabulary(&self, bytes: impl Fn(&'a [u8], TokenKind) -> Vec<u8>) -> Result<Vocabulary> {
        let mut vocabulary = Vocabulary::default();
        for (text, kind) in self.texts.iter().zip(&self.kinds) {
            vocabulary.push(&bytes(text, *kind), *kind)?;
        }
        Ok(vocabulary)
    }

    fn specials(&self, metadata: &Metadata<'_>, vocabulary: &Vocabulary) -> Result<Specials> {
        // Files do not say which tokens take the white space behind them; Phi-3's do.
        let name = metadata.text("general.name")?.unwrap_or_default().to_lowercase();
        let phi3 = name.contains("phi-3") || name.contains("phi3");
        let mut specials = Vec::new();
        for (id, kind) in self.kinds.iter().enumerate() {
            let control = matches!(kind, TokenKind::Control | TokenKind::Unknown);
            if control || *kind == TokenKind::UserDefined {
                let plain = matches!(self.texts[id], b"<unk>" | b"<s>" | b"<|endoftext|>");
                let strip_behind = phi3 && !plain;
                specials.push(Special { id: id as u32, control, strip_before: false, strip_behind });
            }
        }
        Specials::new(&specials, |id| vocabulary.bytes(id))
    }
}

/// A special token's number, `None` when absent or when the file gives -1 for it.
fn id(metadata: &Metadata<'_>, name: &str) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match metadata.get(&key) {
        None | Some(Value::I32(-1) | Value::I64(-1) | Value::U32(u32::MAX)) => Ok(None),
        Some(_) => Ok(metadata.number(&key)?.map(|id| u32::try_from(id).unwrap_or(u32::MAX))),
    }
}

/// The special tokens; `begin` and `end` say what is added when the file does not.
fn marks(
    metadata: &Metadata<'_>,
    source: &Source<'_>,
    begin: bool,
    defaults: [Option<u32>; 2],
) -> Result<Marks> {
    let bos = id(metadata, "bos")?.or(defaults[0]);
    let eos = id(metadata, "eos")?.or(defaults[1]);
    let mut marks = Marks { bos, eos, ends: source.ends(), ..Marks::default() };
    marks.ends.extend(id(metadata, "eot")?);
    marks.ends.extend(id(metadata, "eom")?);
    if metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(begin) {
        marks.begin.extend(bos);
    }
    if metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false) {
        marks.end.extend(eos);
    }
    Ok(marks)
}

fn bpe(metadata: &Metadata<'_>, source: &Source<'_>) -> Result<Tokenizer> {
    let name = metadata.text("tokenizer.ggml.pre")?.ok_or_else(|| {
        Error::new(Code::UnsupportedModel, "the file does not say by which rules its tokenizer cuts texts")
            .hint("It is from before `tokenizer.ggml.pre` was written: convert the model again.")
    })?;
    let rules = split::named(name)?;
    let merges =
        metadata.texts("tokenizer.ggml.merges")?.ok_or_else(|| broken("the tokenizer has no merges"))?;
    let vocabulary = source.vocabulary(|text, kind| {
        let plain = std::str::from_utf8(text).ok().filter(|_| kind == TokenKind::Normal);
        plain.and_then(byte_level::decode).unwrap_or_else(|| text.to_vec())
    })?;
    let mut places = HashMap::with_capacity(source.texts.len());
    for (id, text) in source.texts.iter().enumerate() {
        places.entry(*text).or_insert(id as u32);
    }
    let bpe = Bpe::new(&vocabulary, &places, &merges, Splitter::new(&rules)?, rules.whole_words)?;
    let specials = source.specials(metadata, &vocabulary)?;
    let mut marks = marks(metadata, source, rules.begin, [None, None])?;
    if metadata.flag("tokenizer.ggml.add_sep_token")?.unwrap_or(false) {
        marks.end = id(metadata, "seperator")?.into_iter().collect();
    }
    Tokenizer::assemble(vocabulary, Engine::Bpe(bpe, specials), marks)
}

fn pieces(metadata: &Metadata<'_>, source: &Source<'_>) -> Result<Tokenizer> {
    let scores =
        metadata.reals("tokenizer.ggml.scores")?.ok_or_else(|| broken("the tokenizer has no scores"))?;
    let vocabulary = source.vocabulary(|text, kind| match kind {
        TokenKind::Byte => hex(text).map_or_else(|| text.to_vec(), |byte| vec![byte]),
        TokenKind::Control | TokenKind::Unknown => text.to_vec(),
        _ => match std::str::from_utf8(text) {
            Ok(text) => text.replace(SPACE, " ").into_bytes(),
            Err(_) => text.to_vec(),
        },
    })?;
    let unknown = id(metadata, "unknown")?.or(Some(0)).filter(|id| (*id as usize) < vocabulary.len());
    let space_prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let pieces = Pieces::new(&vocabulary, scores, unknown, space_prefix)?;
    let specials = source.specials(metadata, &vocabulary)?;
    let marks = marks(metadata, source, true, [Some(1), Some(2)])?;
    Tokenizer::assemble(vocabulary, Engine::Pieces(pieces, specials), marks)
}

/// The byte of `<0x0A>`.
fn hex(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">").filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// WordPiece: a GGUF file marks the beginning of a word, the library its continuation.
fn word_pieces(metadata: &Metadata<'_>, source: &Source<'_>) -> Result<Tokenizer> {
    let mut words = serde_json::Map::new();
    let mut added = Vec::new();
    for (id, (text, kind)) in source.texts.iter().zip(&source.kinds).enumerate() {
        let text = std::str::from_utf8(text).map_err(|_| broken(format!("token {id} is not UTF-8")))?;
        let word = match (kind, text.strip_prefix(SPACE)) {
            (TokenKind::Control | TokenKind::Unknown | TokenKind::Unused, _) => text.to_string(),
            (_, Some(word)) => word.to_string(),
            (_, None) => format!("##{text}"),
        };
        if matches!(kind, TokenKind::Control | TokenKind::Unknown) {
            added.push(json!({"id": id, "content": text, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false}));
        }
        words.entry(word).or_insert(id.into());
    }
    let vocabulary = source.vocabulary(|text, _| match std::str::from_utf8(text) {
        Ok(text) => text.replace(SPACE, " ").into_bytes(),
        Err(_) => text.to_vec(),
    })?;
    let unknown = id(metadata, "unknown")?.unwrap_or(100);
    let lowercase = metadata.flag("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let accents = metadata.flag("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": accents, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": String::from_utf8_lossy(vocabulary.bytes(unknown)),
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": words},
    });
    let bytes = serde_json::to_vec(&document)
        .map_err(|error| broken("failed to arrange the vocabulary").because(error))?;
    let library = Library::read(&bytes)?;
    let mut marks = marks(metadata, source, true, [Some(101), None])?;
    let separator = id(metadata, "seperator")?.or(id(metadata, "eos")?).unwrap_or(102);
    if metadata.flag("tokenizer.ggml.add_sep_token")?.unwrap_or(true) {
        marks.end = vec![separator];
    }
    if let Some(class) = id(metadata, "cls")?.filter(|_| !marks.begin.is_empty()) {
        marks.begin = vec![class];
    }
    Tokenizer::assemble(vocabulary, Engine::Library(Box::new(library)), marks)
}
