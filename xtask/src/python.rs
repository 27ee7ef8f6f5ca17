//! Python environments, each with packages of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process;

/// Makes an environment in the folder and installs into it what `pip install` is told; gives its Python.
pub(crate) fn make(dir: &Path, pip_install: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<PathBuf> {
    process::output(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    let python = dir.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(pip_install);
    // Away from whatever lies around here that Python would take for a module.
    process::output(pip.current_dir(dir))?;
    Ok(python)
}
