//! Nothing of anybody's workplace in the repository: no absolute paths of one machine, no package hosts or
//! settings of one network.

use super::Problem;
use super::sources::Sources;

/// Top folders that belong to a person or a workplace. Kept without slashes, so that this table is not itself a find.
const PRIVATE_FOLDERS: &[&str] = &["work", "home", "root", "Users"];

/// Endings of host names that mean something on one network only.
const PRIVATE_DOMAINS: &[&str] = &["internal", "local", "lan", "corp", "intranet"];

/// The one place the lock file may take crates from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Files in which package clients keep their settings, and the words that point them to another host.
const CLIENT_SETTINGS: &[(&str, &[&str])] = &[
    (".cargo/config.toml", &["[source", "[registries", "[registry", "replace-with"]),
    (".cargo/config", &["[source", "[registries", "[registry", "replace-with"]),
    (".npmrc", &["registry"]),
    (".yarnrc.yml", &["npmRegistryServer"]),
    ("pip.conf", &["index-url", "find-links"]),
    (".pypirc", &["repository"]),
    ("requirements.txt", &["--index-url", "--extra-index-url", "--find-links"]),
    ("pyproject.toml", &["index-url", "[[tool.uv.index"]),
];

pub(crate) fn check(sources: &Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in &sources.files {
        let settings =
            CLIENT_SETTINGS.iter().find(|(name, _)| is_named(&source.path, name)).map(|(_, words)| *words);
        for (number, line) in source.text.lines().enumerate().map(|(i, line)| (i + 1, line)) {
            let mut report = |message: String| problems.push(Problem::new(&source.path, number, message));
            if let Some(path) = private_path(line) {
                report(format!("`{path}` is a path of one machine"));
            }
            if let Some(host) = private_host(line) {
                report(format!("`{host}` is a host of one network"));
            }
            if let Some(word) =
                settings.and_then(|words| words.iter().find(|word| line.trim_start().contains(**word)))
            {
                report(format!(
                    "`{word}` points a package client to a host of its own; leave that to the machine"
                ));
            }
            let from = line.strip_prefix("source = \"").and_then(|rest| rest.strip_suffix('"'));
            if is_named(&source.path, "Cargo.lock") && from.is_some_and(|from| from != CRATES_IO) {
                report("a crate comes from elsewhere than crates.io".to_owned());
            }
        }
    }
    problems
}

fn is_named(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|before| before.ends_with('/'))
}

/// The first absolute path on the line that starts in a private folder.
fn private_path(line: &str) -> Option<&str> {
    let found = line.match_indices('/').find(|&(at, _)| {
        let before = &line[..at];
        let starts = before.is_empty()
            || before.ends_with("file://")
            || before.ends_with(|c: char| !(c.is_alphanumeric() || "_-./~}>)]*".contains(c)));
        let mut parts = line[at + 1..].splitn(2, '/');
        starts && parts.next().is_some_and(|top| PRIVATE_FOLDERS.contains(&top)) && parts.next().is_some()
    });
    found.map(|(at, _)| word(&line[at..]))
}

/// The first host in a URL on the line whose name ends in a private domain.
fn private_host(line: &str) -> Option<&str> {
    line.match_indices("://").find_map(|(at, _)| {
        let authority =
            line[at + 3..].split(|c: char| !(c.is_alphanumeric() || ".-_@:".contains(c))).next()?;
        let host = authority.rsplit('@').next()?.split(':').next()?;
        let (_, last) = host.rsplit_once('.')?;
        PRIVATE_DOMAINS.contains(&last).then_some(host)
    })
}

fn word(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || "\"'`,;)]}>".contains(c)).next().unwrap_or(text)
}

#[cfg(test)]
mod tests;
