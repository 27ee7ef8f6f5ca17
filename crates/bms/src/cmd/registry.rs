//! Commands that talk to a server's registry: push, models, promote, deploy, audit.

use std::path::{Path, PathBuf};

use bms_bundle::Bundle;
use bms_wire::Result;
use bms_wire::api::{AuditEvent, EvaluationGate, FileRef, NewVersion, SetAlias, Version};
use bms_wire::client::Client;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::output::{self, Output};

/// Which server.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerOption {
    /// The server's address.
    #[arg(long, env = "BMS_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) server: String,
}

impl ServerOption {
    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(&self.server)
    }
}

/// Options of `bms push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The bundle's folder.
    bundle: PathBuf,
    /// Model name in the registry [default: the name in the manifest].
    #[arg(long)]
    model: Option<String>,
    /// Point this alias at the new version; can be given more than once.
    #[arg(long, value_name = "ALIAS")]
    alias: Vec<String>,
    #[command(flatten)]
    server: ServerOption,
}

impl Push {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let version = push(&self.server.client()?, &self.bundle, self.model.as_deref(), &self.alias, output)?;
        output.result(
            format_args!("{}@{} is registered ({})", version.model, version.version, version.digest),
            &version,
        );
        Ok(())
    }
}

/// Uploads the files the server does not have yet, then makes the version.
pub(crate) fn push(
    client: &Client,
    dir: &Path,
    model: Option<&str>,
    aliases: &[String],
    output: &Output,
) -> Result<Version> {
    let bundle = Bundle::open(dir)?;
    let model = match model {
        Some(model) => model.to_owned(),
        None => bundle.manifest_unverified()?.name,
    };
    let progress = output.progress("uploading", bundle.files().count() as u64);
    let mut files = Vec::new();
    for (path, content) in bundle.contents() {
        let file = FileRef { path: path.to_owned(), size: content.len() as u64, blake3: content.blake3() };
        if !client.has_blob(&file.blake3)? {
            client
                .put_blob(&file.blake3, content.reader(), file.size)
                .map_err(|e| e.while_doing(format!("upload `{}`", file.path)))?;
        }
        files.push(file);
        progress.at(files.len() as u64);
    }
    progress.done();
    client.publish(&model, &NewVersion { files, aliases: aliases.to_vec() })
}

/// Options of `bms models`.
#[derive(Debug, Args)]
pub(crate) struct Models {
    #[command(flatten)]
    server: ServerOption,
}

impl Models {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let models = self.server.client()?.models()?;
        let mut table =
            output::table(&["model", "version", "aliases", "size", "metrics", "signer", "digest"]);
        for version in models.iter().flat_map(|m| &m.versions) {
            let metrics: Vec<_> =
                version.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
            table.add_row([
                version.model.clone(),
                version.version.to_string(),
                version.aliases.join(", "),
                output::bytes(version.size_bytes),
                metrics.join(", "),
                version.signer.clone().unwrap_or_default(),
                version.digest.chars().take(12).collect(),
            ]);
        }
        output.result(table, &models);
        Ok(())
    }
}

/// Options of `bms promote`.
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// Model name.
    model: String,
    /// Version number.
    version: u64,
    /// The alias to move.
    #[arg(long, default_value = "production")]
    alias: String,
    /// Refuse unless this metric is at least the current version's, on the same evaluation data.
    #[arg(long, value_name = "METRIC")]
    require: Option<String>,
    /// How much lower the required metric may be.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "require")]
    max_drop: f64,
    /// Refuse unless the alias points at this version now; 0 when there must be no such alias.
    #[arg(long, value_name = "VERSION")]
    current: Option<u64>,
    #[command(flatten)]
    server: ServerOption,
}

impl Promote {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let require = self.require.map(|metric| EvaluationGate { metric, max_drop: self.max_drop });
        let change = SetAlias { version: self.version, require, current: self.current };
        let version = self.server.client()?.set_alias(&self.model, &self.alias, &change)?;
        output.result(
            format_args!("{} of {} is version {}", self.alias, self.model, version.version),
            &version,
        );
        Ok(())
    }
}

/// Options of `bms deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Model name.
    model: String,
    /// The alias whose version shall serve.
    #[arg(long, default_value = "production")]
    alias: String,
    #[command(flatten)]
    server: ServerOption,
}

impl Deploy {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let deployment = self.server.client()?.deploy(&self.model, &self.alias)?;
        let version = deployment.version.map_or("none yet".to_owned(), |v| v.to_string());
        output.result(
            format_args!("{} serves {} (version {version})", deployment.model, deployment.alias),
            &deployment,
        );
        Ok(())
    }
}

/// Options of `bms audit`.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: Option<AuditAction>,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum AuditAction {
    /// Show the events (the default).
    Show,
    /// Check the chain: no event edited, dropped or reordered.
    Verify,
}

impl Audit {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.server.client()?;
        if let Some(AuditAction::Verify) = self.action {
            let events = client.verify_audit()?;
            output.result(
                format_args!("the audit log holds: {events} events"),
                &json!({"verified": true, "events": events}),
            );
            return Ok(());
        }
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
}
