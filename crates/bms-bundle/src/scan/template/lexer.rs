//! Splitting a Jinja template into tags and tokens.

/// One `{{ … }}` or `{% … %}`.
#[derive(Debug, PartialEq)]
pub(super) struct Tag {
    /// Whether it is a `{% … %}`.
    pub(super) statement: bool,
    /// What is inside.
    pub(super) tokens: Vec<Token>,
}

/// One token of an expression.
#[derive(Debug, PartialEq)]
pub(super) enum Token {
    /// An identifier.
    Name(String),
    /// A text constant, escapes resolved.
    Text(String),
    /// An unsigned integer.
    Number(u64),
    /// Anything else, one character each.
    Operator(char),
}

/// The tags of a template. Comments and raw sections are left out; an unterminated tag ends with
/// the source.
pub(super) fn tags(source: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut left = source;
    while let Some(at) = left.find('{') {
        left = &left[at..];
        if let Some(comment) = left.strip_prefix("{#") {
            left = comment.split_once("#}").map_or("", |(_, rest)| rest);
        } else if left.starts_with("{{") || left.starts_with("{%") {
            let statement = left.starts_with("{%");
            let (tokens, rest) = tokens(&left[2..], if statement { "%}" } else { "}}" });
            left = rest;
            let raw = statement && tokens == [Token::Name("raw".to_owned())];
            tags.push(Tag { statement, tokens });
            if raw {
                left = after_raw(left);
            }
        } else {
            left = &left[1..];
        }
    }
    tags
}

/// What follows `{% endraw %}`.
fn after_raw(source: &str) -> &str {
    let mut left = source;
    while let Some(at) = left.find("{%") {
        left = &left[at + 2..];
        let word = left.trim_start_matches(['-', '+']).trim_start();
        if word.starts_with("endraw") {
            return word.split_once("%}").map_or("", |(_, rest)| rest);
        }
    }
    // Without an end, nothing is raw for sure.
    source
}

/// The tokens up to `end`, and what follows it.
fn tokens<'a>(source: &'a str, end: &str) -> (Vec<Token>, &'a str) {
    let mut tokens = Vec::new();
    let mut left = source.strip_prefix(['-', '+']).unwrap_or(source);
    loop {
        left = left.trim_start();
        let Some(first) = left.chars().next() else { return (tokens, "") };
        if let Some(rest) = left.strip_prefix(end).or_else(|| left.strip_prefix('-')?.strip_prefix(end)) {
            return (tokens, rest);
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if first.is_ascii_digit() {
            let digits = left.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
            let number = left[..left.len() - digits.len()].replace('_', "");
            tokens.push(Token::Number(number.parse().unwrap_or(u64::MAX)));
            left = digits;
        } else if word(first) {
            let rest = left.trim_start_matches(word);
            tokens.push(Token::Name(left[..left.len() - rest.len()].to_owned()));
            left = rest;
        } else if matches!(first, '\'' | '"') {
            let (text, rest) = text(&left[1..], first);
            tokens.push(Token::Text(text));
            left = rest;
        } else {
            tokens.push(Token::Operator(first));
            left = &left[first.len_utf8()..];
        }
    }
}

/// A text constant up to its quote, with Python's escapes resolved, and what follows it.
fn text(source: &str, quote: char) -> (String, &str) {
    let mut text = String::new();
    let mut chars = source.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return (text, &source[at + 1..]);
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some((at, escape)) = chars.next() else { break };
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0'..='7' => {
                let octal = source[at..].bytes().take(3).take_while(|c| (b'0'..=b'7').contains(c)).count();
                push_code(&mut text, &source[at..at + octal], 8);
                chars.by_ref().take(octal - 1).for_each(drop);
                continue;
            }
            'n' => {
                text.push('\n');
                continue;
            }
            't' => {
                text.push('\t');
                continue;
            }
            // A named character can be an underscore; the name itself is enough to see one.
            _ => {
                text.push(escape);
                continue;
            }
        };
        let code = source[at + 1..].bytes().take(digits).take_while(u8::is_ascii_hexdigit).count();
        push_code(&mut text, &source[at + 1..at + 1 + code], 16);
        chars.by_ref().take(code).for_each(drop);
    }
    (text, "")
}

fn push_code(text: &mut String, digits: &str, radix: u32) {
    let code = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    text.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
}
