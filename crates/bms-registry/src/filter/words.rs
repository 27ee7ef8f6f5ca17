//! The words of a filter.

use std::fmt;

use bms_wire::{Code, Error, Result};

use super::Operator;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A name, with what stands before its first dot; also a keyword.
    Name {
        kind: Option<String>,
        key: String,
    },
    Text(String),
    Number(f64),
    Operator(Operator),
    Open,
    Close,
    Comma,
}

impl Word {
    /// Whether it is this keyword, in whatever case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Name { kind: None, key } if key.eq_ignore_ascii_case(keyword))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| text.chars().take(40).collect::<String>();
        match self {
            Word::Name { kind: Some(kind), key } => write!(f, "`{}.{}`", short(kind), short(key)),
            Word::Name { kind: None, key } => write!(f, "`{}`", short(key)),
            Word::Text(text) => write!(f, "the text {:?}", short(text)),
            Word::Number(number) => write!(f, "the number {number}"),
            Word::Operator(_) => f.write_str("an operator"),
            Word::Open => f.write_str("`(`"),
            Word::Close => f.write_str("`)`"),
            Word::Comma => f.write_str("`,`"),
        }
    }
}

/// All words, each with the character at which it begins, counted from 1.
pub(super) fn words(text: &str) -> Result<Vec<(usize, Word)>> {
    let mut reader = Characters { all: text.chars().collect(), at: 0 };
    let mut words = Vec::new();
    loop {
        while reader.peek().is_some_and(char::is_whitespace) {
            reader.at += 1;
        }
        let begin = reader.at + 1;
        match reader.peek() {
            None => return Ok(words),
            Some(c) => words.push((begin, reader.word(c)?)),
        }
    }
}

struct Characters {
    all: Vec<char>,
    at: usize,
}

impl Characters {
    fn peek(&self) -> Option<char> {
        self.all.get(self.at).copied()
    }

    fn word(&mut self, first: char) -> Result<Word> {
        match first {
            '\'' | '"' => Ok(Word::Text(self.quoted(first)?)),
            '`' => Ok(Word::Name { kind: None, key: self.quoted(first)? }),
            '(' => Ok(self.sign(Word::Open, 1)),
            ')' => Ok(self.sign(Word::Close, 1)),
            ',' => Ok(self.sign(Word::Comma, 1)),
            '=' | '!' | '<' | '>' => self.operator(first),
            '0'..='9' | '+' | '-' | '.' => self.number(),
            c if c.is_alphabetic() || c == '_' => self.name(),
            other => Err(Error::new(
                Code::InvalidRequest,
                format!("{other:?} at character {} of the filter means nothing", self.at + 1),
            )),
        }
    }

    fn sign(&mut self, word: Word, length: usize) -> Word {
        self.at += length;
        word
    }

    fn operator(&mut self, first: char) -> Result<Word> {
        let then_equal = self.all.get(self.at + 1) == Some(&'=');
        let (operator, length) = match (first, then_equal) {
            ('=', true) => (Operator::Eq, 2),
            ('=', false) => (Operator::Eq, 1),
            ('!', true) => (Operator::Ne, 2),
            ('<', true) => (Operator::Le, 2),
            ('<', false) if self.all.get(self.at + 1) == Some(&'>') => (Operator::Ne, 2),
            ('<', false) => (Operator::Lt, 1),
            ('>', true) => (Operator::Ge, 2),
            ('>', false) => (Operator::Gt, 1),
            _ => {
                let what = format!("`!` at character {} of the filter is no operator", self.at + 1);
                return Err(Error::new(Code::InvalidRequest, what).hint("Write `!=` for not equal."));
            }
        };
        Ok(self.sign(Word::Operator(operator), length))
    }

    /// Text up to the closing quote; two quotes stand for one.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let begin = self.at + 1;
        let mut text = String::new();
        self.at += 1;
        while let Some(c) = self.peek() {
            self.at += 1;
            if c != quote {
                text.push(c);
            } else if self.peek() == Some(quote) {
                text.push(quote);
                self.at += 1;
            } else {
                return Ok(text);
            }
        }
        let what = format!("the quote at character {begin} of the filter is never closed");
        Err(Error::new(Code::InvalidRequest, what))
    }

    fn number(&mut self) -> Result<Word> {
        let begin = self.at;
        let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
        while self.peek().is_some_and(belongs) {
            self.at += 1;
        }
        let text: String = self.all[begin..self.at].iter().collect();
        match text.parse::<f64>() {
            // Words such as `inf` and `nan` begin with a letter and do not come here, but `-nan` does.
            Ok(number) if number.is_finite() => Ok(Word::Number(number)),
            _ => {
                let what = format!("`{text}` at character {} of the filter is not a number", begin + 1);
                Err(Error::new(Code::InvalidRequest, what).hint("Put text in quotes."))
            }
        }
    }

    /// A name; behind its first dot stands a key, in quotes when it has other characters than words have.
    fn name(&mut self) -> Result<Word> {
        let belongs = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ':' | '.' | '@');
        let mut first = String::new();
        while let Some(c) = self.peek().filter(|c| belongs(*c) && *c != '.') {
            first.push(c);
            self.at += 1;
        }
        if self.peek() != Some('.') {
            return Ok(Word::Name { kind: None, key: first });
        }
        self.at += 1;
        let key = match self.peek() {
            Some(quote @ ('`' | '"')) => self.quoted(quote)?,
            _ => {
                let mut key = String::new();
                while let Some(c) = self.peek().filter(|c| belongs(*c)) {
                    key.push(c);
                    self.at += 1;
                }
                key
            }
        };
        if key.is_empty() {
            let what = format!("`{first}.` in the filter lacks a name behind the dot");
            return Err(Error::new(Code::InvalidRequest, what));
        }
        Ok(Word::Name { kind: Some(first), key })
    }
}
