//! Who depends on whom, from cargo itself.
//!
//! `cargo metadata` knows licences and the edges between our crates. Which outside crates a build really takes
//! in is asked of `cargo tree`: metadata also lists what optional features could bring but do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::process;

/// One crate of the workspace.
pub(crate) struct Member {
    pub(crate) name: String,
    /// Names of crates its manifest names, of every kind: normal, development, build.
    pub(crate) direct: BTreeSet<String>,
    /// Names of every crate linked into it, on any platform.
    pub(crate) linked: BTreeSet<String>,
}

/// A crate from outside that some build takes in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The SPDX expression of its manifest.
    pub(crate) license: Option<String>,
}

pub(crate) struct Graph {
    pub(crate) members: Vec<Member>,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    dependencies: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Graph {
    pub(crate) fn load(root: &Path) -> Result<Graph> {
        let text =
            process::output(process::cargo().args(["metadata", "--format-version", "1"]).current_dir(root))?;
        let metadata: Metadata = serde_json::from_str(&text).context("failed to read `cargo metadata`")?;
        let (ours, others): (Vec<_>, Vec<_>) =
            metadata.packages.iter().partition(|package| metadata.workspace_members.contains(&package.id));
        let mut members = Vec::new();
        for package in &ours {
            let linked = tree(root, &["--package", &package.name, "--edges", "normal"])?;
            members.push(Member {
                name: package.name.clone(),
                direct: package.dependencies.iter().map(|dependency| dependency.name.clone()).collect(),
                linked: linked
                    .into_iter()
                    .map(|(name, _)| name)
                    .filter(|name| *name != package.name)
                    .collect(),
            });
        }
        let known: BTreeMap<_, _> =
            others.iter().map(|p| ((p.name.clone(), p.version.clone()), &p.license)).collect();
        let mut dependencies = Vec::new();
        for (name, version) in tree(root, &["--workspace", "--edges", "normal,build,dev"])? {
            if ours.iter().any(|package| package.name == name && package.version == version) {
                continue;
            }
            let key = (name, version);
            let license =
                known.get(&key).with_context(|| format!("`cargo metadata` does not know {key:?}"))?;
            dependencies.push(Dependency { name: key.0, version: key.1, license: (*license).clone() });
        }
        Ok(Graph { members, dependencies })
    }
}

/// Name and version of every crate in a `cargo tree`, on every platform.
fn tree(root: &Path, arguments: &[&str]) -> Result<BTreeSet<(String, String)>> {
    let mut command = process::cargo();
    command.args(["tree", "--target", "all", "--prefix", "none", "--format", "{p}"]).args(arguments);
    parse_tree(&process::output(command.current_dir(root))?)
}

/// Lines such as `name v1.2.3 (proc-macro)`. A tree without any is an error, never an empty result.
fn parse_tree(text: &str) -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        match (words.next(), words.next().and_then(|version| version.strip_prefix('v'))) {
            (Some(name), Some(version)) => found.insert((name.to_owned(), version.to_owned())),
            _ => bail!("`cargo tree` printed a line of another form: {line}"),
        };
    }
    if found.is_empty() {
        bail!("`cargo tree` printed nothing");
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
