//! Licences of everything a build takes in, against the allow-list in `deny.toml`.
//!
//! `cargo deny` reads the same list; this check needs no extra tool.

mod spdx;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use self::spdx::Expression;
use super::Problem;
use super::graph::Dependency;

/// What `deny.toml` says about licences.
#[derive(Deserialize)]
pub(crate) struct Policy {
    /// Licences every crate may have; `Licence WITH exception` is one entry.
    allow: Vec<String>,
    /// Crates that may have others.
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

impl Policy {
    pub(crate) fn parse(text: &str) -> Result<Policy> {
        #[derive(Deserialize)]
        struct Deny {
            licenses: Policy,
        }
        let deny: Deny = toml::from_str(text).context("failed to read the licences of `deny.toml`")?;
        Ok(deny.licenses)
    }
}

pub(crate) fn check(policy: &Policy, dependencies: &[Dependency]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for dependency in dependencies {
        let name = format!("{} {}", dependency.name, dependency.version);
        let mut report = |message: String| problems.push(Problem::new("deny.toml", 0, message));
        let Some(license) = &dependency.license else {
            report(format!("{name} states no licence"));
            continue;
        };
        let exception = policy.exceptions.iter().find(|exception| exception.name == dependency.name);
        let allowed = |licence: &str| {
            let more = exception.iter().flat_map(|exception| &exception.allow);
            policy.allow.iter().chain(more).any(|allowed| allowed == licence)
        };
        match Expression::parse(license) {
            Ok(expression) if expression.satisfied(&allowed) => {}
            Ok(_) => report(format!("{name} is under {license}, which is not on the allow-list")),
            Err(error) => {
                report(format!("{name} states a licence that cannot be read, `{license}`: {error}"))
            }
        }
    }
    let unused = policy.exceptions.iter().filter(|e| !dependencies.iter().any(|d| d.name == e.name));
    problems.extend(unused.map(|e| {
        Problem::new("deny.toml", 0, format!("the licence exception of {} is not needed any more", e.name))
    }));
    problems
}

#[cfg(test)]
mod tests;
