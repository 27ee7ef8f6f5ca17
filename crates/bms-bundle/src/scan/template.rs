//! Chat templates: Jinja programs that run for every request.
//!
//! The tags are split into tokens and compared with what chat templates need: plain attributes,
//! known statements, known filters. Reaching Python through them takes an underscored name in some
//! disguise, a filter or an object that is not on the lists.

mod flow;
mod lexer;

use crate::Severity;
use crate::scan::context::{Context, quote};
use lexer::{Tag, Token};

/// Statements of templates that neither read files nor load others.
const STATEMENTS: [&str; 25] = [
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "endfor",
    "set",
    "endset",
    "macro",
    "endmacro",
    "raw",
    "endraw",
    "filter",
    "endfilter",
    "call",
    "endcall",
    "with",
    "endwith",
    "break",
    "continue",
    "do",
    "generation",
    "endgeneration",
    "block",
    "endblock",
];
/// Filters that look at values only.
const FILTERS: [&str; 53] = [
    "abs",
    "batch",
    "bool",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "from_json",
    "fromjson",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "keys",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "wordcount",
];
/// Objects of every template that lead to Python's globals.
const OBJECTS: [&str; 6] = ["cycler", "get_flashed_messages", "joiner", "lipsum", "self", "url_for"];
/// Attributes without underscores in front that lead to frames and code.
const ATTRIBUTES: [&str; 9] = [
    "f_builtins",
    "f_globals",
    "f_locals",
    "func_code",
    "func_globals",
    "gi_code",
    "gi_frame",
    "mro",
    "tb_frame",
];
/// Pieces a hidden name is put together from.
const PIECES_MAX: usize = 64;
/// Turns of nested loops with constant bounds.
const TURNS_MAX: u64 = 10_000_000;

/// Scans the template stored under `key`.
pub(crate) fn scan(key: &str, source: &str, context: &mut Context) {
    let place = format!("template {key}");
    let mut turns: Vec<u64> = Vec::new();
    let tags = lexer::tags(source);
    let known = flow::defined(&tags);
    if let Some(message) = flow::injection(source, &tags) {
        context.attack("template-injection", Severity::Medium, &place, message);
    }
    for tag in tags {
        let flow = flow::judge(&tag.tokens, &known);
        if let Some((severity, message)) = judge(&tag).or(flow) {
            context.attack("template-code", severity, &place, message);
        }
        if let Some(message) = work(&tag, &mut turns) {
            context.attack("template-bomb", Severity::Medium, &place, message);
        }
    }
}

/// The worst thing in one tag.
fn judge(tag: &Tag) -> Option<(Severity, String)> {
    let tokens = &tag.tokens;
    let statement = match (tag.statement, tokens.first()) {
        (true, Some(Token::Name(name))) if !STATEMENTS.contains(&name.as_str()) => {
            let severity = match name.as_str() {
                "include" | "import" | "from" | "extends" => Severity::High,
                _ => Severity::Medium,
            };
            Some((severity, format!("the template uses the statement {}", quote(name))))
        }
        _ => None,
    };
    (0..tokens.len())
        .filter_map(|at| token(tokens, at))
        .chain(statement)
        .max_by_key(|(severity, _)| *severity)
}

/// Judges the token at `at` in its surroundings.
fn token(tokens: &[Token], at: usize) -> Option<(Severity, String)> {
    let before = at.checked_sub(1).and_then(|at| tokens.get(at));
    let after = tokens.get(at + 1);
    match &tokens[at] {
        Token::Name(name) if before == Some(&Token::Operator('.')) => attribute(tokens, at, name),
        Token::Name(name) if before == Some(&Token::Operator('|')) => filter(name),
        Token::Name(name) if name.starts_with("__") => {
            Some((Severity::Critical, format!("the template names {}", quote(name))))
        }
        Token::Name(name) if OBJECTS.contains(&name.as_str()) => match after {
            Some(Token::Operator('.' | '[' | '|')) => {
                Some((Severity::High, format!("the template reaches into {}", quote(name))))
            }
            _ => None,
        },
        Token::Text(text) => literal(tokens, at, text),
        _ => None,
    }
}

fn attribute(tokens: &[Token], at: usize, name: &str) -> Option<(Severity, String)> {
    if name.starts_with('_') || ATTRIBUTES.contains(&name) {
        return Some((Severity::Critical, format!("the template reads the attribute {}", quote(name))));
    }
    // `str.format` reads attributes named in the text; a constant without any is harmless.
    if name == "format" || name == "format_map" {
        let constant = match at.checked_sub(2).map(|at| &tokens[at]) {
            Some(Token::Text(text)) => !text.contains(['.', '[', '!']),
            _ => false,
        };
        if !constant {
            return Some((Severity::High, "the template formats a text that can name attributes".to_owned()));
        }
    }
    None
}

fn filter(name: &str) -> Option<(Severity, String)> {
    match name {
        "attr" => Some((Severity::Critical, "the template reads an attribute by a computed name".to_owned())),
        _ if FILTERS.contains(&name) => None,
        _ => Some((Severity::Medium, format!("the template uses the filter {}", quote(name)))),
    }
}

/// Judges a text constant: a whole hidden name, or a piece of one.
fn literal(tokens: &[Token], at: usize, text: &str) -> Option<(Severity, String)> {
    let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let joined = concatenated(tokens, at);
    let hidden = |text: &str| word(text) && (text.starts_with('_') || text.ends_with("__"));
    if hidden(text) || hidden(&joined) && joined.contains("__") {
        return Some((Severity::Critical, format!("the template spells the name {}", quote(&joined))));
    }
    let before = at.checked_sub(1).and_then(|at| tokens.get(at));
    if text == "attr" && before == Some(&Token::Operator('(')) {
        return Some((Severity::Critical, "the template reads an attribute by a computed name".to_owned()));
    }
    if text.contains("%c") {
        return Some((Severity::High, "the template builds a text from character codes".to_owned()));
    }
    None
}

/// The constant at `at` with the constants that are added to it, as many as a hidden name has.
fn concatenated(tokens: &[Token], mut at: usize) -> String {
    let mut joined = String::new();
    for _ in 0..PIECES_MAX {
        let Some(Token::Text(text)) = tokens.get(at) else { break };
        joined.push_str(text);
        match tokens.get(at + 1) {
            Some(Token::Operator('~' | '+' | ',')) => at += 2,
            Some(Token::Text(_)) => at += 1,
            _ => break,
        }
    }
    joined
}

/// Counts the turns of nested loops with constant bounds, and finds constants only bombs need.
fn work(tag: &Tag, turns: &mut Vec<u64>) -> Option<String> {
    let tokens = &tag.tokens;
    let largest =
        tokens.iter().filter_map(|token| if let Token::Number(n) = token { Some(*n) } else { None }).max();
    if Some(TURNS_MAX * 10) < largest
        || tokens.windows(2).any(|two| two == [Token::Operator('*'), Token::Operator('*')])
    {
        return Some("the template computes with numbers that only waste memory".to_owned());
    }
    match (tag.statement, tokens.first()) {
        (true, Some(Token::Name(name))) if name == "for" => {
            let bounded = tokens.iter().any(|token| *token == Token::Name("range".to_owned()));
            turns.push(if bounded { largest.unwrap_or(1).max(1) } else { 1 });
            let total = turns.iter().fold(1_u64, |total, turns| total.saturating_mul(*turns));
            (TURNS_MAX < total).then(|| format!("the template loops {total} times"))
        }
        (true, Some(Token::Name(name))) if name == "endfor" => {
            turns.pop();
            None
        }
        _ => None,
    }
}
