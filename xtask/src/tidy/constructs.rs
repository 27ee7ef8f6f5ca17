//! Constructs that have no place in the repository: tests that do not run, code that is not there yet,
//! and `unsafe` outside its home.

use super::Problem;
use super::sources::Sources;

/// Macros that say "not done".
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Words with which people mark what they mean to come back to.
const PROMISES: &[&str] = &["TODO", "XXX", "HACK"];

/// Where `unsafe` may be written: paths start with one of these. Every other crate forbids it.
const UNSAFE_HOMES: &[&str] = &["crates/bms-kernels/", "crates/bms-sandbox/"];

pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (source, rust) in sources.rust() {
        let mut report =
            |line: usize, message: &str| problems.push(Problem::new(&source.path, line, message));
        for word in rust.words() {
            if UNFINISHED.contains(&word.text) && word.rest.starts_with('!') && !word.rest.starts_with("!=") {
                report(word.line, &format!("`{}!` has no place in committed code", word.text));
            }
            if word.text == "unsafe" && !UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home)) {
                report(
                    word.line,
                    "`unsafe` is not allowed here; its homes are listed in xtask/src/tidy/constructs.rs",
                );
            }
        }
        for (line, attribute) in rust.attributes() {
            if is_ignore(attribute) {
                report(line, "an ignored test is not a test; make it run or remove it");
            }
        }
        for comment in &rust.comments {
            let mut words = comment.text.split(|c: char| !c.is_alphanumeric());
            if let Some(word) = words.find(|word| PROMISES.contains(word)) {
                report(comment.line, &format!("`{word}` marks something to do; do it, or write an issue"));
            }
        }
        for comment in rust.comments.iter().filter(|comment| comment.doc) {
            let fence = comment.text.trim_start().strip_prefix("```");
            if fence.is_some_and(|info| info.split(',').any(|word| word.trim().starts_with("ignore"))) {
                report(comment.line, "an ignored doc test is not a test; make it run, or fence it as `text`");
            }
        }
    }
    problems
}

/// `ignore`, `ignore = "…"`, `cfg_attr(…, ignore)`.
fn is_ignore(attribute: &str) -> bool {
    let mut words =
        attribute.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    match words.next() {
        Some("ignore") => true,
        Some("cfg_attr") => words.any(|word| word == "ignore"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
