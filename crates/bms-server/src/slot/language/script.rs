//! What the routes need of a model's tokeniser and template.

use bms_wire::Result;
use serde_json::{Map, Value};

/// Texts to tokens and back, conversations to texts.
pub(crate) trait Script: Send + Sync + std::fmt::Debug {
    /// The tokens of a text. With `add_special` those a text begins or ends with are added; with `parse_special`
    /// texts that stand for control tokens become them.
    fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>>;

    /// The bytes of a token, also of a control token: its name then.
    fn bytes(&self, token: u32) -> Vec<u8>;

    /// The bytes of tokens in a row.
    fn decode(&self, tokens: &[u32]) -> Vec<u8>;

    /// Whether a token is no text but a sign to the model.
    fn is_control(&self, token: u32) -> bool;

    /// The names of all tokens that are no text, as they would be written.
    fn control_names(&self) -> Vec<String>;

    /// Tokens there are.
    fn tokens(&self) -> usize;

    /// The text of the model's template, when it brings one.
    fn template_source(&self) -> Option<&str>;

    /// Whether that text holds this: a variable or a mark the template knows.
    fn template_mentions(&self, word: &str) -> bool {
        self.template_source().is_some_and(|source| source.contains(word))
    }

    /// A conversation as the model's template writes it.
    ///
    /// # Errors
    /// [`bms_wire::Code::UnsupportedModel`] without a template, [`bms_wire::Code::InvalidInput`] when the template
    /// refuses the conversation.
    fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
        variables: &Map<String, Value>,
    ) -> Result<String>;

    /// The one token that is written as `mark` and is no text, when there is one.
    fn control_token(&self, mark: &str) -> Option<u32> {
        match self.encode(mark, false, true).ok()?[..] {
            [token] if self.is_control(token) => Some(token),
            _ => None,
        }
    }
}
