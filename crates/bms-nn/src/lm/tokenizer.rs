//! Text to token numbers and back.
//!
//! A GGUF file holds a vocabulary and the name of an algorithm: byte pair encoding, SentencePiece and
//! WordPiece are done here and in the `tokenizers` crate. A Hugging Face folder holds a `tokenizer.json`,
//! which that crate reads. What is not known is refused: a wrong token is not seen in the answer's form.
//!
//! Tokens are bytes, not text: one may end inside a character. [`Tokenizer::decode`] gives bytes for that
//! reason, and a stream of tokens is decoded by appending [`Tokenizer::token_bytes`].

mod bpe;
mod byte_level;
mod ends;
mod from_gguf;
mod from_hf;
mod library;
mod pieces;
mod specials;
mod split;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use from_hf::TokenizerFiles;
pub(super) use from_hf::token_text;
pub(super) use split::called as rules_called;
pub use vocabulary::TokenKind;

use bms_wire::{Code, Error, Result, limits};

use bpe::Bpe;
use library::Library;
use pieces::{Pieces, SPACE};
use specials::{Fragment, Specials};
use vocabulary::Vocabulary;

/// A model's vocabulary and how texts become its tokens.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    engine: Engine,
    /// What stands before a text, and behind it, when special tokens are added.
    begin: Vec<u32>,
    end: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Engine {
    Bpe(Bpe, Specials),
    Pieces(Pieces, Specials),
    Library(Box<Library>),
}

impl Tokenizer {
    /// The tokens of a text.
    ///
    /// `add_special` puts in front and behind what the model was trained with ([`Self::begin`],
    /// [`Self::end`]). `parse_special` turns the texts of control tokens, `<|im_end|>`, into those tokens; a
    /// text of a stranger must not be read that way, or it can end its own turn.
    ///
    /// Errors: [`Code::TooLarge`] for a text over the limit, [`Code::InvalidInput`] for one that the
    /// vocabulary cannot write.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        if limits::TOKENIZE_BYTES_MAX < text.len() {
            return Err(Error::new(
                Code::TooLarge,
                format!("the text has {} bytes, the limit is {}", text.len(), limits::TOKENIZE_BYTES_MAX),
            ));
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special {
            ids.extend(&self.begin);
        }
        match &self.engine {
            Engine::Bpe(bpe, specials) => specials.partition(text, parse_special, |fragment| {
                match fragment {
                    Fragment::Token(id) => ids.push(id),
                    Fragment::Text(text) => bpe.encode(&self.vocabulary, text, &mut ids)?,
                }
                Ok(())
            })?,
            Engine::Pieces(pieces, specials) => {
                let mut after_token = true;
                specials.partition(text, parse_special, |fragment| {
                    match fragment {
                        Fragment::Token(id) => ids.push(id),
                        Fragment::Text(text) => {
                            let prefix = if pieces.space_prefix && after_token { " " } else { "" };
                            pieces.encode(&[prefix, &text.replace(SPACE, " ")].concat(), &mut ids);
                        }
                    }
                    after_token = matches!(fragment, Fragment::Token(_));
                    Ok(())
                })?;
            }
            Engine::Library(library) => library.encode(text, parse_special, &mut ids)?,
        }
        if add_special {
            ids.extend(&self.end);
        }
        Ok(ids)
    }

    /// The bytes of a text made of these tokens. Control tokens are no text and are left out.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        let text = ids.iter().filter(|id| !self.is_control(**id));
        text.flat_map(|id| self.token_bytes(*id)).copied().collect()
    }

    /// The exact bytes of one token; of a control token its name. None for a number beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// The token whose bytes are exactly these, control tokens included.
    pub fn token(&self, bytes: &[u8]) -> Option<u32> {
        self.vocabulary.ids().find(|id| self.vocabulary.bytes(*id) == bytes)
    }

    /// What a token is for; `None` for a number beyond the vocabulary.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.vocabulary.kind(id)
    }

    /// Whether a token steers the model and is no text.
    pub fn is_control(&self, id: u32) -> bool {
        !matches!(
            self.vocabulary.kind(id),
            Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte)
        )
    }

    /// Number of tokens. The embedding may have more rows, which then mean nothing.
    pub fn len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether there are no tokens; never after loading.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token that begins a text, whether or not the model wants it there.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// All tokens that end an answer, in ascending order: end of text, of a turn, of a message.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// What stands before a text when special tokens are added: often the begin token, often nothing.
    pub fn begin(&self) -> &[u32] {
        &self.begin
    }

    /// What stands behind a text when special tokens are added: for most models nothing.
    pub fn end(&self) -> &[u32] {
        &self.end
    }

    /// Refuses a tokenizer that does not belong to an embedding of `rows` rows.
    ///
    /// Errors: [`Code::InvalidBundle`] when some token has no row.
    pub fn check_rows(&self, rows: usize) -> Result<()> {
        if self.len() <= rows {
            return Ok(());
        }
        Err(Error::new(
            Code::InvalidBundle,
            format!("the tokenizer has {} tokens, the model's embedding {rows} rows", self.len()),
        )
        .hint("The tokenizer belongs to another model."))
    }

    /// Puts the parts together: finds the end tokens, drops numbers beyond the vocabulary.
    fn assemble(vocabulary: Vocabulary, engine: Engine, marks: Marks) -> Result<Self> {
        if vocabulary.len() == 0 {
            return Err(Error::new(Code::InvalidBundle, "the tokenizer has no tokens"));
        }
        let known = |id: &u32| vocabulary.kind(*id).is_some();
        let all =
            [&marks.begin[..], &marks.end, &marks.ends, marks.bos.as_slice(), marks.eos.as_slice()].concat();
        if let Some(id) = all.iter().find(|id| !known(id)) {
            return Err(Error::new(
                Code::InvalidBundle,
                format!("the tokenizer's special token {id} is none of its {} tokens", vocabulary.len()),
            ));
        }
        let mut ends: Vec<u32> = marks.ends.into_iter().chain(marks.eos).collect();
        ends.sort_unstable();
        ends.dedup();
        let Marks { begin, end, bos, eos, .. } = marks;
        Ok(Tokenizer { vocabulary, engine, begin, end, bos, eos, ends })
    }
}

/// The special tokens, as a file names them.
#[derive(Clone, Debug, Default)]
struct Marks {
    begin: Vec<u32>,
    end: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    /// What else ends an answer.
    ends: Vec<u32>,
}
