//! `cargo xtask ci`: every check, in the order in which a mistake shows soonest.
//!
//! Everything that compiles does so in the release profile: the training framework is then compiled for code
//! only once, and lints, rustdoc and build scripts share what they can.

mod counts;
mod demo;
mod neon;
mod steps;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::counts::Counts;
use self::steps::STEPS;
use crate::arguments::Arguments;
use crate::fixtures::{self, Environment};
use crate::{process, root, services};

/// One check.
struct Step {
    name: &'static str,
    run: fn(&mut Run) -> Result<Verdict>,
}

/// How a check that did not fail ended.
enum Verdict {
    Passed,
    /// It could not be made here, and need not be.
    Skipped(&'static str),
}

/// One run, as its steps see it.
struct Run {
    root: PathBuf,
    environment: Option<Environment>,
    services: Option<Environment>,
    tests: Counts,
}

impl Run {
    /// Cargo in the checkout, as in any CI.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = process::cargo();
        cargo.args(arguments).current_dir(&self.root).env("CI", "true");
        // Set by the cargo that started this program, and different at every start: build scripts that watch
        // the environment would run again.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"))
        {
            cargo.env_remove(name);
        }
        cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
        cargo
    }

    /// What the tests read; fetched at the first call.
    fn environment(&mut self) -> Result<Environment> {
        let environment = match self.environment.take() {
            Some(environment) => environment,
            None => fixtures::provide("test")?,
        };
        Ok(self.environment.insert(environment).clone())
    }

    /// What the tests need to know of the servers they talk to; started at the first call.
    fn services(&mut self) -> Result<Environment> {
        let services = match self.services.take() {
            Some(services) => services,
            None => services::provide()?,
        };
        Ok(self.services.insert(services).clone())
    }
}

/// A line of the closing table.
struct Line {
    name: &'static str,
    took: Duration,
    result: String,
    failed: bool,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let (keep_going, list) = (arguments.flag("--keep-going"), arguments.flag("--list"));
    let only = arguments.values("--step")?;
    arguments.finish()?;
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        bail!("there is no step `{unknown}`; `cargo xtask ci --list` names them");
    }
    let chosen = STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name));
    if list {
        chosen.for_each(|step| println!("{}", step.name));
        return Ok(ExitCode::SUCCESS);
    }
    let root = root().canonicalize().context("failed to find the checkout")?;
    let mut run = Run { root, environment: None, services: None, tests: Counts::default() };
    let lines = all(chosen, &mut run, keep_going);
    if run.services.is_some()
        && let Err(error) = services::stop()
    {
        println!("error: {error:#}");
    }
    print_table(&lines);
    // The last line says how many tests ran, in words that programs which read such output know.
    if run.tests.any() {
        println!("{}", run.tests);
    }
    Ok(if lines.iter().any(|line| line.failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs the steps; after a failure only with `keep_going`.
fn all<'a>(steps: impl Iterator<Item = &'a Step>, run: &mut Run, keep_going: bool) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for step in steps {
        if !keep_going && lines.iter().any(|line| line.failed) {
            lines.push(Line {
                name: step.name,
                took: Duration::ZERO,
                result: "not run".to_owned(),
                failed: false,
            });
            continue;
        }
        println!("\n=== {}", step.name);
        let start = Instant::now();
        let verdict = (step.run)(run);
        let took = start.elapsed();
        let (result, failed) = match verdict {
            Ok(Verdict::Passed) => ("passed".to_owned(), false),
            Ok(Verdict::Skipped(why)) => (format!("skipped: {why}"), false),
            Err(error) => {
                println!("error: {error:#}");
                ("FAILED".to_owned(), true)
            }
        };
        lines.push(Line { name: step.name, took, result, failed });
    }
    lines
}

fn print_table(lines: &[Line]) {
    println!("\n{:<10} {:>8}  result", "step", "seconds");
    for line in lines {
        println!("{:<10} {:>8.1}  {}", line.name, line.took.as_secs_f64(), line.result);
    }
    let total: Duration = lines.iter().map(|line| line.took).sum();
    println!("{:<10} {:>8.1}\n", "all", total.as_secs_f64());
}

#[cfg(test)]
mod tests;
