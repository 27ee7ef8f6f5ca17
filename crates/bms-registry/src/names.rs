//! Names of models, aliases and nodes, and digests: all are checked before they become part of a key
//! or a path.

use bms_wire::{Code, Error, Result, limits};

/// Checks a name of a model or node: `[a-z0-9][a-z0-9._-]*`, at most
/// [`limits::NAME_CHARS_MAX`] characters. `what` names it in the message, e.g. `model name`.
///
/// # Errors
/// [`Code::InvalidRequest`] when it does not fit.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ok = name.len() <= limits::NAME_CHARS_MAX
        && name.bytes().next().is_some_and(fits)
        && name.bytes().all(|c| fits(c) || matches!(c, b'.' | b'_' | b'-'));
    if ok {
        return Ok(());
    }
    let shown: String = name.chars().take(limits::NAME_CHARS_MAX).collect();
    Err(Error::new(Code::InvalidRequest, format!("`{shown}` is not a {what}")).hint(format!(
        "Use lower-case letters, digits, `.`, `_` and `-`, starting with a letter or digit, at most {} characters.",
        limits::NAME_CHARS_MAX
    )))
}

/// Checks an alias: a name that cannot be mistaken for a version number or for `latest`.
///
/// # Errors
/// [`Code::InvalidRequest`] when it does not fit.
pub(crate) fn check_alias(alias: &str) -> Result<()> {
    check_name("alias", alias)?;
    if alias == crate::versions::LATEST || alias.bytes().all(|c| c.is_ascii_digit()) {
        return Err(Error::new(Code::InvalidRequest, format!("`{alias}` cannot be an alias"))
            .hint("Numbers and `latest` already name versions; take a word such as `production`."));
    }
    Ok(())
}

/// Checks a digest: 64 lower-case hex digits.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is something else.
pub(crate) fn check_digest(digest: &str) -> Result<()> {
    if digest.len() == 64 && digest.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    let shown: String = digest.chars().take(80).collect();
    Err(Error::new(Code::InvalidRequest, format!("`{shown}` is not a digest"))
        .hint("A digest is BLAKE3 in 64 lower-case hex digits."))
}

#[cfg(test)]
mod tests;
