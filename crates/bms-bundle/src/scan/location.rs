//! File names inside model files: where a reader would be sent.

/// What is wrong with a file name that must stay inside the model's folder, if anything.
pub(crate) fn fault(name: &str) -> Option<&'static str> {
    let separator = |c: char| matches!(c, '/' | '\\');
    if name.contains('\0') {
        return Some("is cut short by a zero byte");
    }
    if name.contains("://") || name.starts_with("data:") || name.starts_with("file:") {
        return Some("is a URL");
    }
    if name.starts_with(separator) || name.starts_with('~') {
        return Some("is absolute");
    }
    if name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic() {
        return Some("is absolute");
    }
    if name
        .split(separator)
        .any(|component| component.trim_end_matches([' ', '.']).is_empty() && component.contains(".."))
    {
        return Some("leaves the model's folder");
    }
    if name.contains('$') || name.contains('%') {
        return Some("names a variable of the environment");
    }
    if name.contains('\\') {
        return Some("is a path on one system and a name on another");
    }
    None
}

#[cfg(test)]
mod tests;
