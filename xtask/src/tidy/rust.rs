//! Just enough of Rust's lexer to tell code from comments and literals, and of its grammar to find functions.

/// A Rust file, taken apart.
pub(crate) struct Rust {
    /// The text with comments and the insides of literals blanked; lines and columns are kept.
    pub(crate) code: String,
    pub(crate) comments: Vec<Comment>,
}

/// One comment; a block comment counts at its first line.
pub(crate) struct Comment {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Without the slashes.
    pub(crate) text: String,
    /// Whether it is documentation (`///`, `//!`, `/** */`, `/*! */`).
    pub(crate) doc: bool,
    /// Whether nothing but white space stands before it on its line.
    pub(crate) alone: bool,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where `fn` stands, counted from 1.
    pub(crate) line: usize,
    /// From `fn` to the closing brace, both included.
    pub(crate) lines: usize,
}

/// A word in the code: an identifier or keyword.
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
    /// What follows the word, white space skipped.
    pub(crate) rest: &'a str,
}

impl Rust {
    pub(crate) fn scan(text: &str) -> Rust {
        let mut scanner =
            Scanner { text: text.chars().collect(), at: 0, line: 1, code: String::new(), comments: vec![] };
        scanner.run();
        Rust { code: scanner.code, comments: scanner.comments }
    }

    /// Every word of the code, in order.
    pub(crate) fn words(&self) -> Vec<Word<'_>> {
        let mut words = Vec::new();
        let (mut line, mut start) = (1, None);
        for (at, c) in self.code.char_indices().chain([(self.code.len(), '\n')]) {
            match (is_word(c), start) {
                (true, None) => start = Some(at),
                (false, Some(from)) => {
                    words.push(Word { text: &self.code[from..at], line, rest: self.code[at..].trim_start() });
                    start = None;
                }
                _ => {}
            }
            line += usize::from(c == '\n');
        }
        words
    }

    /// Every attribute `#[…]` or `#![…]`: line and what stands between the brackets.
    pub(crate) fn attributes(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices('#') {
            let rest = self.code[at + 1..].trim_start_matches('!');
            if let Some(inside) =
                rest.strip_prefix('[').and_then(|rest| Some(&rest[..closing(rest, '[', ']')?]))
            {
                found.push((1 + self.code[..at].matches('\n').count(), inside));
            }
        }
        found
    }

    /// Every function that has a body, nested ones too.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for word in self.words().iter().filter(|word| word.text == "fn") {
            let name: String = word.rest.chars().take_while(|&c| is_word(c)).collect();
            let Some(open) = body(word.rest).filter(|_| !name.is_empty()) else { continue };
            let Some(length) = closing(&word.rest[open + 1..], '{', '}') else { continue };
            let gap = self.line_at(word.rest) - word.line;
            let lines = 1 + gap + word.rest[..open + 1 + length].matches('\n').count();
            found.push(Function { name, line: word.line, lines });
        }
        found
    }

    /// The line on which a tail of the code starts.
    fn line_at(&self, tail: &str) -> usize {
        1 + self.code[..self.code.len() - tail.len()].matches('\n').count()
    }
}

/// Where a function's body opens in what follows `fn`; `None` for a declaration without one.
fn body(rest: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.checked_sub(1)?,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the bracket closes that was opened just before `text`.
fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 1usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    line: usize,
    code: String,
    comments: Vec<Comment>,
}

impl Scanner {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            let in_word = self.at > 0 && is_word(self.text[self.at - 1]);
            match (c, self.peek(1)) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r' | 'b' | 'c', _) if !in_word && self.raw_hashes().is_some() => self.raw_string(),
                ('\'', _) => self.quote(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// Takes one character over into the code.
    fn keep(&mut self) {
        if let Some(c) = self.peek(0) {
            self.line += usize::from(c == '\n');
            self.code.push(c);
            self.at += 1;
        }
    }

    /// Takes one character out of the code; line ends stay.
    fn blank(&mut self) {
        if let Some(c) = self.peek(0) {
            self.line += usize::from(c == '\n');
            self.code.push(if c == '\n' { '\n' } else { ' ' });
            self.at += 1;
        }
    }

    fn comment(&mut self, line: usize, alone: bool, from: usize, doc: bool) {
        let text: String = self.text[from..self.at].iter().collect();
        self.comments.push(Comment { line, text, doc, alone });
    }

    fn alone(&self) -> bool {
        self.code.rsplit('\n').next().is_none_or(|before| before.trim().is_empty())
    }

    fn line_comment(&mut self) {
        let (line, from, alone) = (self.line, self.at + 2, self.alone());
        let doc = self.peek(2) == Some('!') || (self.peek(2) == Some('/') && self.peek(3) != Some('/'));
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.blank();
        }
        self.comment(line, alone, from + usize::from(doc), doc);
    }

    fn block_comment(&mut self) {
        let (line, from, alone) = (self.line, self.at + 2, self.alone());
        let doc = self.peek(2) == Some('!') || (self.peek(2) == Some('*') && self.peek(3) != Some('*'));
        let mut depth = 0usize;
        while let Some(c) = self.peek(0) {
            let pair = (c, self.peek(1));
            if pair == ('/', Some('*')) {
                depth += 1;
                self.blank();
            } else if pair == ('*', Some('/')) {
                depth -= 1;
                self.blank();
            }
            self.blank();
            if depth == 0 {
                break;
            }
        }
        self.comment(line, alone, from, doc);
    }

    fn string(&mut self) {
        self.keep();
        while let Some(c) = self.peek(0) {
            match c {
                '"' => return self.keep(),
                '\\' => {
                    self.blank();
                    self.blank();
                }
                _ => self.blank(),
            }
        }
    }

    /// The number of `#` of a raw string that starts here.
    fn raw_hashes(&self) -> Option<usize> {
        let prefix = match (self.peek(0), self.peek(1)) {
            (Some('b' | 'c'), Some('r')) => 2,
            (Some('r'), _) => 1,
            _ => return None,
        };
        let hashes = (0..).take_while(|&i| self.peek(prefix + i) == Some('#')).count();
        (self.peek(prefix + hashes) == Some('"')).then_some(hashes)
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or_default();
        while self.peek(0) != Some('"') {
            self.keep();
        }
        self.keep();
        while let Some(c) = self.peek(0) {
            if c == '"' && (0..hashes).all(|i| self.peek(1 + i) == Some('#')) {
                return (0..=hashes).for_each(|_| self.keep());
            }
            self.blank();
        }
    }

    /// A character literal, or else a lifetime or label.
    fn quote(&mut self) {
        self.keep();
        match (self.peek(0), self.peek(1)) {
            (Some('\\'), _) => {
                self.blank();
                self.blank();
                while self.peek(0).is_some_and(|c| c != '\'' && c != '\n') {
                    self.blank();
                }
                self.keep();
            }
            (Some(_), Some('\'')) => {
                self.blank();
                self.keep();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
