//! `cargo xtask tidy`: what the compiler does not check.
//!
//! Every check takes what it looks at as data and returns problems, so that each has tests which show that it
//! can fail.

mod attic;
mod budgets;
mod constructs;
mod crates;
mod graph;
mod layers;
mod licences;
mod module_docs;
mod named_paths;
mod rust;
mod sources;
mod workplace;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use self::graph::Graph;
use self::sources::Sources;

/// Something to put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    path: String,
    /// Counted from 1; 0 for the whole file.
    line: usize,
    message: String,
}

impl Problem {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Problem {
        Problem { path: path.to_owned(), line, message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Runs every check, prints what it found.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let sources = Sources::load(root)?;
    let graph = Graph::load(root)?;
    let policy = licences::Policy::parse(&std::fs::read_to_string(root.join("deny.toml"))?)?;
    let mut problems = [
        layers::check(&graph),
        licences::check(&policy, &graph.dependencies),
        crates::check(&sources),
        named_paths::check(&sources, root),
        budgets::check(&sources),
        constructs::check(&sources),
        attic::check(&sources),
        module_docs::check(&sources),
        workplace::check(&sources),
    ]
    .concat();
    problems.sort();
    problems.dedup();
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!(
            "tidy: {} files, {} crates and {} dependencies are in order",
            sources.files.len(),
            graph.members.len(),
            graph.dependencies.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} problems", problems.len());
    Ok(ExitCode::FAILURE)
}
