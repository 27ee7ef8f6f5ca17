//! `cargo xtask bench guard --model FILE`: the example of the engine that flips bits, which the program itself cannot.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::arguments::Arguments;
use crate::process;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let model = arguments.value("--model")?.context("`--model FILE` is needed")?;
    let mut command = process::cargo();
    command.args(["run", "--release", "-p", "bms-engine", "--example", "guard", "--", &model]);
    for name in ["--flips", "--rounds", "--tokens"] {
        if let Some(value) = arguments.value(name)? {
            command.args([name, &value]);
        }
    }
    arguments.finish()?;
    process::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
