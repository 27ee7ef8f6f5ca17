//! `bms scan`: what files are, and whether they attack whoever loads them.

mod bom;
mod sarif;

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bms_bundle::scan::{self, Facts, Scanned, Target};
use bms_bundle::{Content, Finding, Nature, Severity};
use bms_wire::{Code, Error, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cmd::registry::ServerOption;
use crate::output::{self, Output};

/// What a path begins with that names a model of the registry.
const REGISTRY: &str = "model:";
/// Bytes hashed at once.
const PIECE_BYTES: usize = 4 << 20;

/// Options of `bms scan`.
#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Files, folders, or `model:NAME[@VERSION]` for what is in the server's registry (a number, an alias, or the latest).
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print the result; `json` is one object a line, as with `--json`.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Shape>,
    /// Deny from this severity on.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "medium")]
    deny: Level,
    #[command(flatten)]
    server: ServerOption,
}

/// Forms of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// A table for people.
    Table,
    /// One JSON object a line.
    Json,
    /// SARIF 2.1.0, for code-scanning tools.
    Sarif,
    /// CycloneDX 1.6: a bill of materials of models, findings as vulnerabilities.
    Cyclonedx,
}

/// Severities, as options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Low,
    Medium,
    High,
    Critical,
}

impl Level {
    fn severity(self) -> Severity {
        match self {
            Level::Low => Severity::Low,
            Level::Medium => Severity::Medium,
            Level::High => Severity::High,
            Level::Critical => Severity::Critical,
        }
    }
}

/// One file's result.
struct Outcome {
    scanned: Scanned,
    denied: bool,
    /// Hex SHA-256 and what the file says of itself; only a bill of materials needs them.
    details: Option<(String, Facts)>,
}

/// One file to be scanned, and what to call it.
enum Source {
    File(Target),
    /// A file of the registry: name, digest, bytes.
    Blob(String, String, u64),
}

impl Source {
    fn size_bytes(&self) -> u64 {
        match self {
            Source::File(target) => target.size_bytes,
            Source::Blob(_, _, size) => *size,
        }
    }
}

impl Scan {
    /// Prints what was found; ends with the exit code of `malicious_content` when any file is denied.
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let shape = match self.format {
            Some(shape) => shape,
            None if output.is_json() => Shape::Json,
            None => Shape::Table,
        };
        // A machine reads one form on standard output, and nothing between.
        let output = &Output::new(shape == Shape::Json);
        let mut sources = Vec::new();
        for path in &self.paths {
            sources.extend(self.sources(path)?);
        }
        let outcomes = self.outcomes(&sources, shape, output)?;
        match shape {
            Shape::Json => {}
            Shape::Table => print_table(&outcomes, output),
            Shape::Sarif => print_document(&sarif::document(&outcomes), output),
            Shape::Cyclonedx => print_document(&bom::document(&outcomes), output),
        }
        let denied = outcomes.iter().filter(|outcome| outcome.denied).count();
        if denied == 0 {
            return Ok(());
        }
        let what = format!("{denied} of {} files are denied", outcomes.len());
        let error = Error::new(Code::MaliciousContent, what).hint("Do not load them; the findings say why.");
        // Not returned: with `--json` it would become another line among those of the files.
        Output::new(false).error(&error);
        std::process::exit(i32::from(error.code().exit()))
    }

    /// What a path on the command line names.
    fn sources(&self, path: &Path) -> Result<Vec<Source>> {
        let Some(name) = path.to_str().and_then(|path| path.strip_prefix(REGISTRY)) else {
            return Ok(scan::targets(path)?.into_iter().map(Source::File).collect());
        };
        let (model, version) = name.split_once('@').unwrap_or((name, "latest"));
        let version = self.server.client()?.version(model, version)?;
        let name = |file: &str| format!("{REGISTRY}{}@{}/{file}", version.model, version.version);
        let files = version.files.iter();
        Ok(files.map(|file| Source::Blob(name(&file.path), file.blake3.clone(), file.size)).collect())
    }

    /// Scans all of them, with progress by bytes.
    fn outcomes(&self, sources: &[Source], shape: Shape, output: &Output) -> Result<Vec<Outcome>> {
        let progress = output.progress("scanning", sources.iter().map(Source::size_bytes).sum());
        let mut outcomes = Vec::new();
        let mut done = 0;
        for source in sources {
            let (scanned, content) = match source {
                Source::File(target) => {
                    progress.note(&target.path.display().to_string());
                    target.scan()
                }
                Source::Blob(name, blake3, _) => {
                    progress.note(name);
                    self.blob(name, blake3)?
                }
            };
            let denied = scanned.findings.iter().any(|finding| self.deny.severity() <= finding.severity);
            let details = match (shape, &content) {
                (Shape::Cyclonedx, Some(content)) => {
                    Some((sha256(content), Facts::of(&scanned.path, scanned.format, content)))
                }
                _ => None,
            };
            let outcome = Outcome { scanned, denied, details };
            if shape == Shape::Json {
                print_line(&outcome, output);
            }
            outcomes.push(outcome);
            done += source.size_bytes();
            progress.at(done);
        }
        progress.done();
        Ok(outcomes)
    }

    /// Fetches a file of the registry into a temporary one, and scans it. Its digest must be what the registry says.
    fn blob(&self, name: &str, blake3: &str) -> Result<(Scanned, Option<Content>)> {
        let mut file = tempfile::NamedTempFile::new()
            .map_err(|e| Error::io("make a file in", &std::env::temp_dir(), e))?;
        let mut reader = self.server.client()?.get_blob(blake3)?;
        let copied = std::io::copy(&mut reader, file.as_file_mut());
        let settled = copied
            .and_then(|_| file.as_file_mut().flush())
            .and_then(|()| file.as_file_mut().seek(SeekFrom::Start(0)));
        settled.map_err(|e| Error::io("fetch", Path::new(name), e))?;
        let content = Content::open(file.path())?;
        let mut scanned = scan::scan_file(name, &content);
        if content.blake3() != blake3 {
            scanned.findings.push(Finding {
                rule: "unreadable".to_owned(),
                severity: Severity::High,
                nature: Nature::Malformed,
                message: "the bytes are not those the registry names".to_owned(),
                location: name.to_owned(),
            });
        }
        Ok((scanned, Some(content)))
    }
}

fn sha256(content: &[u8]) -> String {
    let mut hasher = Sha256::new();
    content.chunks(PIECE_BYTES).for_each(|piece| hasher.update(piece));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verdict(outcome: &Outcome) -> &'static str {
    if outcome.denied { "deny" } else { "allow" }
}

fn print_line(outcome: &Outcome, output: &Output) {
    let findings = outcome.scanned.findings.iter().map(|finding| {
        json!({"rule": finding.rule, "severity": finding.severity, "message": finding.message, "location": finding.location})
    });
    let line = json!({"path": outcome.scanned.path, "verdict": verdict(outcome), "findings": findings.collect::<Vec<_>>()});
    output.result("", &line);
}

fn print_table(outcomes: &[Outcome], output: &Output) {
    let mut table = output::table(&["verdict", "file", "what it is", "size", "findings"]);
    for outcome in outcomes {
        let findings = outcome.scanned.findings.iter().map(super::trust::describe);
        table.add_row([
            verdict(outcome).to_owned(),
            outcome.scanned.path.clone(),
            outcome.scanned.format.to_string(),
            output::bytes(outcome.scanned.size_bytes),
            findings.collect::<Vec<_>>().join("\n"),
        ]);
    }
    let denied = outcomes.iter().filter(|outcome| outcome.denied).count();
    output.raw(&format!("{table}\n{} files, {denied} denied\n", outcomes.len()));
}

fn print_document(document: &serde_json::Value, output: &Output) {
    output.raw(&format!("{document:#}\n"));
}
