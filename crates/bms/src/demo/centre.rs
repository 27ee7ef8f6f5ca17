//! The centre: a server process with registry, slots and dashboard.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use bms_wire::api::{EvaluationGate, SetAlias, Version};
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use serde_json::json;

use super::edge::Edge;
use super::place::Place;
use super::process::Process;
use crate::cmd::push::push;
use crate::cmd::serve::wait_until_told;
use crate::output::Output;

/// The small model of the edge.
pub(crate) const MODEL: &str = "digits";
/// The larger model of the centre.
pub(crate) const TEACHER: &str = "digits-teacher";
/// The alias that deployments follow.
pub(crate) const ALIAS: &str = "production";
/// How long a version may take from its promotion until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A running centre.
#[derive(Debug)]
pub(crate) struct Centre {
    process: Process,
    arguments: Vec<String>,
    log: std::path::PathBuf,
    home: std::path::PathBuf,
    /// Talks to it.
    pub(crate) client: Client,
    output: Output,
}

impl Centre {
    /// Starts it on `port`, or a free one when it is taken.
    pub(crate) fn start(place: &Place, port: u16, output: Output) -> Result<Centre> {
        let port = if TcpListener::bind(("127.0.0.1", port)).is_ok() { port } else { 0 };
        let arguments = |port: u16| {
            vec![
                "up".to_owned(),
                "--data".to_owned(),
                place.at("centre").display().to_string(),
                "--policy".to_owned(),
                place.policy.display().to_string(),
                "--listen".to_owned(),
                format!("127.0.0.1:{port}"),
            ]
        };
        let log = place.at("centre.log");
        let process = start(&place.home_dir, &log, &arguments(port))?;
        let client = Client::new(&process.url)?;
        // After a restart it must be found where it was.
        let port = process.url.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(port);
        let text = format!("serve      server and dashboard are at {}", process.url);
        output.event("stage", text, json!({"stage": "serve", "url": process.url}));
        Ok(Centre { process, arguments: arguments(port), log, home: place.home_dir.clone(), client, output })
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        self.process.url.clone()
    }

    /// Registers a bundle, points the alias at it, deploys it and waits until it serves.
    pub(crate) fn register(&self, model: &str, bundle: &Path) -> Result<()> {
        let version = push(&self.client, bundle, Some(model), &[ALIAS.to_owned()], &self.output)?;
        self.client.deploy(model, ALIAS)?;
        self.wait_until_serving(model)?;
        self.registered(&version);
        Ok(())
    }

    /// Registers a bundle as the next version; the alias moves only through the evaluation gate.
    pub(crate) fn register_better(&self, model: &str, bundle: &Path) -> Result<()> {
        let version = push(&self.client, bundle, Some(model), &[], &self.output)?;
        let require = Some(EvaluationGate { metric: "accuracy".to_owned(), max_drop: 0.0 });
        let version = self.client.set_alias(
            model,
            ALIAS,
            &SetAlias { version: version.version, require, current: None },
        )?;
        self.registered(&version);
        Ok(())
    }

    fn registered(&self, version: &Version) {
        let text = format!("register   {}@{} is {ALIAS}", version.model, version.version);
        let value = json!({"stage": "register", "model": version.model, "version": version.version,
            "digest": version.digest});
        self.output.event("stage", text, value);
    }

    /// Waits until the model answers.
    pub(crate) fn wait_until_serving(&self, model: &str) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while Instant::now() < deadline {
            if self.client.is_model_ready(model)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let problem =
            self.client.deployments()?.into_iter().find(|d| d.model == model).and_then(|d| d.problem);
        let why = problem.unwrap_or_else(|| "it did not become ready in time".to_owned());
        Err(Error::new(Code::Unavailable, format!("failed to serve `{model}`: {why}")))
    }

    /// Ends it as a power cut would; what comes back starts it again, at the same address.
    pub(crate) fn power_cut(self) -> Result<Down> {
        self.process.kill()?;
        Ok(Down { arguments: self.arguments, log: self.log, home: self.home, output: self.output })
    }

    /// Leaves server, dashboard and edge running until Ctrl-C.
    pub(crate) fn stay(mut self, edge: &Edge, output: Output) -> Result<()> {
        let text = format!(
            "\nThe dashboard is at {}  (edge node: {}). Ctrl-C ends everything.",
            self.url(),
            edge.client.base()
        );
        output.event("running", text, json!({"dashboard": self.url(), "edge": edge.client.base()}));
        wait_until_told(|| !self.process.is_running())?;
        Ok(())
    }
}

/// A centre without power.
#[derive(Debug)]
pub(crate) struct Down {
    arguments: Vec<String>,
    log: std::path::PathBuf,
    home: std::path::PathBuf,
    output: Output,
}

impl Down {
    /// Starts it again, with what it had stored, and waits until both models serve.
    pub(crate) fn power_back(self) -> Result<Centre> {
        let Down { arguments, log, home, output } = self;
        let log = log.with_file_name("centre-again.log");
        let process = start(&home, &log, &arguments)?;
        let client = Client::new(&process.url)?;
        let centre = Centre { process, arguments, log, home, client, output };
        for model in [MODEL, TEACHER] {
            centre.wait_until_serving(model)?;
        }
        Ok(centre)
    }
}

fn start(home: &Path, log: &Path, arguments: &[String]) -> Result<Process> {
    Process::start(home, log, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}
