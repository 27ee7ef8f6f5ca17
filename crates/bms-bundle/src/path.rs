//! Rules for the relative paths inside a bundle.

use std::collections::BTreeMap;

use bms_wire::{Code, Error, Result, limits};

/// Longest single component most file systems accept, in bytes.
const COMPONENT_BYTES_MAX: usize = 255;

/// Checks that `path` is a plain relative path that means the same file everywhere: components
/// joined by `/`, no `.` or `..`, not absolute, no drive, no backslash, no control characters.
///
/// # Errors
/// [`Code::InvalidBundle`] with what is wrong.
pub fn check_path(path: &str) -> Result<()> {
    match fault(path) {
        None => Ok(()),
        Some(why) => Err(Error::new(Code::InvalidBundle, format!("the path {path:?} {why}"))
            .hint("Name files in a bundle by plain relative paths such as `model.onnx`.")),
    }
}

/// What is wrong with `path`, if anything.
fn fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if limits::PATH_BYTES_MAX < path.len() {
        return Some("is too long");
    }
    if path.chars().any(forbidden) {
        return Some("holds a control, separator or text-direction character");
    }
    if path.starts_with('/') {
        return Some("is absolute");
    }
    for component in path.split('/') {
        match component {
            "" => return Some("holds an empty component"),
            "." | ".." => return Some("walks out of its folder"),
            _ if COMPONENT_BYTES_MAX < component.len() => return Some("holds a component that is too long"),
            // Windows drops these, so two names would become one file.
            _ if component.ends_with(['.', ' ']) => return Some("ends a component with a dot or a space"),
            _ => {}
        }
    }
    None
}

/// Characters that separate, hide or reorder: `\` and `:` are separators on Windows, and the
/// bidirectional controls make a name look like another one.
fn forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | ':' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Checks that the paths are valid and that no two collide on a file system that ignores case,
/// where one would silently replace the other, nor one is a folder of another.
///
/// # Errors
/// [`Code::InvalidBundle`].
pub(crate) fn check_set<'a>(paths: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeMap::new();
    for path in paths {
        check_path(path)?;
        if let Some(other) = seen.insert(path.to_lowercase(), path) {
            return Err(collision(other, path));
        }
    }
    for (folded, path) in &seen {
        for (at, _) in folded.match_indices('/') {
            if let Some(file) = seen.get(&folded[..at]) {
                return Err(collision(file, path));
            }
        }
    }
    Ok(())
}

fn collision(a: &str, b: &str) -> Error {
    Error::new(Code::InvalidBundle, format!("the paths {a:?} and {b:?} name the same file"))
}

#[cfg(test)]
mod tests;
