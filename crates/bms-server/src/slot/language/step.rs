//! What the engine says, answer by answer, in the terms the protocols share.

use bms_engine::lm::{Event, FinishReason, TokenOut};
use bms_wire::generation::Tokens;
use bms_wire::openai::{TokenLogprob, TopLogprob};

use super::Language;
use super::reader::{Piece, Reader, Reading};

/// Something about the answer `index`: the number of its prompt times the answers a prompt gets, plus its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) index: usize,
    pub(super) news: News,
}

/// What is new.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// The prompt, which the answer begins with.
    Prompt { text: String, tokens: Vec<Scored> },
    /// Tokens and how likely they were; the pieces that follow are their text.
    Scored(Vec<Scored>),
    /// A piece of what the model wrote.
    Piece(Piece),
    /// The answer has ended.
    Done { reason: FinishReason, called: bool, tokens: Tokens },
}

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scored {
    pub(super) bytes: Vec<u8>,
    pub(super) logprob: Option<f32>,
    pub(super) top: Vec<(Vec<u8>, f32)>,
}

impl Scored {
    /// As chat protocols show it.
    pub(super) fn for_chat(&self) -> TokenLogprob {
        TokenLogprob {
            token: text_of(&self.bytes),
            logprob: self.logprob.unwrap_or(0.0),
            bytes: self.bytes.clone(),
            top_logprobs: self.top.iter().map(|(bytes, logprob)| top(bytes, *logprob)).collect(),
        }
    }
}

fn top(bytes: &[u8], logprob: f32) -> TopLogprob {
    TopLogprob { token: text_of(bytes), logprob, bytes: bytes.to_vec() }
}

/// The text of a token's bytes.
pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Follows the answers to one or several prompts.
#[derive(Debug)]
pub(super) struct Steps {
    /// Answers a prompt gets.
    n: usize,
    wants_scores: bool,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    reader: Reader,
    called: bool,
    /// Tokens spent on thoughts.
    thought: usize,
}

impl Steps {
    /// Of `prompts` prompts with `n` answers each, all read the same way.
    pub(super) fn new(
        prompts: usize,
        n: usize,
        wants_scores: bool,
        reading: Reading,
        functions: &[String],
    ) -> Self {
        let answer =
            || Answer { reader: Reader::new(reading, functions.to_vec()), called: false, thought: 0 };
        Steps { n, wants_scores, answers: (0..prompts * n).map(|_| answer()).collect() }
    }

    /// How many answers there are.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Tokens the answer spent on thoughts.
    pub(super) fn thought_tokens(&self, index: usize) -> usize {
        self.answers.get(index).map_or(0, |answer| answer.thought)
    }

    /// What an event of the prompt `number` means. A failure is nothing here.
    pub(super) fn read(&mut self, language: &Language, number: usize, event: Event, steps: &mut Vec<Step>) {
        match event {
            Event::Failed(_) => {}
            Event::Prompt { text, tokens } => {
                let tokens: Vec<Scored> = tokens.into_iter().map(|token| scored(language, token)).collect();
                for index in number * self.n..(number + 1) * self.n {
                    let news = News::Prompt { text: text.clone(), tokens: tokens.clone() };
                    steps.push(Step { index, news });
                }
            }
            Event::Tokens { index, text, tokens } => {
                self.tokens(language, number * self.n + index, &text, tokens, steps);
            }
            Event::Done { index, reason, usage } => {
                let index = number * self.n + index;
                let Some(answer) = self.answers.get_mut(index) else { return };
                let mut pieces = Vec::new();
                answer.reader.finish(&mut pieces);
                answer.note(&pieces, 0);
                steps.extend(pieces.into_iter().map(|piece| Step { index, news: News::Piece(piece) }));
                let tokens = Tokens {
                    prompt: usage.prompt_tokens,
                    cached: usage.cached_tokens,
                    completion: usage.completion_tokens,
                };
                steps.push(Step { index, news: News::Done { reason, called: answer.called, tokens } });
            }
        }
    }

    fn tokens(
        &mut self,
        language: &Language,
        index: usize,
        text: &str,
        tokens: Vec<TokenOut>,
        steps: &mut Vec<Step>,
    ) {
        let Some(answer) = self.answers.get_mut(index) else { return };
        // Marks that are control tokens are no text; the reader needs them as text.
        let mark =
            |token: &TokenOut| language.marks.iter().find(|(id, _)| *id == token.id).map(|(_, mark)| *mark);
        let before: String =
            tokens.iter().take_while(|token| mark(token).is_some()).filter_map(mark).collect();
        let after: String =
            tokens.iter().skip_while(|token| mark(token).is_some()).filter_map(mark).collect();
        let count = tokens.len();
        if self.wants_scores {
            // The sign that ends an answer is no part of it.
            let scores = tokens.into_iter().filter(|token| !language.script.is_control(token.id));
            let scores: Vec<Scored> = scores.map(|token| scored(language, token)).collect();
            if !scores.is_empty() {
                steps.push(Step { index, news: News::Scored(scores) });
            }
        }
        let mut pieces = Vec::new();
        for part in [before.as_str(), text, after.as_str()] {
            if !part.is_empty() {
                answer.reader.push(part, &mut pieces);
            }
        }
        answer.note(&pieces, count);
        steps.extend(pieces.into_iter().map(|piece| Step { index, news: News::Piece(piece) }));
    }
}

impl Answer {
    fn note(&mut self, pieces: &[Piece], tokens: usize) {
        self.called |= pieces.iter().any(|piece| matches!(piece, Piece::CallBegins(_)));
        if pieces.iter().any(|piece| matches!(piece, Piece::Thought(_))) {
            self.thought += tokens;
        }
    }
}

fn scored(language: &Language, token: TokenOut) -> Scored {
    Scored {
        top: token.top.iter().map(|(id, logprob)| (language.script.bytes(*id), *logprob)).collect(),
        bytes: token.bytes,
        logprob: token.logprob,
    }
}
