//! `cargo xtask bench store`: the store's speed, measured by an example of its crate, since this program links no async runtime.

use std::process::ExitCode;

use anyhow::Result;

use super::number;
use crate::arguments::Arguments;
use crate::{process, root};

pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let mib = number(arguments.value("--mib")?, "--mib")?;
    let rounds = number(arguments.value("--rounds")?, "--rounds")?;
    let dir = arguments.value("--dir")?;
    arguments.finish()?;
    let mut command = process::cargo();
    command.args(["run", "--release", "-p", "bms-store", "--example", "measure_store", "--"]);
    if let Some(mib) = mib {
        command.arg("--mib").arg(mib.to_string());
    }
    if let Some(rounds) = rounds {
        command.arg("--rounds").arg(rounds.to_string());
    }
    if let Some(dir) = dir {
        command.arg("--dir").arg(dir);
    }
    process::run(command.current_dir(root()))?;
    Ok(ExitCode::SUCCESS)
}
