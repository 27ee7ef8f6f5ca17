//! Every crate's manifest keeps the workspace's rules: its lints, and its one list of dependencies.

use toml::{Table, Value};

use super::Problem;
use super::sources::Sources;

const DEPENDENCY_TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// Fields every crate takes from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// The crates with unsafe code. They cannot take the workspace's lints, which forbid that, so they spell them out, and must
/// deny what makes unsafe code hard to review.
const UNSAFE_HOMES: &[&str] = &["crates/bms-kernels/Cargo.toml", "crates/bms-sandbox/Cargo.toml"];
const DENIED_THERE: &[(&str, &str)] =
    &[("rust", "unsafe_op_in_unsafe_fn"), ("clippy", "undocumented_unsafe_blocks")];

pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let manifests = sources.files.iter().filter(|source| is_member(&source.path));
    manifests.flat_map(|source| manifest(&source.path, &source.text)).collect()
}

/// Manifests of workspace members; `fuzz` is a workspace of its own.
fn is_member(path: &str) -> bool {
    path == "xtask/Cargo.toml" || (path.starts_with("crates/") && path.ends_with("/Cargo.toml"))
}

fn manifest(path: &str, text: &str) -> Vec<Problem> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![Problem::new(path, 0, format!("is not TOML: {}", error.message()))],
    };
    let mut problems = Vec::new();
    let mut report = |message: String| problems.push(Problem::new(path, 0, message));
    if UNSAFE_HOMES.contains(&path) {
        for (tool, lint) in DENIED_THERE {
            let level = table.get("lints").and_then(|lints| lints.get(tool)?.get(lint)?.as_str());
            if level != Some("deny") {
                report(format!("must deny `{tool}`'s `{lint}`"));
            }
        }
    } else if !table.get("lints").is_some_and(inherits) {
        report("takes no lints from the workspace; add `[lints]` with `workspace = true`".to_owned());
    }
    let package = table.get("package").and_then(Value::as_table);
    for field in INHERITED {
        if !package.and_then(|package| package.get(*field)).is_some_and(inherits) {
            report(format!("`{field}` must come from the workspace"));
        }
    }
    if package.and_then(|package| package.get("description")).is_none() {
        report("has no description".to_owned());
    }
    let targets =
        table.get("target").and_then(Value::as_table).into_iter().flat_map(|targets| targets.values());
    for scope in targets.filter_map(Value::as_table).chain([&table]) {
        for (name, dependency) in
            DEPENDENCY_TABLES.iter().filter_map(|kind| scope.get(*kind)?.as_table()).flatten()
        {
            if !inherits(dependency) {
                report(format!("the dependency `{name}` must come from `[workspace.dependencies]`"));
            }
        }
    }
    problems
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests;
