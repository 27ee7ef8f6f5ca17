//! `bms edge`.

use std::path::PathBuf;
use std::time::Duration;

use bms_engine::EngineOptions;
use bms_wire::{Code, Error, Result};
use clap::Args;

use crate::api_key::ApiKeyOption;
use crate::cmd::serve::{ListenOptions, RuntimeOptions, run_until_told};
use crate::home::{Home, PolicyOption};
use crate::output::Output;

/// Options of `bms edge`.
#[derive(Debug, Args)]
pub(crate) struct Edge {
    /// The centre's address.
    #[arg(long, value_name = "URL")]
    centre: String,
    #[command(flatten)]
    key: ApiKeyOption,
    /// The model to answer with.
    #[arg(long)]
    model: String,
    /// This node's name at the centre [default: the machine's name].
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where versions and waiting samples lie [default: the home folder's `edge`].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Pictures answered with less certainty than this go back to the centre.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    hard_below: f32,
    /// Seconds between reports to the centre, and so until a new version is noticed.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    report_seconds: f64,
    /// Longest pause between tries while the centre cannot be reached.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    retry_seconds: f64,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    listen: ListenOptions,
}

impl Edge {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let data = match self.data {
            Some(data) => data,
            None => home.dir()?.join("edge"),
        };
        let policy = self.policy.load(home)?;
        let node = match self.node {
            Some(node) => node,
            None => machine_name()?,
        };
        let defaults = bms_edge::Settings::new(node, self.model, self.centre, data, policy);
        let settings = bms_edge::Settings {
            key: self.key.key()?,
            authorities: self.key.authorities().map(Into::into),
            listen: self.listen.listen,
            engine: EngineOptions {
                runtime: self.runtime.runtime,
                threads: self.runtime.graph_threads(),
                ..EngineOptions::default()
            },
            confidence_threshold: self.hard_below,
            report_every: seconds("--report-seconds", self.report_seconds)?,
            backoff_max: seconds("--retry-seconds", self.retry_seconds)?,
            ..defaults
        };
        run_until_told(&self.listen, output, |listener, shutdown| async move {
            bms_edge::serve(settings, listener, shutdown).await
        })
    }
}

fn seconds(option: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).ok().filter(|d| !d.is_zero()).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("{option} {value} is not a positive number of seconds"))
    })
}

/// The machine's name as a node's name.
fn machine_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String =
        name.trim().to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(name);
    }
    Err(Error::new(Code::InvalidRequest, "this machine's name is no node name")
        .hint("Name the node with --node."))
}
