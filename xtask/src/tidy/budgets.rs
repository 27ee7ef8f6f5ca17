//! How long a file and a function may be.
//!
//! The value is in keeping short things from growing. What was over the budget when it was set is listed with its
//! length, and may only get shorter: a shorter thing makes its entry a problem until the entry follows.

use std::collections::BTreeMap;

use super::Problem;
use super::sources::Sources;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Files over the budget: path and lines. Entries may shrink or leave, never join.
const GRANDFATHERED_FILES: &[(&str, usize)] = &[];
/// Functions over the budget: `path::name` and lines. Entries may shrink or leave, never join.
const GRANDFATHERED_FUNCTIONS: &[(&str, usize)] = &[];

pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let mut files = Ledger::new("file", FILE_LINES_MAX, GRANDFATHERED_FILES);
    let mut functions = Ledger::new("function", FUNCTION_LINES_MAX, GRANDFATHERED_FUNCTIONS);
    for (source, rust) in sources.rust() {
        files.measured(&source.path, &source.path, 0, source.text.lines().count());
        for function in rust.functions() {
            let key = format!("{}::{}", source.path, function.name);
            functions.measured(&key, &source.path, function.line, function.lines);
        }
    }
    [files.problems(), functions.problems()].concat()
}

/// One budget with what was measured against it.
struct Ledger<'a> {
    what: &'a str,
    lines_max: usize,
    grandfathered: &'a [(&'a str, usize)],
    /// The longest measured thing of each key: path, line, lines.
    measured: BTreeMap<String, (String, usize, usize)>,
}

impl<'a> Ledger<'a> {
    fn new(what: &'a str, lines_max: usize, grandfathered: &'a [(&'a str, usize)]) -> Ledger<'a> {
        Ledger { what, lines_max, grandfathered, measured: BTreeMap::new() }
    }

    fn measured(&mut self, key: &str, path: &str, line: usize, lines: usize) {
        let longest = self.measured.entry(key.to_owned()).or_insert((path.to_owned(), line, lines));
        if longest.2 < lines {
            *longest = (path.to_owned(), line, lines);
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let Ledger { what, lines_max, .. } = self;
        let mut problems = Vec::new();
        for (key, (path, line, lines)) in &self.measured {
            let listed = self.grandfathered.iter().find(|(listed, _)| listed == key).map(|(_, lines)| *lines);
            let message = match listed {
                None if lines > lines_max => {
                    format!("this {what} has {lines} lines; the budget is {lines_max}")
                }
                Some(listed) if *lines <= *lines_max => {
                    format!(
                        "this {what} is within the budget now ({lines} lines, was {listed}); remove its entry"
                    )
                }
                Some(listed) if *lines < listed => {
                    format!("this {what} has {lines} lines now; lower its entry to that")
                }
                Some(listed) if listed < *lines => {
                    format!("this {what} grew from {listed} to {lines} lines; make it shorter")
                }
                _ => continue,
            };
            problems.push(Problem::new(path, *line, message));
        }
        let gone = self.grandfathered.iter().filter(|(key, _)| !self.measured.contains_key(*key));
        problems.extend(
            gone.map(|(key, _)| Problem::new(key, 0, format!("this {what} is gone; remove its entry"))),
        );
        problems
    }
}

#[cfg(test)]
mod tests;
