//! `bms lineage`: where a version comes from and what came of it, as a tree of text.

use bms_wire::api::{Lineage as Graph, LineageNode};
use bms_wire::{Code, Error, Result};
use clap::Args;

use crate::cmd::registry::ServerOption;
use crate::output::Output;

/// Options of `bms lineage`.
#[derive(Debug, Args)]
pub(crate) struct Lineage {
    /// NAME@VERSION or NAME@ALIAS; the latest version of NAME alone.
    #[arg(required_unless_present = "data")]
    version: Option<String>,
    /// List the versions trained on the data set with this digest instead.
    #[arg(long, value_name = "DIGEST", conflicts_with = "version")]
    data: Option<String>,
    #[command(flatten)]
    server: ServerOption,
}

impl Lineage {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.server.client()?;
        if let Some(digest) = &self.data {
            let versions = client.trained_on(digest)?;
            let names: Vec<String> =
                versions.iter().map(|of| format!("{}@{}", of.model, of.version)).collect();
            output.result(names.join("\n"), &versions);
            return Ok(());
        }
        let named = self.version.ok_or_else(|| Error::new(Code::InvalidRequest, "no version is named"))?;
        let (model, version) = named.split_once('@').unwrap_or((&named, "latest"));
        let graph = client.lineage(model, version)?;
        output.result(tree(&graph), &graph);
        Ok(())
    }
}

/// The oldest ancestor first, each generation further to the right; the version asked about is marked.
fn tree(graph: &Graph) -> String {
    let mut lines = Vec::new();
    let mut depth = 0;
    for ancestor in graph.ancestors.iter().rev() {
        lines.push(line(ancestor, depth, ""));
        depth += 1;
    }
    lines.push(line(&graph.version, depth, "  ◀"));
    below(&graph.version.digest, &graph.descendants, depth + 1, &mut lines);
    if graph.truncated {
        lines.push("… and more".to_owned());
    }
    lines.join("\n")
}

/// What was made from a version, depth first. A digest covers its parent's, so this ends.
fn below(parent: &str, all: &[LineageNode], depth: usize, lines: &mut Vec<String>) {
    for child in all.iter().filter(|node| node.parent.as_deref() == Some(parent)) {
        lines.push(line(child, depth, ""));
        below(&child.digest, all, depth + 1, lines);
    }
}

fn line(node: &LineageNode, depth: usize, mark: &str) -> String {
    let indent = match depth {
        0 => String::new(),
        depth => format!("{}└─ ", "   ".repeat(depth - 1)),
    };
    let name = match (&node.model, node.version) {
        (Some(model), Some(version)) => format!("{model}@{version}"),
        _ => format!("unknown version {:.12}…", node.digest),
    };
    let mut facts = Vec::new();
    facts.extend(node.data.iter().map(|data| format!("data {} ({:.12}…)", data.name, data.digest)));
    facts.extend(node.job.iter().map(|job| format!("job {job}")));
    facts.extend(node.run.iter().map(|run| format!("run {run}")));
    if node.deleted {
        facts.push("deleted".to_owned());
    }
    let facts = if facts.is_empty() { String::new() } else { format!("  [{}]", facts.join("; ")) };
    format!("{indent}{name}{facts}{mark}")
}

#[cfg(test)]
mod tests;
