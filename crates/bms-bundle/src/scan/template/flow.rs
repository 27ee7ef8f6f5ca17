//! What a template calls, and how it comes to the names it uses.

use std::collections::HashSet;

use crate::Severity;
use crate::scan::context::quote;

use super::lexer::{Tag, Token};

/// Functions that template engines give to chat templates.
const FUNCTIONS: [&str; 12] = [
    "caller",
    "cycler",
    "dict",
    "joiner",
    "loop",
    "namespace",
    "raise_exception",
    "range",
    "strftime_now",
    "super",
    "tojson",
    "debug",
];
/// Methods of texts, lists and dictionaries that only look or build.
const METHODS: [&str; 47] = [
    "append",
    "capitalize",
    "casefold",
    "center",
    "copy",
    "count",
    "cycle",
    "endswith",
    "extend",
    "find",
    "format",
    "format_map",
    "get",
    "index",
    "insert",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "items",
    "join",
    "keys",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "pop",
    "removeprefix",
    "removesuffix",
    "replace",
    "reverse",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "setdefault",
    "split",
    "splitlines",
    "startswith",
    "strip",
];
/// More of them.
const MORE_METHODS: [&str; 10] =
    ["changed", "sort", "strftime", "swapcase", "title", "update", "upper", "values", "zfill", "remove"];
/// Filters whose result is no text: its name as a text has underscores in it, which is how they are got at.
const GENERATORS: [&str; 8] =
    ["batch", "groupby", "map", "reject", "rejectattr", "select", "selectattr", "slice"];

/// Tokens of one pair of brackets that are looked at.
const MEMBER_TOKENS_MAX: usize = 256;

/// Names the template gives itself: macros, and what it sets.
pub(super) fn defined(tags: &[Tag]) -> HashSet<String> {
    let mut names = HashSet::new();
    for tag in tags.iter().filter(|tag| tag.statement) {
        let [Token::Name(statement), rest @ ..] = &tag.tokens[..] else { continue };
        if matches!(&**statement, "macro" | "set" | "for" | "call" | "with" | "block") {
            let words = rest.iter().filter_map(|token| match token {
                Token::Name(name) => Some(name.clone()),
                _ => None,
            });
            names.extend(words);
        }
    }
    names
}

/// Judges the calls and subscripts of one tag.
pub(super) fn judge(tokens: &[Token], known: &HashSet<String>) -> Option<(Severity, String)> {
    (0..tokens.len())
        .filter_map(|at| {
            call(tokens, at, known).or_else(|| subscript(tokens, at)).or_else(|| generator(tokens, at))
        })
        .max_by_key(|(severity, _)| *severity)
}

/// A call of something unknown.
fn call(tokens: &[Token], at: usize, known: &HashSet<String>) -> Option<(Severity, String)> {
    let (Token::Name(name), Some(Token::Operator('('))) = (&tokens[at], tokens.get(at + 1)) else {
        return None;
    };
    let allowed = match at.checked_sub(1).map(|at| &tokens[at]) {
        Some(Token::Operator('.')) => {
            METHODS.contains(&&**name) || MORE_METHODS.contains(&&**name) || known.contains(name)
        }
        // Filters and tests have lists of their own; words of the language stand before brackets, too.
        Some(Token::Operator('|')) => true,
        Some(Token::Name(word)) if matches!(&**word, "is" | "not" | "filter" | "macro" | "block") => true,
        _ => {
            matches!(
                &**name,
                "if" | "elif"
                    | "else"
                    | "in"
                    | "not"
                    | "and"
                    | "or"
                    | "is"
                    | "set"
                    | "for"
                    | "call"
                    | "do"
                    | "with"
            ) || FUNCTIONS.contains(&&**name)
                || known.contains(name)
        }
    };
    (!allowed).then(|| {
        (Severity::Medium, format!("the template calls {}, which chat templates are not given", quote(name)))
    })
}

/// A member whose name is put together inside the brackets.
fn subscript(tokens: &[Token], at: usize) -> Option<(Severity, String)> {
    let Token::Operator('[') = tokens[at] else { return None };
    let is_member = matches!(at.checked_sub(1).map(|at| &tokens[at]), Some(Token::Name(name)) if !matches!(&**name, "in" | "if" | "else" | "and" | "or" | "not" | "is"))
        || matches!(
            at.checked_sub(1).map(|at| &tokens[at]),
            Some(Token::Operator(')' | ']') | Token::Text(_))
        );
    if !is_member {
        return None;
    }
    let mut depth = 0_usize;
    for (offset, token) in tokens[at..].iter().take(MEMBER_TOKENS_MAX).enumerate() {
        let neighbour = |by: isize| (at + offset).checked_add_signed(by).and_then(|at| tokens.get(at));
        match token {
            Token::Operator('[' | '(' | '{') => depth += 1,
            Token::Operator(']' | ')' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return None;
                }
            }
            Token::Operator('~') => return Some(computed()),
            // The length of a text is a number.
            Token::Operator('+' | '%' | '*')
                if matches!(neighbour(-1), Some(Token::Text(_)))
                    || matches!(neighbour(1), Some(Token::Text(_)))
                        && neighbour(2) != Some(&Token::Operator('|')) =>
            {
                return Some(computed());
            }
            Token::Name(name)
                if matches!(neighbour(-1), Some(Token::Operator('|' | '.')))
                    && matches!(&**name, "join" | "replace" | "format" | "reverse") =>
            {
                return Some(computed());
            }
            _ => {}
        }
    }
    None
}

fn computed() -> (Severity, String) {
    (Severity::High, "the template reads a member by a name it puts together".to_owned())
}

/// `()|select|string`: the text of an object.
fn generator(tokens: &[Token], at: usize) -> Option<(Severity, String)> {
    let Token::Name(name) = &tokens[at] else { return None };
    if !GENERATORS.contains(&&**name)
        || at.checked_sub(1).map(|at| &tokens[at]) != Some(&Token::Operator('|'))
    {
        return None;
    }
    let mut after = at + 1;
    if tokens.get(after) == Some(&Token::Operator('(')) {
        let close = tokens[after..]
            .iter()
            .take(MEMBER_TOKENS_MAX)
            .position(|token| *token == Token::Operator(')'))?;
        after += close + 1;
    }
    match (tokens.get(after), tokens.get(after + 1)) {
        (Some(Token::Operator('|')), Some(Token::Name(next)))
            if matches!(&**next, "string" | "e" | "escape" | "safe") =>
        {
            Some((Severity::High, "the template takes an object's own text apart".to_owned()))
        }
        _ => None,
    }
}

/// Whether what the model is told depends on words in the conversation and names an address: instructions of someone
/// who is no part of it.
pub(super) fn injection(source: &str, tags: &[Tag]) -> Option<String> {
    let address =
        ["http://", "https://", "<script", "<iframe"].into_iter().find(|mark| source.contains(mark))?;
    let conditional = tags.iter().filter(|tag| tag.statement).any(|tag| {
        matches!(tag.tokens.first(), Some(Token::Name(word)) if word == "if" || word == "elif")
            && tag.tokens.windows(2).any(|two| match two {
                [Token::Text(text), Token::Name(word)] => {
                    word == "in"
                        && 2 < text.len()
                        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '\''))
                }
                _ => false,
            })
            && tag.tokens.iter().any(|token| match token {
                Token::Name(name) | Token::Text(name) => {
                    name == "content" || name == "message" || name == "messages"
                }
                _ => false,
            })
    });
    conditional
        .then(|| format!("what the model is told names {} when certain words are said", quote(address)))
}
