//! The layer table: the one place where a crate gets its layer, and where an outside crate gets its home.
//!
//! An edge between two of our crates goes down at least one layer, whatever its kind; a test that needs a
//! crate of the same layer or above belongs into a crate above both.

use super::Problem;
use super::graph::{Graph, Member};

/// Crates by layer. The chores stand beside the product: nothing may use them.
const LAYERS: &[(u8, &[&str])] = &[
    (6, &["xtask"]),
    (5, &["bms"]),
    (4, &["bms-server", "bms-edge"]),
    (3, &["bms-registry", "bms-sources", "bms-train", "bms-engine"]),
    (2, &["bms-bundle", "bms-nn", "bms-data", "bms-store", "bms-sandbox"]),
    (1, &["bms-wire", "bms-kernels"]),
];

/// Outside crates that only some of ours may name, with the reason. A name ending in `*` stands for all that begin so.
const HOMES: &[(&str, &[&str], &str)] = &[
    ("axum*", &["bms-server"], "one crate knows the web framework"),
    ("tonic*", &["bms-server"], "one crate knows the web framework"),
    ("burn*", &["bms-train"], "one crate pays for the training framework's compile time"),
    ("ort*", &["bms-nn"], "graphs run behind one `Session`"),
    ("rten*", &["bms-nn"], "graphs run behind one `Session`"),
    ("sqlx*", &["bms-registry"], "one crate knows the database"),
    ("landlock*", &["bms-sandbox"], "one crate confines processes"),
    ("object_store", &["bms-store"], "one crate knows where files lie"),
    ("clap*", &["bms"], "libraries are given values, not arguments"),
];

/// What must not be linked into a crate, directly or through others.
const NEVER_LINKED: &[(&str, &[&str])] = &[
    ("bms-wire", &["tokio", "axum", "tonic", "burn"]),
    ("bms-bundle", &["tokio", "axum", "tonic", "burn"]),
    ("bms-nn", &["tokio", "axum", "tonic", "burn"]),
    ("bms-data", &["tokio", "axum", "tonic", "burn"]),
    ("bms-sandbox", &["tokio", "axum", "tonic", "burn"]),
    ("bms-store", &["axum", "tonic", "burn", "sqlx"]),
    ("bms-engine", &["tokio", "axum", "tonic", "burn", "sqlx"]),
    ("bms-registry", &["axum", "tonic", "burn"]),
    ("bms-edge", &["axum", "tonic", "burn", "sqlx"]),
    ("bms-server", &["burn"]),
    ("xtask", &["tokio", "axum", "tonic", "burn"]),
];

/// What a crate must not name itself. Burn's own tree names tokio for the browser, which is never built here, so for
/// training the rule is about our code.
const NEVER_NAMED: &[(&str, &[&str])] = &[("bms-train", &["tokio"])];

pub(crate) fn check(graph: &Graph) -> Vec<Problem> {
    let mut problems = Vec::new();
    for member in &graph.members {
        problems.extend(edges(member, graph));
        problems.extend(homes(member));
    }
    let listed = LAYERS.iter().flat_map(|(_, names)| *names);
    let gone = listed.filter(|name| !graph.members.iter().any(|member| member.name == **name));
    problems
        .extend(gone.map(|name| problem(name, "stands in the layer table but is no crate of the workspace")));
    problems
}

fn problem(name: &str, message: impl std::fmt::Display) -> Problem {
    Problem::new("xtask/src/tidy/layers.rs", 0, format!("{name} {message}"))
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, names)| names.contains(&name)).map(|(layer, _)| *layer)
}

fn edges(member: &Member, graph: &Graph) -> Vec<Problem> {
    let Some(from) = layer(&member.name) else {
        return vec![problem(&member.name, "has no layer; give it one in the table")];
    };
    let mut problems = Vec::new();
    for name in member.direct.iter().filter(|name| graph.members.iter().any(|other| other.name == **name)) {
        match layer(name) {
            Some(to) if to < from => {}
            Some(to) => {
                problems.push(problem(
                    &member.name,
                    format_args!("(layer {from}) may not use {name} (layer {to})"),
                ));
            }
            None => {}
        }
    }
    problems
}

fn homes(member: &Member) -> Vec<Problem> {
    let name = member.name.as_str();
    let mut problems = Vec::new();
    for (pattern, homes, reason) in HOMES.iter().filter(|(_, homes, _)| !homes.contains(&name)) {
        for used in member.direct.iter().filter(|used| matches(pattern, used)) {
            problems
                .push(problem(name, format_args!("may not use {used}, only {}: {reason}", homes.join(", "))));
        }
    }
    for (_, banned) in NEVER_LINKED.iter().filter(|(of, _)| *of == name) {
        for used in banned.iter().filter(|used| member.linked.contains(**used)) {
            problems.push(problem(
                name,
                format_args!("must not link {used}; `cargo tree -p {name} -i {used}` shows how it does"),
            ));
        }
    }
    for (_, banned) in NEVER_NAMED.iter().filter(|(of, _)| *of == name) {
        for used in banned.iter().filter(|used| member.direct.contains(**used)) {
            problems.push(problem(name, format_args!("must not use {used}")));
        }
    }
    problems
}

/// `axum*` means `axum` and every `axum-…`, not whatever begins with these letters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => {
            name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
        }
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests;
