//! The project's chores as a program: `cargo xtask tidy`, `codegen`, `fixtures`, `services`, `helm`, `bench` and `ci`.
//!
//! It is compiled before everything else, so it stays small: no argument parser, no async runtime.

mod arguments;
mod bench;
mod ci;
mod codegen;
mod debian;
mod fixtures;
mod helm;
mod process;
mod python;
mod services;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::Arguments;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  ci [--keep-going] [--step NAME]... [--list]
      All checks in order: toolchain, format, lints, tidy, generated pages, the chart, fixtures, services, tests, doc tests,
      kernels for ARM on an emulator, rustdoc, and the demo from end to end.
  tidy
      Layers, licences, budgets, module docs, forbidden constructs, paths named in the documents.
  codegen [--check] [--program PATH]
      Writes docs/reference; with --check says what is out of date. The command line's page comes from the
      program, `bms`, and is left alone when none is given.
  fixtures [--group NAME] [--only NAME]... [--list]
      Fetches real models and data sets by exact version, checks them, and prints the environment the
      tests read. `eval \"$(cargo xtask fixtures --group test)\"` sets it.
  bench endurance [--minutes N] [--program BMS] [--json]
      Two replicas on PostgreSQL and SeaweedFS under mixed load, while slots and replicas are killed, the database restarts
      and a version is rolled out; fails when a request, a stream or an acknowledged write was lost.
  bench scan --corpus DIR [--peers VENV | --install-peers]
      Runs the scanner, and others where they are installed, over a folder with `labels.json`, then over a benign
      checkpoint of 200 MiB; prints what was found and how long it took.
  bench inference [--peers DIR | --install-peers] [--program BMS] [--rounds N] [--seconds N] [--json]
      Serves a tiny graph, beside LitServe, MLServer and BentoML.
  bench overload [--program BMS] [--seconds N] [--times N] [--json]
      Asks a server for ten times what it can do: what it still answers, how soon it refuses the rest, and its memory.
  bench seal [--program BMS] [--rounds N]
      Seals and opens models, beside openssl's cipher.
  bench store [--mib N] [--rounds N] [--dir DIR]
      Puts, fetches and scrubs a model and its second version, beside what the machine allows and restic.
  helm [--program BMS]
      Renders deploy/helm/bms with Helm's engine, lints it, and holds it against the schemas of Kubernetes and this program;
      with --program starts the rendered servers, without a cluster, and asks them with and without a key.
      Fetches some 150 MB the first time, 420 MB on disk.
  services start|stop|env [NAME]...
      Real servers for the tests, on this machine alone: postgres, s3, slurm. `eval \"$(cargo xtask services env)\"` tells
      the tests where they are.
";

/// The root of the checkout.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn main() -> ExitCode {
    match run(Arguments::new(std::env::args().skip(1))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: Arguments) -> Result<ExitCode> {
    match arguments.command().as_deref() {
        Some("ci") => ci::run(arguments),
        Some("tidy") => {
            arguments.finish()?;
            tidy::run(&root().canonicalize()?)
        }
        Some("codegen") => {
            let (check, program) = (arguments.flag("--check"), arguments.value("--program")?);
            arguments.finish()?;
            codegen::run(&root().canonicalize()?, check, program.as_deref().map(Path::new))
        }
        Some("bench") => bench::run(arguments),
        Some("fixtures") => fixtures::run(arguments),
        Some("helm") => {
            let program = arguments.value("--program")?;
            arguments.finish()?;
            match helm::check(&root().canonicalize()?, program.map(helm::Trial::of))? {
                true => Ok(ExitCode::SUCCESS),
                false => bail!("there is no Helm for this system; set BMS_HELM to a Python that has it"),
            }
        }
        Some("services") => services::run(arguments),
        None | Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("there is no command `{other}`\n\n{USAGE}"),
    }
}
