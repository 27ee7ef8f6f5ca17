//! The `bms` program: one command line for the whole life of a model.
//!
//! This crate composes the others and holds no model maths: it parses what was asked, opens the
//! home folder (keys, trust policy), calls the library of the stage, and prints the outcome for a
//! person or, with `--json`, for a machine.

mod api_key;
mod cli;
mod cmd;
mod demo;
mod home;
mod model;
mod output;
mod processor;
mod run_model;
mod secrets;
mod sources;
mod tls;
mod unit;
mod vault;
mod wake;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Of whatever this program runs in this process: slot, prediction, evaluation, edge node.
    let (name, value) = bms_nn::onnx::NO_TELEMETRY;
    // Not set where a system does not tell how many threads there are; that is nowhere where slots are confined.
    let _ = bms_sandbox::set_variable(name, value);
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
