//! Running other programs, with errors that name them.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The cargo that started this program, so that everything runs on one toolchain.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The program and its arguments, as a person would type them.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs to the end, output passed through.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("failed to start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and gives back standard output; standard error is part of the failure's message.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("failed to start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not print text"))
}

/// What a program printed, line by line, and whether it succeeded.
pub(crate) struct Printed {
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    pub(crate) success: bool,
}

/// Runs to the end; passes both outputs through and keeps their lines.
pub(crate) fn tee(command: &mut Command) -> Result<Printed> {
    let shown = shown(command);
    let (mut child, out, err) = piped(command)?;
    // Two readers: a program that fills one pipe while the other is being read would wait for ever.
    let reader = std::thread::spawn(move || pass(err));
    let out = pass(out);
    let err = reader.join().unwrap_or_default();
    let status = child.wait().with_context(|| format!("failed to wait for `{shown}`"))?;
    Ok(Printed { out, err, success: status.success() })
}

/// Starts a program that reads nothing, with what it will print to its standard output and to its standard error.
pub(crate) fn piped(command: &mut Command) -> Result<(Child, ChildStdout, ChildStderr)> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{shown}`"))?;
    let out = child.stdout.take().context("standard output was not piped")?;
    let err = child.stderr.take().context("standard error was not piped")?;
    Ok((child, out, err))
}

fn pass(from: impl std::io::Read) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // A closed terminal must not lose the lines still to be counted.
        let _ = writeln!(std::io::stdout(), "{line}");
        lines.push(line);
    }
    lines
}

/// Whether a program starts and answers `arguments` with success.
pub(crate) fn answers(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
