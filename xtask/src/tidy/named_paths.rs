//! Every path the documents name exists: a map that nobody checks is wrong within a year.

use std::path::Path;

use super::Problem;
use super::sources::Sources;

/// Documents in which every path in backticks is one of the repository.
const MAPS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];

pub(crate) fn check(sources: &Sources, root: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources.files.iter().filter(|source| source.path.ends_with(".md")) {
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        for (line, link) in links(&source.text) {
            if !root.join(folder).join(link).exists() {
                problems.push(Problem::new(
                    &source.path,
                    line,
                    format!("the link leads to `{link}`, which does not exist"),
                ));
            }
        }
        for (line, mark) in marks(&source.text) {
            problems.push(Problem::new(
                &source.path,
                line,
                format!("`{mark}` stands for something that is missing"),
            ));
        }
        if MAPS.contains(&source.path.as_str()) {
            for (line, path) in backticked(&source.text) {
                if !root.join(path).exists() {
                    problems.push(Problem::new(
                        &source.path,
                        line,
                        format!("names `{path}`, which does not exist"),
                    ));
                }
            }
        }
    }
    for map in MAPS.iter().filter(|map| !sources.files.iter().any(|source| source.path == **map)) {
        problems.push(Problem::new(map, 0, "the document does not exist"));
    }
    problems
}

/// Lines outside fenced blocks, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((i + 1, line))
    })
}

/// What stands in backticks and is a path: something with a slash inside, or the first cell of a table whose first
/// column is headed `path`.
fn backticked(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut path_column = false;
    for (number, line) in prose(text) {
        let first_cell =
            line.trim_start().strip_prefix('|').and_then(|rest| rest.split('|').next()).map(str::trim);
        path_column = match first_cell {
            Some("path") => true,
            Some(_) => path_column,
            None => false,
        };
        let named =
            first_cell.filter(|_| path_column).and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        for span in line.split('`').skip(1).step_by(2) {
            if is_path(span) || Some(span) == named {
                found.push((number, span));
            }
        }
    }
    found
}

fn is_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    plain && span.contains('/') && !span.starts_with('/')
}

/// Places kept for a text that never came: a word in capitals between double at signs.
fn marks(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = line.split("@@").skip(1).step_by(2);
        let mark = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        found.extend(words.filter(mark).map(|word| (number + 1, word)));
    }
    found
}

/// Targets of relative links, without their anchors.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
