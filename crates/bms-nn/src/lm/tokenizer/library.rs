//! The `tokenizers` crate, which reads every `tokenizer.json`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bms_wire::{Code, Error, Result};
use tokenizers::tokenizer::pre_tokenizer::OffsetType;
use tokenizers::{AddedVocabulary, DecoderWrapper, Model, PreTokenizer, PreTokenizerWrapper};

use super::byte_level;
use super::pieces::SPACE;
use super::vocabulary::{TokenKind, Vocabulary};
use bms_wire::limits;

/// The crate's tokenizer, with and without its control tokens.
pub(super) struct Library {
    inner: tokenizers::Tokenizer,
    /// The added tokens again, where control tokens stay text.
    text_only: AddedVocabulary,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

/// How the crate's tokens are written.
enum Spelling {
    /// A printable character for each byte.
    ByteLevel,
    /// `▁` for a space, `<0x0A>` for a byte.
    Spaces,
    /// `##` continues a word.
    Words,
    Plain,
}

impl Library {
    /// Errors: [`Code::InvalidBundle`] for a file that the crate does not understand.
    pub(super) fn read(json: &[u8]) -> Result<Self> {
        // The crate has invariants of its own files that a stranger's file can break.
        let read = catch_unwind(|| tokenizers::Tokenizer::from_bytes(json));
        let mut inner = match read {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => {
                return Err(Error::new(Code::InvalidBundle, format!("tokenizer.json is invalid: {error}")));
            }
            Err(_) => return Err(Error::new(Code::InvalidBundle, "tokenizer.json contradicts itself")),
        };
        // What is too long is refused by its length; what is shorter than a batch is not made longer.
        let whole = inner.with_truncation(None);
        whole.map_err(|error| {
            Error::new(Code::Internal, format!("truncation cannot be switched off: {error}"))
        })?;
        inner.with_padding(None);
        let mut text_only = inner.get_added_vocabulary().clone();
        text_only.set_encode_special_tokens(true);
        Ok(Library { inner, text_only })
    }

    /// Appends the tokens of a text, without what stands before and behind it.
    pub(super) fn encode(&self, text: &str, parse_special: bool, ids: &mut Vec<u32>) -> Result<()> {
        let encoded = catch_unwind(AssertUnwindSafe(|| self.tokens(text, parse_special)));
        match encoded {
            Ok(Ok(found)) => {
                ids.extend(found);
                Ok(())
            }
            Ok(Err(error)) => {
                Err(Error::new(Code::InvalidInput, format!("the text cannot be tokenized: {error}")))
            }
            Err(_) => Err(Error::new(Code::Internal, "the tokenizer failed on the text")),
        }
    }

    fn tokens(&self, text: &str, parse_special: bool) -> tokenizers::Result<Vec<u32>> {
        let added = if parse_special { self.inner.get_added_vocabulary() } else { &self.text_only };
        let mut parts = added.extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(cutter) = self.inner.get_pre_tokenizer() {
            cutter.pre_tokenize(&mut parts)?;
        }
        let model = self.inner.get_model();
        parts.tokenize(|part| model.tokenize(part.get()))?;
        Ok(parts.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
    }

    /// What the file puts before a text and behind it.
    pub(super) fn frame(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        const PROBE: &str = "a";
        let failed = |error: tokenizers::Error| {
            Error::new(Code::InvalidBundle, format!("the tokenizer fails on the text `{PROBE}`: {error}"))
        };
        let inside = self.tokens(PROBE, true).map_err(failed)?;
        let framed = self.inner.encode_fast(PROBE, true).map_err(failed)?;
        let framed = framed.get_ids();
        let place = framed.windows(inside.len().max(1)).position(|window| window == inside);
        let Some(place) = place.filter(|_| !inside.is_empty()) else {
            return Err(Error::new(
                Code::UnsupportedModel,
                "the tokenizer adds more than a beginning and an end to a text",
            ));
        };
        Ok((framed[..place].to_vec(), framed[place + inside.len()..].to_vec()))
    }

    /// All tokens with their bytes.
    pub(super) fn vocabulary(&self) -> Result<Vocabulary> {
        let spelling = self.spelling();
        let added = self.inner.get_added_tokens_decoder();
        let mut texts: Vec<(u32, String)> =
            self.inner.get_vocab(true).into_iter().map(|(text, id)| (id, text)).collect();
        texts.sort_unstable();
        let mut vocabulary = Vocabulary::default();
        for (id, text) in texts {
            if limits::VOCABULARY_TOKENS_MAX <= id as usize {
                return Err(Error::new(
                    Code::UnsupportedModel,
                    format!("token {id} is beyond the limit of {} tokens", limits::VOCABULARY_TOKENS_MAX),
                ));
            }
            // Of two texts with one number the first is kept; numbers without a text mean nothing.
            while vocabulary.len() < id as usize {
                vocabulary.push(&[], TokenKind::Unused)?;
            }
            if vocabulary.len() == id as usize {
                match added.get(&id) {
                    Some(token) if token.special => vocabulary.push(text.as_bytes(), TokenKind::Control)?,
                    Some(_) => vocabulary.push(text.as_bytes(), TokenKind::UserDefined)?,
                    None => {
                        let (bytes, kind) = spelling.bytes(&text);
                        vocabulary.push(&bytes, kind)?;
                    }
                }
            }
        }
        Ok(vocabulary)
    }

    fn spelling(&self) -> Spelling {
        fn of(decoder: &DecoderWrapper) -> Option<Spelling> {
            match decoder {
                DecoderWrapper::ByteLevel(_) => Some(Spelling::ByteLevel),
                DecoderWrapper::WordPiece(_) => Some(Spelling::Words),
                DecoderWrapper::Metaspace(_)
                | DecoderWrapper::ByteFallback(_)
                | DecoderWrapper::Replace(_) => Some(Spelling::Spaces),
                DecoderWrapper::Sequence(parts) => parts.get_decoders().iter().find_map(of),
                _ => None,
            }
        }
        let byte_level = |cutter: &PreTokenizerWrapper| match cutter {
            PreTokenizerWrapper::ByteLevel(_) => true,
            PreTokenizerWrapper::Sequence(parts) => {
                parts.as_ref().iter().any(|part| matches!(part, PreTokenizerWrapper::ByteLevel(_)))
            }
            _ => false,
        };
        match self.inner.get_decoder().and_then(of) {
            Some(spelling) => spelling,
            None if self.inner.get_pre_tokenizer().is_some_and(byte_level) => Spelling::ByteLevel,
            None => Spelling::Plain,
        }
    }
}

impl Spelling {
    fn bytes(&self, text: &str) -> (Vec<u8>, TokenKind) {
        let plain = || text.as_bytes().to_vec();
        match self {
            Spelling::ByteLevel => (byte_level::decode(text).unwrap_or_else(plain), TokenKind::Normal),
            Spelling::Spaces => match byte(text) {
                Some(byte) => (vec![byte], TokenKind::Byte),
                None => (text.replace(SPACE, " ").into_bytes(), TokenKind::Normal),
            },
            Spelling::Words => match text.strip_prefix("##") {
                Some(rest) => (rest.as_bytes().to_vec(), TokenKind::Normal),
                None => (format!(" {text}").into_bytes(), TokenKind::Normal),
            },
            Spelling::Plain => (plain(), TokenKind::Normal),
        }
    }
}

/// The byte of `<0x0A>`.
pub(super) fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}
