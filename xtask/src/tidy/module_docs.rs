//! Every module says what it is for, and is named for a thing.

use super::Problem;
use super::sources::Sources;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc", "manager", "imp"];

pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (source, _) in sources.rust() {
        if !source.is_test() && !starts_with_docs(&source.text) {
            problems.push(Problem::new(
                &source.path,
                1,
                "the module says nothing about itself; begin it with `//!`",
            ));
        }
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if name == "mod" {
            problems.push(Problem::new(
                &source.path,
                0,
                "modules are `name.rs` beside `name/`, not `name/mod.rs`",
            ));
        }
        if EMPTY_NAMES.contains(&name) {
            problems.push(Problem::new(
                &source.path,
                0,
                format!("`{name}` names nothing; name the thing inside"),
            ));
        }
    }
    problems
}

fn starts_with_docs(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
    first.is_some_and(|line| line.strip_prefix("//!").is_some_and(|words| !words.trim().is_empty()))
}

#[cfg(test)]
mod tests;
