//! Constants written as lines of text, as protocols 0 and 1 do.

/// An integer of `I`, `L`, `g` or `p`, when it fits.
pub(super) fn integer(line: &[u8]) -> Option<i64> {
    plain(line).parse().ok()
}

/// Whether it is an integer of any size.
pub(super) fn is_integer(line: &[u8]) -> bool {
    let digits = plain(line).trim_start_matches(['-', '+']);
    !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit())
}

/// Whether it is a number of `F`.
pub(super) fn is_float(line: &[u8]) -> bool {
    plain(line).parse::<f64>().is_ok()
}

/// The text without spaces around and the suffix of Python 2's long integers.
fn plain(line: &[u8]) -> &str {
    std::str::from_utf8(line).unwrap_or_default().trim().trim_end_matches('L')
}

/// A text constant of `S`: in quotes, with Python's escapes. `None` without quotes.
pub(super) fn quoted(line: &[u8]) -> Option<String> {
    let line = line.trim_ascii();
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return None,
    };
    Some(unescape(inner, |code| match code {
        b'x' => Some(2),
        _ => None,
    }))
}

/// A text constant of `V`: only `\u` and `\U` are escapes.
pub(super) fn raw_unicode(line: &[u8]) -> String {
    unescape(line, |code| match code {
        b'u' => Some(4),
        b'U' => Some(8),
        _ => None,
    })
}

/// Resolves escapes; `digits` says how many hexadecimal digits follow a letter.
fn unescape(bytes: &[u8], digits: impl Fn(u8) -> Option<usize>) -> String {
    // Bytes above ASCII stay what they are: they occur in no name that is imported.
    let source: String = String::from_utf8_lossy(bytes).into_owned();
    let mut text = String::new();
    let mut left = source.as_str();
    while let Some((before, after)) = left.split_once('\\') {
        text.push_str(before);
        let code = after.bytes().next().unwrap_or(b'\\');
        let hex = digits(code).and_then(|count| after.get(1..1 + count));
        let octal = after.bytes().take(3).take_while(|c| (b'0'..=b'7').contains(c)).count();
        let resolved = match hex {
            Some(hex) => u32::from_str_radix(hex, 16).ok().map(|value| (value, 1 + hex.len())),
            None if 0 < octal && digits(b'x').is_some() => {
                u32::from_str_radix(&after[..octal], 8).ok().map(|value| (value, octal))
            }
            None => None,
        };
        match resolved.and_then(|(value, used)| Some((char::from_u32(value)?, used))) {
            Some((value, used)) => {
                text.push(value);
                left = &after[used..];
            }
            None => {
                // Kept as it is, the escaped character included, so that the loop moves on.
                let next = after.chars().next().map_or(0, char::len_utf8);
                text.push('\\');
                text.push_str(&after[..next]);
                left = &after[next..];
            }
        }
    }
    text.push_str(left);
    text
}
