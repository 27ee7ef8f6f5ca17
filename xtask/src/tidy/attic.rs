//! Code kept in comments, and files no module names: version control remembers both better.

use super::Problem;
use super::rust::{Comment, Rust};
use super::sources::Sources;

/// Lines of comment in a row that end like statements, from which on they are taken for code.
const CODE_LINES_MIN: usize = 3;

pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (source, rust) in sources.rust() {
        for line in commented_out(rust) {
            problems.push(Problem::new(
                &source.path,
                line,
                "code in a comment; remove it or bring it to life",
            ));
        }
        if is_orphan(&source.path, sources) {
            problems.push(Problem::new(
                &source.path,
                0,
                "no module declares this file, so it is never compiled",
            ));
        }
    }
    problems
}

/// Lines where commented-out code starts: a test, or several statements.
fn commented_out(rust: &Rust) -> Vec<usize> {
    let plain: Vec<&Comment> = rust.comments.iter().filter(|c| !c.doc && c.alone).collect();
    let mut found: Vec<usize> = plain
        .iter()
        .filter(|c| c.text.lines().any(|l| is_test_attribute(l.trim())))
        .map(|c| c.line)
        .collect();
    let mut run = 0;
    for (i, comment) in plain.iter().enumerate() {
        let follows = i > 0 && plain[i - 1].line + 1 == comment.line;
        run = match (is_statement(&comment.text), follows) {
            (true, true) => run + 1,
            (true, false) => 1,
            (false, _) => 0,
        };
        if run == CODE_LINES_MIN {
            found.push(comment.line + 1 - CODE_LINES_MIN);
        }
    }
    found
}

fn is_test_attribute(text: &str) -> bool {
    text.strip_prefix("#[")
        .and_then(|rest| rest.split([']', '(']).next())
        .is_some_and(|name| name.rsplit("::").next().is_some_and(|last| last == "test"))
}

fn is_statement(text: &str) -> bool {
    text.trim_end().ends_with([';', '{', '}'])
}

/// Whether a file of a crate's `src` or `tests/it` is declared by no module file above it.
fn is_orphan(path: &str, sources: &Sources) -> bool {
    let Some((base, inside)) = path
        .split_once("/src/")
        .map(|(base, inside)| (format!("{base}/src"), inside))
        .or_else(|| path.split_once("/tests/it/").map(|(base, inside)| (format!("{base}/tests/it"), inside)))
    else {
        return false;
    };
    if matches!(inside, "lib.rs" | "main.rs" | "build.rs") || inside.starts_with("bin/") {
        return false;
    }
    let stem = inside.trim_end_matches(".rs");
    let (parents, name) = match stem.rsplit_once('/') {
        Some((folder, name)) => (vec![format!("{base}/{folder}.rs")], name),
        None => (vec![format!("{base}/lib.rs"), format!("{base}/main.rs")], stem),
    };
    !sources.rust().filter(|(source, _)| parents.contains(&source.path)).any(|(_, rust)| {
        rust.words()
            .iter()
            .any(|word| word.text == "mod" && word.rest.strip_prefix(name).is_some_and(ends_declaration))
    })
}

fn ends_declaration(rest: &str) -> bool {
    rest.trim_start().starts_with(';')
}

#[cfg(test)]
mod tests;
