//! The tokens of a model: what each one stands for in bytes, and of which kind it is.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result, limits};

/// What a token is for, with the numbers of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for what the tokenizer does not know.
    Unknown,
    /// Steers the model and is no text: begin, end, roles. Found in a text only when asked for.
    Control,
    /// A piece of text that is always kept whole.
    UserDefined,
    /// A row of the embedding that means nothing.
    Unused,
    /// One byte, for what no other token can write.
    Byte,
}

impl TokenKind {
    /// The kind with this number in a GGUF file; 0 means that nothing is known.
    pub(super) fn from_number(number: i64) -> Self {
        match number {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }

    /// The number in a GGUF file.
    pub fn number(self) -> i32 {
        match self {
            TokenKind::Normal => 1,
            TokenKind::Unknown => 2,
            TokenKind::Control => 3,
            TokenKind::UserDefined => 4,
            TokenKind::Unused => 5,
            TokenKind::Byte => 6,
        }
    }
}

/// All tokens, their bytes in one block of memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
}

impl Vocabulary {
    /// Appends the token with the next number.
    ///
    /// Errors: [`Code::UnsupportedModel`] beyond the limit.
    pub(super) fn push(&mut self, bytes: &[u8], kind: TokenKind) -> Result<()> {
        let end = self.bytes.len() + bytes.len();
        if limits::VOCABULARY_TOKENS_MAX <= self.len() || u32::MAX as usize <= end {
            return Err(Error::new(
                Code::UnsupportedModel,
                format!("the vocabulary has more than {} tokens", limits::VOCABULARY_TOKENS_MAX),
            ));
        }
        self.bytes.extend(bytes);
        self.ends.push(end as u32);
        self.kinds.push(kind);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token; none for a number beyond the vocabulary.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn ids(&self) -> std::ops::Range<u32> {
        0..self.len() as u32
    }

    /// The tokens of the wanted kinds by their bytes. Of several with the same bytes the first counts.
    pub(super) fn places(&self, wanted: impl Fn(TokenKind) -> bool) -> HashMap<&[u8], u32> {
        let mut places = HashMap::with_capacity(self.len());
        for id in self.ids().filter(|id| self.kind(*id).is_some_and(&wanted)) {
            places.entry(self.bytes(id)).or_insert(id);
        }
        places
    }
}

/// Normal tokens in the order of their bytes: finds one without a copy of the vocabulary.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(Vec<u32>);

impl Index {
    pub(super) fn new(vocabulary: &Vocabulary, wanted: impl Fn(TokenKind) -> bool) -> Self {
        let mut ids: Vec<u32> =
            vocabulary.ids().filter(|id| vocabulary.kind(*id).is_some_and(&wanted)).collect();
        ids.sort_by_key(|id| (vocabulary.bytes(*id), *id));
        ids.dedup_by(|second, first| vocabulary.bytes(*second) == vocabulary.bytes(*first));
        Index(ids)
    }

    pub(super) fn find(&self, vocabulary: &Vocabulary, bytes: &[u8]) -> Option<u32> {
        let place = self.0.binary_search_by_key(&bytes, |id| vocabulary.bytes(*id)).ok()?;
        Some(self.0[place])
    }
}
