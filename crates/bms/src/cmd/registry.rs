//! Commands that talk to a server's registry: models, promote.

use bms_wire::Result;
use bms_wire::api::{EvaluationGate, SetAlias};
use bms_wire::client::Client;
use clap::Args;

use crate::api_key::ApiKeyOption;
use crate::output::{self, Output};

/// Which server.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerOption {
    /// The server's address.
    #[arg(long, env = "BMS_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) key: ApiKeyOption,
}

impl ServerOption {
    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client> {
        self.key.client(&self.server)
    }
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
