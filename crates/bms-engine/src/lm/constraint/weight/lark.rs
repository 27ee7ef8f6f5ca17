//! The weight of the terminals of a Lark grammar.
//!
//! Read is only what weighs: which pieces stand in which definition, and how many `&` join them. An estimate that does not
//! depend on how they nest is safe against a grammar written to be read in two ways.

use std::collections::{HashMap, HashSet};

use bms_wire::{Code, Error, Result};

use super::{Scale, at_once, literal, regex, schema};

/// Weight of a terminal of Lark's own library, which a grammar imports.
const IMPORTED: u64 = 32;

/// Checks a grammar's terminals, and the schemas in it.
///
/// # Errors
/// [`Code::TooLarge`] for a terminal that weighs too much, [`Code::InvalidRequest`] when the grammar's JSON cannot be read.
pub(in super::super) fn check(grammar: &str) -> Result<()> {
    let mut scale = Scale::default();
    let (definitions, schemas) = definitions(grammar)?;
    for schema in &schemas {
        schema::weigh(schema, &mut scale)?;
    }
    let mut terminals = Terminals::of(&definitions);
    // A terminal that no rule uses is part of others, or of nothing.
    for rule in definitions.iter().filter(|definition| definition.terminal.is_none()) {
        if rule.has_expression {
            scale.add(terminals.expanded(rule), "an expression in a rule")?;
            continue;
        }
        rule.pieces.iter().try_for_each(|piece| scale.add(*piece, "an expression in a rule"))?;
        for name in &rule.references {
            if terminals.used.insert(name) {
                scale.add(terminals.weight(name), &format!("the terminal {name:?}"))?;
            }
        }
    }
    Ok(())
}

/// One definition: of a terminal, or of a rule or anything else when it has no name.
#[derive(Debug, Default)]
struct Definition<'a> {
    terminal: Option<&'a str>,
    /// What strings, expressions and operators weigh.
    pieces: Vec<u64>,
    references: Vec<&'a str>,
    /// How often something must hold beside something else.
    conjunctions: u64,
    /// Whether a rule negates or joins terminals, which makes them one expression.
    has_expression: bool,
    /// Whether its head has been read.
    in_body: bool,
}

struct Terminals<'a> {
    definitions: HashMap<&'a str, Vec<&'a Definition<'a>>>,
    /// Weights found; a terminal that is being weighed, and so refers to itself, counts as one part: it is refused later.
    known: HashMap<&'a str, u64>,
    /// Those that rules were seen to use.
    used: HashSet<&'a str>,
}

impl<'a> Terminals<'a> {
    fn of(definitions: &'a [Definition<'a>]) -> Terminals<'a> {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for definition in definitions {
            if let Some(name) = definition.terminal {
                by_name.entry(name).or_default().push(definition);
            }
        }
        Terminals { definitions: by_name, known: HashMap::new(), used: HashSet::new() }
    }

    fn weight(&mut self, name: &'a str) -> u64 {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        self.known.insert(name, 1);
        let weight = match self.definitions.get(name).cloned() {
            Some(all) => all.iter().fold(0, |sum: u64, one| sum.saturating_add(self.expanded(one))),
            None => IMPORTED,
        };
        self.known.insert(name, weight);
        weight
    }

    /// The pieces' sum, or what their product can be at most however the `&` divide them: it is largest for equal shares.
    fn expanded(&mut self, definition: &'a Definition<'a>) -> u64 {
        let own = definition.pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(*piece));
        let sum = definition.references.iter().fold(own, |sum, name| sum.saturating_add(self.weight(name)));
        let shares = definition.conjunctions + 1;
        at_once((0..shares.min(64)).map(|_| sum.div_ceil(shares)))
    }
}

/// A grammar's definitions and the JSON schemas in it.
fn definitions(grammar: &str) -> Result<(Vec<Definition<'_>>, Vec<serde_json::Value>)> {
    let mut reader = Reader { grammar, at: 0, definitions: vec![Definition::default()], schemas: Vec::new() };
    while let Some(byte) = reader.rest().bytes().next() {
        reader.token(byte)?;
    }
    Ok((reader.definitions, reader.schemas))
}

struct Reader<'a> {
    grammar: &'a str,
    at: usize,
    /// The last one is being read.
    definitions: Vec<Definition<'a>>,
    schemas: Vec<serde_json::Value>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.grammar[self.at..]
    }

    /// The next bytes for which this holds.
    fn take(&mut self, while_true: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|character| !while_true(character)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn current(&mut self) -> &mut Definition<'a> {
        if self.definitions.is_empty() {
            self.definitions.push(Definition::default());
        }
        let last = self.definitions.len() - 1;
        &mut self.definitions[last]
    }

    fn token(&mut self, first: u8) -> Result<()> {
        match first {
            b'\n' => self.line_end(),
            b'#' => self.comment(),
            b'/' if self.rest().starts_with("//") => self.comment(),
            b'"' => self.string(),
            b'/' => self.regex(),
            b'%' => return self.keyword(),
            b'<' => self.special(),
            b'~' => self.tilde(),
            b':' => self.colon(),
            b'&' => {
                self.at += 1;
                let current = self.current();
                current.conjunctions += 1;
                current.has_expression = true;
            }
            b'_' | b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z' => self.name(first),
            b'*' | b'+' | b'{' | b'[' => {
                self.at += 1;
                self.current().pieces.push(1);
            }
            _ => self.at += self.rest().chars().next().map_or(1, char::len_utf8),
        }
        Ok(())
    }

    /// A definition ends with its line, unless the next begins with `|`.
    fn line_end(&mut self) {
        self.take(|character| matches!(character, '\n' | '\r' | ' ' | '\t'));
        if !self.rest().starts_with('|') {
            self.definitions.push(Definition::default());
        }
    }

    fn comment(&mut self) {
        self.take(|character| character != '\n');
    }

    /// The end of a text between these marks, where a backslash takes the next character's meaning.
    fn quoted(&self, mark: u8) -> usize {
        let bytes = self.rest().as_bytes();
        let mut at = 1;
        while at < bytes.len() && bytes[at] != mark {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        (at + 1).min(bytes.len())
    }

    /// Goes on to this many bytes further, at a character's begin.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let rest = self.rest();
        let end = (bytes..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn string(&mut self) {
        let end = self.quoted(b'"');
        let text = self.skip(end);
        // Without regard to case each character is a class.
        let weight = match self.rest().starts_with('i') {
            true => text.len() as u64,
            false => literal(text.len()),
        };
        self.current().pieces.push(weight);
    }

    fn regex(&mut self) {
        let end = self.quoted(b'/');
        let text = self.skip(end);
        let flags = self.take(|character| "imslux".contains(character));
        let expression = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        let weight = match flags.is_empty() {
            true => regex(expression),
            false => regex(&format!("(?{flags}){expression}")),
        };
        self.current().pieces.push(weight);
    }

    fn keyword(&mut self) -> Result<()> {
        self.at += 1;
        match self.take(|character| character.is_ascii_lowercase()) {
            "json" => {
                let (schema, _) = self.json("%json")?;
                self.schemas.push(schema);
            }
            "regex" => {
                let (_, bytes) = self.json("%regex")?;
                self.current().pieces.push(bytes as u64);
            }
            "llguidance" => drop(self.json("%llguidance")?),
            // A grammar in a grammar begins with a definition, on whatever line.
            "lark" => self.definitions.push(Definition::default()),
            // A statement: names in it are of what is defined elsewhere.
            _ => self.current().in_body = true,
        }
        Ok(())
    }

    /// The JSON value that comes next, and its bytes.
    fn json(&mut self, keyword: &str) -> Result<(serde_json::Value, usize)> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<serde_json::Value>();
        let unreadable =
            |why: &str| Error::new(Code::InvalidRequest, format!("the grammar's {keyword}: {why}"));
        let value = values.next().ok_or_else(|| unreadable("no value follows"))?;
        let value = value.map_err(|e| unreadable(&e.to_string()))?;
        let bytes = values.byte_offset();
        self.at += bytes;
        Ok((value, bytes))
    }

    /// `<…>` names a token of the vocabulary; what is in it means nothing else.
    fn special(&mut self) {
        let inner = self.rest()[1..].find(|character: char| "<> \t\r\n".contains(character));
        match inner {
            Some(end) if self.rest()[1 + end..].starts_with('>') => drop(self.skip(end + 2)),
            _ => self.at += 1,
        }
    }

    /// Before a number it repeats, else it negates.
    fn tilde(&mut self) {
        self.at += 1;
        self.take(|character| matches!(character, ' ' | '\t'));
        let repeats =
            self.rest().starts_with(|character: char| character.is_ascii_digit() || "+-".contains(character));
        let current = self.current();
        current.pieces.push(1);
        current.has_expression |= !repeats;
    }

    fn colon(&mut self) {
        let colons = self.take(|character| character == ':').len();
        if colons != 2 {
            self.current().in_body = true;
        }
    }

    /// The name of a terminal, in capitals, or of a rule.
    fn name(&mut self, first: u8) {
        let marks = if first == b'_' || first.is_ascii_uppercase() { "_" } else { "!?_" };
        let rest = self.rest();
        let start = rest.len() - rest.trim_start_matches(|character| marks.contains(character)).len();
        if rest[start..].starts_with(|character: char| character.is_ascii_uppercase()) {
            // A mark before it is an operator, unless it is the name's own underscore.
            let own = usize::from(rest[..start].ends_with('_'));
            self.at += start - own;
            let name = self.take(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
            let current = self.current();
            match current.in_body || current.terminal.is_some() || !current.pieces.is_empty() {
                true => current.references.push(name),
                false => current.terminal = Some(name),
            }
        } else {
            self.at += start.max(1);
            self.take(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
        }
        self.current().pieces.extend((first == b'?').then_some(1));
    }
}
