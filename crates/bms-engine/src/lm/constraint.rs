//! Answers of a form: a grammar says at every place which tokens may follow.
//!
//! Grammars are compiled while the caller waits, by `llguidance`; compiled ones are kept. It looks at its limits between
//! its steps, and one step can be of any size, so what a constraint weighs is checked before.

use std::sync::{Arc, Mutex, PoisonError};

use bms_wire::{Code, Error, Result, limits};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};

use crate::lm::Constraint;
use crate::lm::vocabulary::Vocabulary;

mod weight;

/// Compiled grammars kept for later requests.
const KEPT: usize = 32;
/// Stack of a thread that compiles: rules and definitions that refer to each other are followed one inside the other,
/// so that the longest constraint can need this much. What is not used takes no memory.
const STACK_BYTES: usize = 512 << 20;

/// The compiler of constraints for one vocabulary.
pub(crate) struct Forms {
    factory: ParserFactory,
    /// The least recently used first.
    kept: Mutex<Vec<(Constraint, Form)>>,
}

/// Where one answer stands in its form.
pub(crate) struct Form {
    matcher: Matcher,
}

struct Environment {
    trie: TokTrie,
    vocabulary: Arc<dyn Vocabulary>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.vocabulary.encode(text))
    }
}

impl Forms {
    /// Builds the trie of all tokens; takes a moment.
    pub(crate) fn new(vocabulary: Arc<dyn Vocabulary>) -> Result<Forms> {
        let failed = |e: anyhow::Error| {
            Error::new(Code::Internal, format!("failed to prepare the vocabulary for constraints: {e}"))
        };
        let environment: TokEnv = Arc::new(Environment { trie: trie(&*vocabulary), vocabulary });
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices).map_err(failed)?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Forms { factory, kept: Mutex::default() })
    }

    /// The beginning of a form.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the constraint cannot be met or understood, [`Code::TooLarge`] when it is too long.
    pub(crate) fn compile(&self, constraint: &Constraint) -> Result<Form> {
        if let Some(form) = self.kept(constraint) {
            return Ok(form);
        }
        let form = with_room(|| self.compiled(constraint))?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if KEPT <= kept.len() {
            kept.remove(0);
        }
        kept.push((constraint.clone(), form.fork()));
        Ok(form)
    }

    fn compiled(&self, constraint: &Constraint) -> Result<Form> {
        let grammar = grammar(constraint)?;
        let parser = self.factory.create_parser(grammar).map_err(|e| refused(constraint, &e))?;
        let mut matcher = Matcher::new(Ok(parser));
        // The first mask is computed here: what is too complex is refused before it reaches the engine's thread.
        matcher.compute_mask().map_err(|e| refused(constraint, &e))?;
        Ok(Form { matcher })
    }

    fn kept(&self, constraint: &Constraint) -> Option<Form> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == constraint)?;
        let entry = kept.remove(at);
        let form = entry.1.fork();
        kept.push(entry);
        Some(form)
    }
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forms").finish_non_exhaustive()
    }
}

impl Form {
    /// The same place, for another answer.
    pub(crate) fn fork(&self) -> Form {
        Form { matcher: self.matcher.deep_clone() }
    }

    /// Tokens that may follow.
    pub(crate) fn allowed(&mut self) -> Result<SimpleVob> {
        self.matcher.compute_mask_or_eos().map_err(|e| broken(&e))
    }

    /// Goes on by a token.
    pub(crate) fn consume(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(token).map_err(|e| broken(&e))
    }

    /// Whether the form is complete and nothing can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Tokens that must follow.
    pub(crate) fn forced(&mut self) -> Vec<u32> {
        self.matcher.compute_ff_tokens()
    }
}

/// Runs this on a thread with a large stack, and waits for it.
fn with_room<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("bms-lm-form".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, run).map_err(|e| {
            Error::new(Code::Unavailable, "no thread could be started to compile the constraint").because(e)
        })?;
        let failed = |_| Err(Error::new(Code::Internal, "the compiler failed on the constraint"));
        thread.join().unwrap_or_else(failed)
    })
}

/// All tokens by their bytes. Control tokens stand behind a byte that no text has, so that no grammar's text makes them.
fn trie(vocabulary: &dyn Vocabulary) -> TokTrie {
    let mut words: Vec<Vec<u8>> = Vec::with_capacity(vocabulary.len() + 1);
    for token in 0..vocabulary.len() as u32 {
        let bytes = vocabulary.bytes(token);
        words.push(match vocabulary.is_control(token) {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            false => bytes.to_vec(),
        });
    }
    let known = words.len();
    let ends: Vec<u32> = vocabulary.ends().iter().copied().filter(|end| (*end as usize) < known).collect();
    // A model without an end token gets one beyond its logits, which is never chosen: its forms end when complete.
    let ends = if ends.is_empty() { vec![known as u32] } else { ends };
    if ends[0] as usize == known {
        words.push(Vec::new());
    }
    TokTrie::from(&TokRxInfo::new(words.len() as u32, ends[0]), &words).with_eos_tokens(&ends)
}

fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar> {
    let within = |bytes: usize| match bytes <= limits::CONSTRAINT_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::new(
            Code::TooLarge,
            format!("the constraint has {bytes} bytes, more than {}", limits::CONSTRAINT_BYTES_MAX),
        )),
    };
    Ok(match constraint {
        Constraint::JsonObject => json(serde_json::json!({"type": "object"})),
        Constraint::JsonSchema(schema) => {
            within(schema.to_string().len())?;
            weight::check_schema(schema)?;
            json(schema.clone())
        }
        Constraint::Regex(expression) => {
            within(expression.len())?;
            weight::check_regex(expression)?;
            TopLevelGrammar::from_regex(expression)
        }
        Constraint::Lark(grammar) => {
            within(grammar.len())?;
            weight::check_lark(grammar)?;
            TopLevelGrammar::from_lark(grammar.clone())
        }
        Constraint::Choice(choices) => {
            within(choices.iter().map(String::len).sum())?;
            choice(choices)?
        }
    })
}

/// A schema's grammar. Models that lost the thread like to go on with white space; some is enough. Of `oneOf`, which
/// libraries write for unions, at least one holds.
fn json(mut schema: serde_json::Value) -> TopLevelGrammar {
    const OPTIONS: &str = "x-guidance";
    if let Some(fields) = schema.as_object_mut().filter(|fields| !fields.contains_key(OPTIONS)) {
        let options =
            serde_json::json!({"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,40}", "coerce_one_of": true});
        fields.insert(OPTIONS.to_owned(), options);
    }
    TopLevelGrammar::from_json_schema(schema)
}

fn choice(choices: &[String]) -> Result<TopLevelGrammar> {
    if choices.is_empty() || limits::CHOICES_MAX < choices.len() || choices.iter().any(String::is_empty) {
        let message = format!("a choice is between 1 to {} strings, none of them empty", limits::CHOICES_MAX);
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let quoted: Vec<String> = choices.iter().map(|choice| escaped(choice)).collect();
    Ok(TopLevelGrammar::from_regex(&format!("({})", quoted.join("|"))))
}

/// A regular expression that matches this text alone.
fn escaped(text: &str) -> String {
    let mut expression = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            expression.push_str(&format!("\\x{:02x}", character as u32));
        } else {
            expression.push(character);
        }
    }
    expression
}

fn refused(constraint: &Constraint, e: &anyhow::Error) -> Error {
    let what = match constraint {
        Constraint::JsonSchema(_) | Constraint::JsonObject => "JSON schema",
        Constraint::Regex(_) => "regular expression",
        Constraint::Lark(_) => "grammar",
        Constraint::Choice(_) => "choice",
    };
    Error::new(Code::InvalidRequest, format!("the {what} cannot be used: {}", first_lines(e)))
}

fn broken(e: &anyhow::Error) -> Error {
    Error::new(Code::InvalidRequest, format!("the constraint cannot be followed: {}", first_lines(e)))
        .hint("Make the schema or grammar simpler.")
}

/// A message without the dumps that may follow it.
fn first_lines(e: &anyhow::Error) -> String {
    let text = e.to_string();
    let text = text.split("\n<").next().unwrap_or_default().trim();
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests;
