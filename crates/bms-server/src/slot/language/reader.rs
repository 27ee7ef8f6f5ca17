//! What a model writes, told apart: thoughts, text for the reader, calls of functions.
//!
//! Models write calls in the form their template taught them; see [`Form`]. Text is passed on as soon as it cannot
//! be the beginning of a mark any more.

use super::call::{CallReader, Told};

/// How a model writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen, and models taught by our own words.
    Hermes,
    /// `{"name": …, "parameters": …}` as the whole answer: Llama 3.
    Llama,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`, `[TOOL_CALLS]name{…}`, `[TOOL_CALLS]name[ARGS]{…}` or
    /// `[TOOL_CALLS]name[CALL_ID]…[ARGS]{…}`: Mistral, one generation after the other.
    Mistral,
}

/// A piece of what a model wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// It thinks.
    Thought(String),
    /// It speaks.
    Text(String),
    /// It calls this function.
    CallBegins(String),
    /// With these arguments; more may follow.
    CallArguments(String),
    /// The call is whole.
    CallEnds,
}

/// Where a model's answer begins: the prompt may have opened something for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nothing is open.
    None,
    /// A thought.
    Thought,
    /// A call.
    Call,
}

/// How one answer is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// How calls are written; `None` when there are no functions, so that nothing is taken for a call.
    pub(super) calls: Option<Form>,
    /// The model thinks between `<think>` and `</think>`.
    pub(super) thinks: bool,
    /// What the prompt opened.
    pub(super) opening: Opening,
}

pub(super) const THINK: &str = "<think>";
pub(super) const THINK_END: &str = "</think>";
pub(super) const CALL: &str = "<tool_call>";
pub(super) const CALL_END: &str = "</tool_call>";
pub(super) const PYTHON_TAG: &str = "<|python_tag|>";
pub(super) const TOOL_CALLS: &str = "[TOOL_CALLS]";
pub(super) const CALL_ID: &str = "[CALL_ID]";
pub(super) const ARGS: &str = "[ARGS]";

/// Marks that tokenisers may have as control tokens, which are no text by themselves.
pub(super) const MARKS: [&str; 8] = [THINK, THINK_END, CALL, CALL_END, PYTHON_TAG, TOOL_CALLS, CALL_ID, ARGS];

/// Tells apart what one answer holds.
#[derive(Debug)]
pub(super) struct Reader {
    form: Option<Form>,
    place: Place,
    /// Text whose meaning is not clear yet.
    held: String,
    /// Blank text that is dropped when a call follows.
    blank: String,
    /// Functions on offer: a bare JSON object is a call only of one of them.
    known: Vec<String>,
    /// A call has ended.
    has_called: bool,
}

#[derive(Debug)]
enum Place {
    /// At the beginning, where a thought may begin.
    Start,
    Thought,
    /// After a thought, before the text.
    AfterThought,
    /// Before any text: here a bare object is a call.
    Fresh,
    Text,
    /// In a call. What was read is kept while it may still turn out to be text.
    Call {
        call: Box<CallReader>,
        read: String,
        told: bool,
        /// A mark or another call came before it, so its beginning is no text even when the rest never comes.
        is_marked: bool,
    },
    /// After `[TOOL_CALLS]`: a list, an object, or a name.
    Listed,
    AfterCall,
}

impl Reader {
    pub(super) fn new(reading: Reading, known: Vec<String>) -> Self {
        let place = match reading.opening {
            Opening::Thought => Place::Thought,
            Opening::Call if reading.calls == Some(Form::Mistral) => Place::Listed,
            Opening::Call => Place::call(),
            Opening::None if reading.thinks => Place::Start,
            Opening::None => Place::Fresh,
        };
        Reader {
            form: reading.calls,
            place,
            held: String::new(),
            blank: String::new(),
            known,
            has_called: false,
        }
    }

    /// Takes more text.
    pub(super) fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        if self.form.is_none() && matches!(self.place, Place::Text | Place::Fresh) && self.held.is_empty() {
            say(pieces, text);
            return;
        }
        self.held.push_str(text);
        while self.step(pieces) {}
    }

    /// The answer is over: what was held back is what it is. Of a call that broke off before its name was known nothing is said.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.place, Place::Text) {
            Place::Thought => think(pieces, &held),
            Place::Call { told: true, .. } => pieces.push(Piece::CallEnds),
            Place::Call { is_marked: true, .. } => {}
            Place::Call { read, .. } => say(pieces, &format!("{}{read}{held}", self.blank)),
            // After a call, what could begin another one would be one.
            Place::AfterCall | Place::Listed | Place::Text | Place::Fresh if self.has_called => {}
            Place::AfterCall => say(pieces, held.trim()),
            Place::Listed => say(pieces, &format!("{TOOL_CALLS}{held}")),
            Place::Start | Place::AfterThought => say(pieces, held.trim_start()),
            Place::Fresh | Place::Text => say(pieces, &format!("{}{held}", self.blank)),
        }
        self.blank.clear();
    }

    /// Reads on; `false` when more text is needed.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        match &mut self.place {
            Place::Start => self.start(),
            Place::Thought => self.thought(pieces),
            Place::AfterThought => self.after_thought(),
            Place::Fresh | Place::Text => self.text(pieces),
            Place::Call { .. } => self.call(pieces),
            Place::Listed => self.listed(pieces),
            Place::AfterCall => self.after_call(),
        }
    }

    fn start(&mut self) -> bool {
        let trimmed = self.held.trim_start();
        if let Some(rest) = trimmed.strip_prefix(THINK) {
            self.held = rest.to_owned();
            self.place = Place::Thought;
            return true;
        }
        if trimmed.is_empty() || THINK.starts_with(trimmed) {
            return false;
        }
        self.place = Place::Fresh;
        true
    }

    fn thought(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if let Some(at) = self.held.find(THINK_END) {
            think(pieces, &self.held[..at]);
            self.held.drain(..at + THINK_END.len());
            self.place = Place::AfterThought;
            return true;
        }
        let clear = self.held.len() - beginning_of(&self.held, THINK_END);
        let rest = self.held.split_off(clear);
        think(pieces, &std::mem::replace(&mut self.held, rest));
        false
    }

    fn after_thought(&mut self) -> bool {
        let trimmed = self.held.trim_start();
        if trimmed.is_empty() {
            self.held.clear();
            return false;
        }
        self.held = trimmed.to_owned();
        self.place = Place::Fresh;
        true
    }

    fn text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some(form) = self.form else {
            say(pieces, &std::mem::take(&mut self.held));
            self.place = Place::Text;
            return false;
        };
        if form == Form::Llama && matches!(self.place, Place::Fresh) {
            return self.bare_object();
        }
        let mark = match form {
            Form::Hermes => CALL,
            Form::Llama => PYTHON_TAG,
            Form::Mistral => TOOL_CALLS,
        };
        if let Some(at) = self.held.find(mark) {
            self.say_before_call(at, pieces);
            self.held.drain(..at + mark.len());
            self.place = if form == Form::Mistral { Place::Listed } else { Place::call() };
            return true;
        }
        let clear = self.held.len() - beginning_of(&self.held, mark);
        self.say_clear(clear, pieces);
        false
    }

    /// A Llama's call is the whole answer, or stands behind a mark.
    fn bare_object(&mut self) -> bool {
        let trimmed = self.held.trim_start();
        if let Some(rest) = trimmed.strip_prefix(PYTHON_TAG) {
            self.held = rest.to_owned();
            self.place = Place::call();
            return true;
        }
        if trimmed.is_empty() || PYTHON_TAG.starts_with(trimmed) {
            return false;
        }
        self.place = if trimmed.starts_with('{') { Place::call_of(false) } else { Place::Text };
        true
    }

    /// Says text that came before a call, without the blanks between the two.
    fn say_before_call(&mut self, end: usize, pieces: &mut Vec<Piece>) {
        let text = format!("{}{}", std::mem::take(&mut self.blank), &self.held[..end]);
        say(pieces, text.trim_end());
    }

    /// Says text that is clear; its blanks at the end wait for what follows.
    fn say_clear(&mut self, clear: usize, pieces: &mut Vec<Piece>) {
        let rest = self.held.split_off(clear);
        let clear = std::mem::replace(&mut self.held, rest);
        let solid = clear.trim_end().len();
        if solid == 0 {
            self.blank.push_str(&clear);
            return;
        }
        let blank = std::mem::replace(&mut self.blank, clear[solid..].to_owned());
        say(pieces, &format!("{blank}{}", &clear[..solid]));
        self.place = Place::Text;
    }

    fn call(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let held = std::mem::take(&mut self.held);
        let Place::Call { call, read, told, .. } = &mut self.place else { return false };
        let mut news = Vec::new();
        for (at, c) in held.char_indices() {
            if call.push(c, &mut news).is_err() {
                let text = format!("{read}{}", &held[at..]);
                return self.no_call(&text, pieces);
            }
            if !*told {
                read.push(c);
            }
            let name = call.name().unwrap_or_default();
            if self.form == Some(Form::Llama)
                && !news.is_empty()
                && !self.known.iter().any(|known| known == name)
            {
                let text = format!("{read}{}", &held[at + c.len_utf8()..]);
                return self.no_call(&text, pieces);
            }
            for one in news.drain(..) {
                *told = true;
                match one {
                    Told::Begins(name) => pieces.push(Piece::CallBegins(name)),
                    Told::Arguments(text) => argue(pieces, text),
                    Told::Ends => {
                        pieces.push(Piece::CallEnds);
                        self.has_called = true;
                        self.held = held[at + c.len_utf8()..].to_owned();
                        self.place = Place::AfterCall;
                        return true;
                    }
                }
            }
        }
        false
    }

    /// What looked like a call is text, or the rest of a call that broke off.
    fn no_call(&mut self, text: &str, pieces: &mut Vec<Piece>) -> bool {
        if matches!(self.place, Place::Call { told: true, .. }) {
            pieces.push(Piece::CallEnds);
        }
        say(pieces, &format!("{}{text}", std::mem::take(&mut self.blank)));
        self.place = Place::Text;
        false
    }

    fn listed(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let trimmed = self.held.trim_start();
        let Some(first) = trimmed.chars().next() else { return false };
        match first {
            '[' if ARGS.starts_with(trimmed) && trimmed.len() > 1 => return false,
            '[' => {
                self.held = trimmed[1..].to_owned();
                self.place = Place::call();
            }
            '{' => {
                self.held = trimmed.to_owned();
                self.place = Place::call();
            }
            _ => {
                let Some((name, rest)) = named(trimmed) else { return false };
                let name = name.to_owned();
                self.held = rest.to_owned();
                let call = Box::new(CallReader::of_arguments(&name));
                pieces.push(Piece::CallBegins(name));
                self.place = Place::Call { call, read: String::new(), told: true, is_marked: true };
            }
        }
        true
    }

    /// Skips what stands between two calls.
    fn after_call(&mut self) -> bool {
        let between = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ']');
        let trimmed = match self.form {
            Some(Form::Hermes) => self.held.trim_start(),
            _ => self.held.trim_start_matches(between),
        };
        for end in [CALL_END, PYTHON_TAG, TOOL_CALLS] {
            if let Some(rest) = trimmed.strip_prefix(end) {
                self.place = match end {
                    TOOL_CALLS => Place::Listed,
                    PYTHON_TAG => Place::call(),
                    _ => Place::Text,
                };
                self.held = rest.to_owned();
                return true;
            }
        }
        if trimmed.is_empty() || [CALL_END, PYTHON_TAG, TOOL_CALLS].iter().any(|end| end.starts_with(trimmed))
        {
            self.held = trimmed.to_owned();
            return false;
        }
        self.place = if trimmed.starts_with('{') && self.form != Some(Form::Hermes) {
            Place::call()
        } else {
            Place::Text
        };
        self.held = trimmed.to_owned();
        true
    }
}

impl Place {
    fn call() -> Place {
        Place::call_of(true)
    }

    fn call_of(is_marked: bool) -> Place {
        Place::Call { call: Box::new(CallReader::of_object()), read: String::new(), told: false, is_marked }
    }
}

/// The name of a function, and the text from its arguments on; `None` while more of it has to come. The identifier a
/// model gives a call is dropped: calls are told apart by those they are answered with.
fn named(text: &str) -> Option<(&str, &str)> {
    let at = text.find(['{', '['])?;
    let (name, mut rest) = (text[..at].trim(), &text[at..]);
    if let Some(identified) = rest.strip_prefix(CALL_ID) {
        rest = &identified[identified.find(['{', '['])?..];
    }
    match rest.strip_prefix(ARGS) {
        Some(rest) => Some((name, rest)),
        None if ARGS.starts_with(rest) || CALL_ID.starts_with(rest) => None,
        None => Some((name, rest)),
    }
}

/// The length of the longest end of `text` with which `mark` begins.
fn beginning_of(text: &str, mark: &str) -> usize {
    let longest = text.len().min(mark.len() - 1);
    (1..=longest).rev().find(|length| text.as_bytes().ends_with(&mark.as_bytes()[..*length])).unwrap_or(0)
}

fn say(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(said)) => said.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn think(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Thought(thought)) => thought.push_str(text),
        _ => pieces.push(Piece::Thought(text.to_owned())),
    }
}

fn argue(pieces: &mut Vec<Piece>, text: String) {
    match pieces.last_mut() {
        Some(Piece::CallArguments(arguments)) => arguments.push_str(&text),
        _ => pieces.push(Piece::CallArguments(text)),
    }
}

#[cfg(test)]
mod tests;
