//! What the engine needs of a tokeniser.

use bms_nn::lm::Tokenizer;

/// The tokens of a model, seen from the side of generation.
pub trait Vocabulary: Send + Sync {
    /// Tokens.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes a token stands for; of a control token its name.
    fn bytes(&self, token: u32) -> &[u8];

    /// Tokens by which the model ends an answer.
    fn ends(&self) -> &[u32];

    /// Whether the token is no text but a sign to the model. Answers' texts do not show it.
    fn is_control(&self, token: u32) -> bool;

    /// The tokens the tokeniser itself makes of this text, without signs at its ends.
    fn encode(&self, text: &str) -> Vec<u32>;
}

impl Vocabulary for Tokenizer {
    fn len(&self) -> usize {
        Tokenizer::len(self)
    }

    fn bytes(&self, token: u32) -> &[u8] {
        self.token_bytes(token)
    }

    fn ends(&self) -> &[u32] {
        Tokenizer::ends(self)
    }

    fn is_control(&self, token: u32) -> bool {
        Tokenizer::is_control(self, token)
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        // What cannot be encoded is no text the engine would look for.
        Tokenizer::encode(self, text, false, false).unwrap_or_default()
    }
}
