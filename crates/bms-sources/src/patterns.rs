//! Which files of a source are wanted, by patterns of their names.

use bms_wire::{Code, Error, Result};

/// Patterns of one call.
const PATTERNS_MAX: usize = 1000;

/// Patterns of wanted and unwanted files, as `huggingface_hub` reads them: `*` stands for any characters, slashes too, `?`
/// for one, and a pattern that ends with a slash for all below it. Nothing else is special.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Patterns {
    /// What matches one of `include`, or anything when there is none, and none of `exclude`.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for an empty pattern or too many.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Patterns> {
        let whole = |pattern: String| match pattern.ends_with('/') {
            true => format!("{pattern}*"),
            false => pattern,
        };
        if include.iter().chain(&exclude).any(String::is_empty)
            || PATTERNS_MAX < include.len() + exclude.len()
        {
            let what = format!("a pattern is empty, or there are over {PATTERNS_MAX}");
            return Err(Error::new(Code::InvalidRequest, what));
        }
        let [include, exclude] = [include, exclude].map(|patterns| patterns.into_iter().map(whole).collect());
        Ok(Patterns { include, exclude })
    }

    /// Whether the file is wanted.
    pub fn wants(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// Greedy with one point to go back to, so at most quadratic.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((star, from)) = retry {
            p = star + 1;
            n = from + 1;
            retry = Some((star, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests;
