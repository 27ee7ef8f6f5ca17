//! `cargo xtask bench scan`: our scanner and others over a labelled corpus, and on one large benign checkpoint.

mod checkpoint;
mod report;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use self::report::Row;
use crate::arguments::Arguments;
use crate::{process, python};

/// The other scanners, from the Python package index.
const PEERS: [&str; 4] = ["picklescan", "modelscan", "modelaudit", "fickling"];
/// What runs them, file by file in one process.
const RUNNER: &str = include_str!("scan/peers.py");
/// Bytes of the checkpoint.
const CHECKPOINT_BYTES: usize = 200 << 20;

/// A file of the corpus.
#[derive(Deserialize)]
struct Label {
    file: String,
    malicious: bool,
}

/// What a scanner said of a file.
#[derive(Deserialize)]
pub(super) struct Verdict {
    file: String,
    flagged: bool,
    /// It gave up, which is no detection.
    #[serde(default)]
    error: bool,
    micros: u64,
}

pub(super) fn run(mut arguments: Arguments) -> Result<std::process::ExitCode> {
    let corpus =
        arguments.value("--corpus")?.context("`--corpus DIR` is needed, a folder with `labels.json`")?;
    let peers = arguments.value("--peers")?;
    let install = arguments.flag("--install-peers");
    arguments.finish()?;
    let corpus = std::path::absolute(corpus)?;
    let labels = std::fs::read(corpus.join("labels.json")).context("failed to read the corpus's labels")?;
    let labels: Vec<Label> = serde_json::from_slice(&labels).context("`labels.json` is no list of files")?;
    let labels: BTreeMap<String, bool> =
        labels.into_iter().map(|label| (label.file, label.malicious)).collect();
    ensure!(!labels.is_empty(), "the corpus is empty");
    let scratch = TempDir::new()?;
    let python = with_peers(peers, install, scratch.path())?;
    let checkpoint = scratch.path().join("checkpoint.pt");
    checkpoint::write(&checkpoint, CHECKPOINT_BYTES)?;

    let ours = ours()?;
    let mut rows = vec![Row::of("bms", &labels, &lines(Command::new(&ours).arg("--json").arg(&corpus))?)];
    let speed = process::output(Command::new(&ours).arg("--throughput").arg(&checkpoint))?;
    let mut speeds =
        vec![("bms".to_owned(), serde_json::from_str(&speed).context("no figures for the checkpoint")?)];
    if let Some(python) = python {
        let runner = scratch.path().join("peers.py");
        std::fs::File::create(&runner)?.write_all(RUNNER.as_bytes())?;
        for peer in PEERS {
            if !process::answers(&python, &["-c", &format!("import {peer}")]) {
                eprintln!("{peer} is not installed");
                continue;
            }
            eprintln!("running {peer}");
            let command = |mode: &str, path: &Path| {
                let mut command = Command::new(&python);
                command.arg(&runner).args([peer, mode]).arg(path).env("PYTHONWARNINGS", "ignore");
                command
            };
            rows.push(Row::of(peer, &labels, &lines(&mut command("corpus", &corpus))?));
            let speed = process::output(&mut command("throughput", &checkpoint))?;
            let last = speed.lines().last().unwrap_or_default();
            speeds.push((
                peer.to_owned(),
                serde_json::from_str(last).context("no figures for the checkpoint")?,
            ));
        }
    }
    print!("{}", report::text(&rows, &speeds));
    Ok(std::process::ExitCode::SUCCESS)
}

/// The Python with the others: of the given environment, or of a fresh one.
fn with_peers(given: Option<String>, install: bool, scratch: &Path) -> Result<Option<PathBuf>> {
    if let Some(dir) = given {
        let python = std::path::absolute(dir)?.join("bin/python");
        ensure!(python.exists(), "there is no `{}`", python.display());
        return Ok(Some(python));
    }
    if !install {
        return Ok(None);
    }
    python::make(&scratch.join("peers"), PEERS).map(Some)
}

/// Our measuring program, freshly built.
fn ours() -> Result<PathBuf> {
    let arguments = ["build", "--release", "-p", "bms-bundle", "--example", "measure_scan"];
    process::run(process::cargo().args(arguments))?;
    let metadata =
        process::output(process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
    Ok(Path::new(target)
        .join("release/examples")
        .join(format!("measure_scan{}", std::env::consts::EXE_SUFFIX)))
}

/// The verdicts a program prints, one a line; other lines are its own.
fn lines(command: &mut Command) -> Result<Vec<Verdict>> {
    let printed = process::output(command)?;
    let verdicts = printed.lines().filter(|line| line.starts_with('{'));
    verdicts
        .map(|line| serde_json::from_str(line).with_context(|| format!("`{line}` is no verdict")))
        .collect()
}
