//! `cargo xtask helm`: the chart in `deploy/helm/bms`, rendered by Helm's own engine, held against the schemas of Kubernetes and
//! against this program.
//!
//! No cluster is asked, and none was tried: what is shown is that the documents are well-formed, that they say what is meant,
//! that every option, variable and metric in them exists, and, given the program, that it starts as its pod would start it.

mod drift;
mod trial;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use self::drift::{Known, list};
use crate::{fixtures, process};

/// The version of Kubernetes whose schemas count.
const KUBERNETES: &str = "1.32";
/// Values that must work, at least: the defaults, and the files in the chart's folder `ci`.
const SETS_MIN: usize = 4;

/// What `render.py` prints.
#[derive(Debug, Deserialize)]
struct Report {
    renders: BTreeMap<String, Vec<Rendered>>,
    problems: Vec<String>,
    /// Wrong values that were tried.
    refused: usize,
}

/// A document and where it comes from.
#[derive(Debug, Deserialize)]
struct Rendered {
    template: String,
    document: Value,
}

/// The program whose servers are tried, and the services they are tried over.
pub(crate) struct Trial {
    pub(crate) bms: PathBuf,
    /// What `cargo xtask services env` says; empty when none run.
    pub(crate) services: Vec<(String, String)>,
}

impl Trial {
    /// Over the services that the environment names, as the tests have them.
    pub(crate) fn of(bms: String) -> Trial {
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Trial { bms: bms.into(), services: std::env::vars_os().filter_map(text).collect() }
    }
}

/// Checks the chart, and with a `trial` the servers it renders. `false` when Helm's engine does not exist for this system.
///
/// # Errors
/// Everything that is wrong with the chart, in one message.
pub(crate) fn check(root: &Path, trial: Option<Trial>) -> Result<bool> {
    let Some(python) = python()? else { return Ok(false) };
    let own = root.join("xtask/src/helm");
    let chart = root.join("deploy/helm/bms");
    let caddy = python.with_file_name("caddy");
    let mut render = Command::new(python);
    render.arg(own.join("render.py")).arg(&chart).arg(chart.join("ci")).arg(own.join("wrong.yaml"));
    render.arg(KUBERNETES).arg(own.join("monitoring.json"));
    let report: Report = serde_json::from_str(&process::output(&mut render)?)
        .context("the program that renders the chart printed something else")?;
    ensure!(SETS_MIN <= report.renders.len(), "only {} sets of values were rendered", report.renders.len());
    ensure!(0 < report.refused, "no wrong values were tried");
    let known = Known::load(root)?;
    let mut problems = report.problems;
    for (set, rendered) in &report.renders {
        ensure!(!rendered.is_empty(), "`{set}` renders to nothing");
        for one in rendered {
            let found = drift::problems(&one.document, &known);
            problems.extend(found.into_iter().map(|problem| format!("{set}: {}: {problem}", one.template)));
        }
        println!("{set}: {} documents", rendered.len());
    }
    problems.extend(drift::never_used(&report.renders, &known));
    if let Some(Trial { bms, services }) = trial {
        let bms = bms.canonicalize().with_context(|| format!("failed to find {}", bms.display()))?;
        trial::check_variety(&report.renders)?;
        problems.extend(trial::problems(&report.renders, &trial::Programs { bms, caddy, services })?);
    }
    if !problems.is_empty() {
        bail!("the chart is not right:\n  {}", problems.join("\n  "));
    }
    println!("{} wrong sets of values are refused", report.refused);
    Ok(true)
}

/// The Python with Helm's engine.
fn python() -> Result<Option<PathBuf>> {
    let found = fixtures::provide("helm")?.into_iter().find(|(name, _)| name == "BMS_HELM");
    Ok(found.map(|(_, path)| path).or_else(|| std::env::var_os("BMS_HELM").map(PathBuf::from)))
}
