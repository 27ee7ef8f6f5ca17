//! `bms audit`: the events a server noted, checked there or here.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use bms_bundle::PublicKey;
use bms_registry::AuditChain;
use bms_wire::api::AuditEvent;
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cmd::registry::ServerOption;
use crate::home::Home;
use crate::output::{self, Output};

/// Options of `bms audit`.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: Option<AuditAction>,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Clone, Debug, Subcommand)]
enum AuditAction {
    /// Show the events (the default).
    Show,
    /// Check the chain: no event edited, dropped or reordered, none cut off.
    Verify {
        /// A file that `bms audit export` wrote, checked here without a server.
        file: Option<PathBuf>,
        /// Public key of the server, which signed where the chain ends, PEM [default: this home folder's].
        #[arg(long, value_name = "FILE", requires = "file")]
        key: Option<PathBuf>,
    },
    /// Write all events with their chain to a file, as JSON lines; the last is the signed end of the chain.
    Export {
        /// Where they go; must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl Audit {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        match self.action.unwrap_or(AuditAction::Show) {
            AuditAction::Show => show(&self.server, output),
            AuditAction::Verify { file: None, .. } => {
                let events = self.server.client()?.verify_audit()?;
                report(events, output);
                Ok(())
            }
            AuditAction::Verify { file: Some(file), key } => {
                let key = match key {
                    Some(path) => PublicKey::load(&path)?,
                    None => home.audit_key()?.public().clone(),
                };
                let events = verify_file(&file, &key)
                    .map_err(|e| e.while_doing(format_args!("verify `{}`", file.display())))?;
                report(events, output);
                Ok(())
            }
            AuditAction::Export { out } => {
                let events = export(&self.server, &out)?;
                let text = format!("wrote {events} events to `{}`", out.display());
                output.result(text, &json!({"events": events, "file": out}));
                Ok(())
            }
        }
    }
}

fn report(events: u64, output: &Output) {
    let text = format!("the audit log holds: {events} events");
    output.result(text, &json!({"verified": true, "events": events}));
}

fn show(server: &ServerOption, output: &Output) -> Result<()> {
    let client = server.client()?;
    let mut events: Vec<AuditEvent> = Vec::new();
    loop {
        let page = client.audit(events.last().map_or(0, |e| e.sequence))?;
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    let mut table = output::table(&["#", "action", "subject", "details"]);
    for event in &events {
        table.add_row([
            event.sequence.to_string(),
            event.action.clone(),
            event.subject.clone(),
            event.details.to_string(),
        ]);
    }
    output.result(table, &events);
    Ok(())
}

/// Writes the events up to the end that the server signs first: what comes after that is the next export's.
fn export(server: &ServerOption, out: &Path) -> Result<u64> {
    let client = server.client()?;
    let head = client.audit_head()?;
    let end = AuditChain::length_claimed(&head)?;
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io("make a file in", folder, e))?;
    let mut writer = std::io::BufWriter::new(file.as_file_mut());
    let io = |e: std::io::Error| Error::io("write", out, e);
    let mut last = 0;
    while last < end {
        let page = client.audit(last)?;
        if page.is_empty() {
            return Err(Error::new(
                Code::Tampered,
                format!("the server's events end at {last}, not at {end}"),
            ));
        }
        for event in page.iter().filter(|event| event.sequence <= end) {
            serde_json::to_writer(&mut writer, event).map_err(|e| io(e.into()))?;
            writer.write_all(b"\n").map_err(io)?;
            last = event.sequence;
        }
    }
    writer.write_all(head.trim_end().as_bytes()).and_then(|()| writer.write_all(b"\n")).map_err(io)?;
    writer.flush().map_err(io)?;
    drop(writer);
    file.as_file().sync_all().map_err(io)?;
    file.persist_noclobber(out).map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Code::Conflict, format!("`{}` exists already", out.display()))
        }
        _ => io(e.error),
    })?;
    Ok(end)
}

fn verify_file(path: &Path, key: &PublicKey) -> Result<u64> {
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut chain = AuditChain::default();
    let mut lines = std::io::BufReader::new(file).lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.map_err(|e| Error::io("read", path, e))?;
        match lines.peek() {
            Some(_) => chain.push(&line)?,
            None => return chain.end(&line, key),
        }
    }
    Err(Error::new(Code::Tampered, "there is nothing in it"))
}
