//! What rendered documents name, held against what there is: options, variables, metrics, times.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bms_wire::limits;
use serde_json::Value;

use super::Rendered;

/// Variables that are not the program's own: the S3 client's, and those of programs beside it.
const FOREIGN_VARIABLES: &[&str] = &[
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    // The proxy's, which its settings name.
    "BMS_TOKEN",
    "BMS_METRICS_TOKEN",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];
/// What a histogram's name ends in.
const SERIES: &[&str] = &["_bucket", "_sum", "_count"];

/// What this program has.
#[derive(Debug)]
pub(super) struct Known {
    /// Options of `bms up`; whether each takes a value.
    pub(super) options: BTreeMap<String, bool>,
    /// Variables of the environment that the program reads.
    pub(super) variables: BTreeSet<String>,
    pub(super) metrics: BTreeSet<String>,
}

impl Known {
    /// Reads the page of the command line, which another step compares with the program, and the sources for the rest.
    pub(super) fn load(root: &Path) -> Result<Known> {
        let read = |path: &str| {
            std::fs::read_to_string(root.join(path)).with_context(|| format!("failed to read {path}"))
        };
        let options = options(&read("docs/reference/cli.md")?)?;
        let metrics: BTreeSet<String> =
            ["crates/bms-server/src/metrics.rs", "crates/bms-server/src/metrics/language.rs"]
                .iter()
                .map(|path| Ok(quoted(&read(path)?, |name| name.starts_with("bms_"))))
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect();
        let mut variables = BTreeSet::new();
        for path in
            ["crates/bms/src/cli.rs", "crates/bms/src/cmd/serve.rs", "crates/bms-nn/src/onnx/library.rs"]
        {
            variables.extend(quoted(&read(path)?, |name| name.starts_with("BMS_")));
        }
        for (what, count) in
            [("options", options.len()), ("metrics", metrics.len()), ("variables", variables.len())]
        {
            ensure!(1 < count, "no {what} were found where they used to be");
        }
        Ok(Known { options, variables, metrics })
    }
}

/// The options on the page of `bms up`, and whether each takes a value.
pub(super) fn options(page: &str) -> Result<BTreeMap<String, bool>> {
    let (_, section) =
        page.split_once("## `bms up`").context("the page of the command line has no `bms up`")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let found = section.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = line.strip_prefix("-h, ").unwrap_or(line);
        let mut words = long.split_whitespace();
        let name = words.next().filter(|name| name.starts_with("--"))?;
        Some((name.to_owned(), words.next().is_some_and(|value| value.starts_with('<'))))
    });
    Ok(found.collect())
}

/// Words in quotes of which `wanted` says yes.
pub(super) fn quoted(text: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    text.split('"').filter(|word| is_word(word) && wanted(word)).map(str::to_owned).collect()
}

/// What is wrong with one document.
pub(super) fn problems(document: &Value, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(pod) = pod(document) {
        problems.extend(pod_problems(pod, known));
    }
    if matches!(document["kind"].as_str(), Some("PrometheusRule" | "HorizontalPodAutoscaler")) {
        let missing = metrics(document).into_iter().filter(|name| !is_metric(name, known));
        problems.extend(missing.map(|name| format!("there is no metric `{name}`")));
    }
    if document["kind"] == "ServiceAccount" && document["automountServiceAccountToken"] != false {
        problems.push("the account's token would be mounted".to_owned());
    }
    problems
}

/// The pod in a document: itself, or the template of what makes some.
fn pod(document: &Value) -> Option<&Value> {
    match document["kind"].as_str()? {
        "Pod" => Some(&document["spec"]),
        "Deployment" | "StatefulSet" | "Job" | "DaemonSet" => Some(&document["spec"]["template"]["spec"]),
        _ => None,
    }
}

fn pod_problems(pod: &Value, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    let mut that = |kept: bool, problem: &str| {
        if !kept {
            problems.push(problem.to_owned());
        }
    };
    let context = &pod["securityContext"];
    that(pod["automountServiceAccountToken"] == false, "the account's token would be mounted");
    that(context["runAsNonRoot"] == true, "it may run as root");
    that(0 < context["runAsUser"].as_u64().unwrap_or(0), "it has no user");
    that(context["seccompProfile"]["type"] == "RuntimeDefault", "it has no seccomp profile");
    for container in list(&pod["containers"]).iter().chain(list(&pod["initContainers"])) {
        let context = &container["securityContext"];
        that(context["allowPrivilegeEscalation"] == false, "a container may gain privileges");
        that(context["readOnlyRootFilesystem"] == true, "a container may write its root");
        that(context["capabilities"]["drop"] == serde_json::json!(["ALL"]), "a container has capabilities");
        that(container["resources"]["limits"]["memory"].is_string(), "a container has no bound of memory");
    }
    let server = list(&pod["containers"]).iter().find(|one| one["name"] == "server");
    if let Some(server) = server {
        problems.extend(server_problems(server, known));
        problems.extend(time_problem(pod, server));
    }
    problems
}

/// What the server is told, and by what it is asked.
fn server_problems(server: &Value, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    let arguments: Vec<&str> = list(&server["args"]).iter().filter_map(Value::as_str).collect();
    if arguments.first() != Some(&"up") {
        problems.push("the server's command is not `bms up`".to_owned());
    }
    for argument in arguments.iter().skip(1) {
        let (name, value) =
            argument.split_once('=').map_or((*argument, None), |(name, value)| (name, Some(value)));
        match known.options.get(name) {
            None => problems.push(format!("`bms up` has no option `{name}`")),
            Some(true) if value.is_none_or(str::is_empty) => problems.push(format!("`{name}` has no value")),
            Some(false) if value.is_some() => problems.push(format!("`{name}` takes no value")),
            _ => {}
        }
    }
    problems.extend(door_problem(&arguments));
    for name in list(&server["env"]).iter().filter_map(|one| one["name"].as_str()) {
        if !known.variables.contains(name) && !FOREIGN_VARIABLES.contains(&name) {
            problems.push(format!("the program reads no variable `{name}`"));
        }
    }
    for (probe, path) in [
        ("startupProbe", "/v2/health/live"),
        ("livenessProbe", "/v2/health/live"),
        ("readinessProbe", "/v2/health/ready"),
    ] {
        if server[probe]["httpGet"]["path"] != path {
            problems.push(format!("the {probe} does not ask {path}"));
        }
    }
    problems
}

/// Whether somebody could get in, or a key could get out.
fn door_problem(arguments: &[&str]) -> Option<String> {
    let value = |name: &str| arguments.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
    let listens = value("--listen").and_then(|address| address.parse::<SocketAddr>().ok());
    let Some(listens) = listens else { return Some("it is not said where the server listens".to_owned()) };
    if listens.ip().is_loopback() {
        return None;
    }
    if value("--keys") != Some("required") {
        return Some("others reach the server, and it does not require keys".to_owned());
    }
    // A server that makes the first key itself prints it, and what is printed is the pod's log.
    value("--keys-from").is_none().then(|| "the first key would stand in the log".to_owned())
}

/// Whether the pod is given the time that the server takes to end.
fn time_problem(pod: &Value, server: &Value) -> Option<String> {
    let given = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    let before = server["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
    let needed = before + limits::DRAIN_SECONDS_MAX;
    (given <= needed).then(|| format!("the server may take {needed} s to end and is given {given}"))
}

/// Names of metrics anywhere in a document.
fn metrics(document: &Value) -> BTreeSet<String> {
    let text = document.to_string();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("bms_")).map(str::to_owned).collect()
}

fn is_metric(name: &str, known: &Known) -> bool {
    let base = SERIES.iter().find_map(|series| name.strip_suffix(series));
    known.metrics.contains(name) || base.is_some_and(|base| known.metrics.contains(base))
}

/// Checks that must have had something to look at in one set of values at least.
pub(super) fn never_used(renders: &BTreeMap<String, Vec<Rendered>>, known: &Known) -> Vec<String> {
    let documents = || renders.values().flatten().map(|one| &one.document);
    let kinds: BTreeSet<&str> = documents().filter_map(|document| document["kind"].as_str()).collect();
    let rules = documents().filter(|document| document["kind"] == "PrometheusRule");
    let named = rules.flat_map(metrics).filter(|name| is_metric(name, known)).count();
    let mut problems = Vec::new();
    for kind in
        ["Deployment", "StatefulSet", "PrometheusRule", "HorizontalPodAutoscaler", "NetworkPolicy", "Ingress"]
    {
        if !kinds.contains(kind) {
            problems.push(format!("no set of values renders a {kind}"));
        }
    }
    if named == 0 {
        problems.push("no alert is about a metric".to_owned());
    }
    problems
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;
