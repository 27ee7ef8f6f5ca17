//! The `bms` program: one command line for the whole life of a model.
//!
//! This crate composes the others and holds no model maths: it parses what was asked, opens the
//! home folder (keys, trust policy), calls the library of the stage, and prints the outcome for a
//! person or, with `--json`, for a machine.

mod cli;
mod cmd;
mod demo;
mod home;
mod model;
mod output;
mod run_model;
mod secrets;
mod sources;
mod vault;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = output::Output::new(cli.global.json);
    match cli::run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.code().exit())
        }
    }
}
