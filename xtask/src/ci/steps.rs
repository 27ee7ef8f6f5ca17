//! The steps, in order.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Run, Step, Verdict, counts, demo, neon};
use crate::debian::{self, Need};
use crate::{codegen, helm, process, tidy};

pub(super) const STEPS: &[Step] = &[
    Step { name: "preflight", run: preflight },
    Step { name: "fmt", run: fmt },
    Step { name: "clippy", run: clippy },
    Step { name: "fuzz", run: fuzz },
    Step { name: "tidy", run: run_tidy },
    Step { name: "deny", run: deny },
    Step { name: "codegen", run: run_codegen },
    Step { name: "helm", run: run_helm },
    Step { name: "fixtures", run: run_fixtures },
    Step { name: "services", run: run_services },
    Step { name: "tests", run: tests },
    Step { name: "doctests", run: doc_tests },
    Step { name: "neon", run: neon::run },
    Step { name: "rustdoc", run: rustdoc },
    Step { name: "reference", run: reference },
    Step { name: "pods", run: run_pods },
    Step { name: "demo", run: run_demo },
];

const GIT: Need =
    Need { purpose: "listing the files of the checkout", probe: &["git", "--version"], packages: &["git"] };

fn preflight(run: &mut Run) -> Result<Verdict> {
    for (component, arguments) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        if process::output(&mut run.cargo(&arguments)).is_err() {
            bail!("`cargo {}` is missing; `rustup component add {component}` brings it", arguments[0]);
        }
    }
    debian::provide(&[&debian::CC, &GIT, &debian::PIP, &debian::VENV])?;
    print!("{}", process::output(&mut run.cargo(&["--version"]))?);
    Ok(Verdict::Passed)
}

fn fmt(run: &mut Run) -> Result<Verdict> {
    passed(run, &["fmt", "--all", "--check"])
}

fn clippy(run: &mut Run) -> Result<Verdict> {
    passed(run, &["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// Checks the types of the fuzz targets, which are a workspace of their own that nothing else compiles.
fn fuzz(run: &mut Run) -> Result<Verdict> {
    // The checkout's own folder: most of what they depend on was checked there by now.
    let target = target_folder(run)?;
    let manifest = run.root.join("fuzz").join("Cargo.toml");
    let mut check = run.cargo(&["check", "--release", "--locked", "--manifest-path"]);
    check.arg(&manifest).arg("--target-dir").arg(target);
    // The fuzzer's own library, which is C++, is only linked, which a check does not do: any file stands for it.
    process::run(check.env("CUSTOM_LIBFUZZER_PATH", &manifest)).context(
        "the fuzz targets do not compile; if it is their list of versions, \
         `cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml >/dev/null` brings it up to date",
    )?;
    Ok(Verdict::Passed)
}

fn run_tidy(run: &mut Run) -> Result<Verdict> {
    clean(tidy::run(&run.root)?, "the checkout is not tidy")
}

/// `tidy` has checked licences and layers already; this adds duplicate and source rules where the tool is at hand.
fn deny(run: &mut Run) -> Result<Verdict> {
    if process::output(&mut run.cargo(&["deny", "--version"])).is_err() {
        return Ok(Verdict::Skipped("cargo-deny is not installed"));
    }
    passed(run, &["deny", "--workspace", "check", "licenses", "bans", "sources"])
}

fn run_codegen(run: &mut Run) -> Result<Verdict> {
    clean(codegen::run(&run.root, true, None)?, "generated pages are out of date")
}

/// The chart for Kubernetes, without a cluster.
fn run_helm(run: &mut Run) -> Result<Verdict> {
    chart(run, None)
}

/// The chart's servers, started with the program as their pods would start them.
fn run_pods(run: &mut Run) -> Result<Verdict> {
    let bms = program(run)?;
    let services = run.services()?.into_iter();
    let services = services.map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect();
    chart(run, Some(helm::Trial { bms, services }))
}

fn chart(run: &Run, trial: Option<helm::Trial>) -> Result<Verdict> {
    match helm::check(&run.root, trial)? {
        true => Ok(Verdict::Passed),
        false => Ok(Verdict::Skipped("there is no Helm for this system")),
    }
}

fn run_fixtures(run: &mut Run) -> Result<Verdict> {
    for (name, path) in run.environment()? {
        println!("{name}={}", path.display());
    }
    Ok(Verdict::Passed)
}

/// Starts the servers that tests talk to. They run until the end of the run.
fn run_services(run: &mut Run) -> Result<Verdict> {
    for (name, value) in run.services()? {
        println!("{name}={}", value.display());
    }
    Ok(Verdict::Passed)
}

fn tests(run: &mut Run) -> Result<Verdict> {
    let nextest = process::output(&mut run.cargo(&["nextest", "--version"])).is_ok();
    let mut command = if nextest {
        let run_all =
            ["nextest", "run", "--profile", "ci", "--color", "never", "--release", "--locked", "--workspace"];
        run.cargo(&run_all)
    } else {
        run.cargo(&[
            "test",
            "--color",
            "never",
            "--release",
            "--locked",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
        ])
    };
    let environment = [run.environment()?, run.services()?].concat();
    count(run, command.envs(environment))
}

fn doc_tests(run: &mut Run) -> Result<Verdict> {
    let arguments =
        ["test", "--color", "never", "--release", "--locked", "--workspace", "--no-fail-fast", "--doc"];
    let environment = run.environment()?;
    let mut command = run.cargo(&arguments);
    count(run, command.envs(environment))
}

/// Runs tests and adds up what they say. A run that says nothing of tests has run none.
pub(super) fn count(run: &mut Run, command: &mut std::process::Command) -> Result<Verdict> {
    let printed = process::tee(command)?;
    let found = counts::read(printed.out.iter().chain(&printed.err).map(String::as_str));
    run.tests.add(found);
    ensure!(printed.success, "`{}` failed", process::shown(command));
    ensure!(found.any(), "`{}` ran no test", process::shown(command));
    Ok(Verdict::Passed)
}

fn rustdoc(run: &mut Run) -> Result<Verdict> {
    let mut command = run.cargo(&["doc", "--release", "--locked", "--workspace", "--no-deps"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Verdict::Passed)
}

fn reference(run: &mut Run) -> Result<Verdict> {
    let program = program(run)?;
    clean(codegen::run(&run.root, true, Some(&program))?, "the page of the command line is out of date")
}

fn run_demo(run: &mut Run) -> Result<Verdict> {
    demo::run(&program(run)?, &run.root)?;
    Ok(Verdict::Passed)
}

/// Builds `bms` with the same features as the tests, so that nothing is compiled twice, and says where it lies.
fn program(run: &Run) -> Result<PathBuf> {
    process::run(&mut run.cargo(&["build", "--release", "--locked", "--workspace", "--bins", "--tests"]))?;
    Ok(target_folder(run)?.join("release").join(format!("bms{}", std::env::consts::EXE_SUFFIX)))
}

/// Where cargo puts what it builds.
pub(super) fn target_folder(run: &Run) -> Result<PathBuf> {
    let metadata = process::output(&mut run.cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    match metadata["target_directory"].as_str() {
        Some(target) => Ok(PathBuf::from(target)),
        None => bail!("`cargo metadata` names no target folder"),
    }
}

fn passed(run: &Run, arguments: &[&str]) -> Result<Verdict> {
    process::run(&mut run.cargo(arguments))?;
    Ok(Verdict::Passed)
}

fn clean(code: ExitCode, message: &str) -> Result<Verdict> {
    ensure!(code == ExitCode::SUCCESS, "{message}");
    Ok(Verdict::Passed)
}
