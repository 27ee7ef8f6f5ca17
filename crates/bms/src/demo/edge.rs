//! The edge node of the demo, and what passes it.

use std::time::{Duration, Instant};

use bms_data::{Dataset, ImageSet};
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use serde_json::{Value, json};

use super::centre::{Centre, MODEL};
use super::place::Place;
use super::process::Process;
use crate::cmd::predict::classify;
use crate::output::Output;

/// Answers less sure than this go back to the centre.
const HARD_BELOW: &str = "0.9";
/// How long the edge may take to follow the centre.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(60);

/// A running edge node.
#[derive(Debug)]
pub(crate) struct Edge {
    _process: Process,
    /// Talks to it.
    pub(crate) client: Client,
    output: Output,
}

/// What passed the edge.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// Answers in all.
    pub(crate) answers: u64,
    /// Answers while the centre was down.
    pub(crate) offline_answers: u64,
    /// Hard samples the centre received.
    pub(crate) samples_sent: u64,
}

impl Edge {
    /// Starts a node that joins the centre.
    pub(crate) fn start(place: &Place, centre: &str, output: Output) -> Result<Edge> {
        let (data, policy) = (place.at("edge").display().to_string(), place.policy.display().to_string());
        let arguments = [
            "edge",
            "--centre",
            centre,
            "--model",
            MODEL,
            "--node",
            "demo-edge",
            "--data",
            &data,
            "--policy",
            &policy,
            "--listen",
            "127.0.0.1:0",
            "--hard-below",
            HARD_BELOW,
            "--report-seconds",
            "0.2",
            "--retry-seconds",
            "1",
        ];
        let process = Process::start(&place.home_dir, &place.at("edge.log"), &arguments)?;
        let client = Client::new(&process.url)?;
        let text = format!("edge       a node joined the centre; it answers at {}", process.url);
        output.event("stage", text, json!({"stage": "edge", "url": process.url}));
        Ok(Edge { _process: process, client, output })
    }

    /// Waits until it answers with this version.
    pub(crate) fn wait_for_version(&self, version: u64) -> Result<()> {
        self.wait(&format!("run version {version}"), |status| status["version"] == json!(version))?;
        let text = format!("edge       runs {MODEL}@{version}");
        self.output.event("stage", text, json!({"stage": "rollout", "version": version}));
        Ok(())
    }

    /// Its accuracy through its own HTTP endpoint. Nothing of this is kept for training.
    pub(crate) fn accuracy(&self, data: &Dataset) -> Result<f64> {
        let Dataset::Images(set) = data else {
            return Err(Error::new(Code::Internal, "the demo's data are pictures"));
        };
        let mut right = 0;
        for sample in &set.samples {
            let ranked = classify(&self.client, MODEL, &sample.image.encode_png()?, false)?;
            right += usize::from(ranked[0].label == set.labels[sample.label]);
        }
        Ok(right as f64 / set.samples.len() as f64)
    }

    /// Sends the stream past the edge. The centre loses its power after a third and gets it back after two.
    pub(crate) fn stream(&self, stream: &ImageSet, centre: Centre) -> Result<(Centre, Streamed)> {
        let before = self.status()?;
        let third = stream.samples.len() / 3;
        let progress = self.output.progress("digits pass the edge", stream.samples.len() as u64);
        let send = |range: std::ops::Range<usize>| -> Result<()> {
            for at in range {
                classify(&self.client, MODEL, &stream.samples[at].image.encode_png()?, true)?;
                progress.at(at as u64 + 1);
            }
            Ok(())
        };
        send(0..third)?;
        let down = centre.power_cut()?;
        self.wait("notice that the centre is down", |status| status["centre_reachable"] == json!(false))?;
        progress.note("the centre is down");
        send(third..2 * third)?;
        let centre = down.power_back()?;
        self.wait("notice that the centre is back", |status| status["centre_reachable"] == json!(true))?;
        progress.note("the centre is back");
        send(2 * third..stream.samples.len())?;
        let after = self.wait("deliver its hard samples", |status| status["outbox"] == json!(0))?;
        progress.done();
        let count = |name: &str| after[name].as_u64().unwrap_or(0) - before[name].as_u64().unwrap_or(0);
        let streamed = Streamed {
            answers: count("answers"),
            offline_answers: count("offline_answers"),
            samples_sent: centre.client.samples(MODEL, false)?.len() as u64,
        };
        let text = format!(
            "edge       answered {} digits, {} of them while the centre was down; {} hard samples went to the centre",
            streamed.answers, streamed.offline_answers, streamed.samples_sent
        );
        self.output.event(
            "stage",
            text,
            json!({"stage": "stream", "answers": streamed.answers,
            "offline_answers": streamed.offline_answers, "samples_sent": streamed.samples_sent}),
        );
        Ok((centre, streamed))
    }

    fn status(&self) -> Result<Value> {
        self.client.get("/api/v1/status")
    }

    fn wait(&self, what: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + FOLLOW_TIMEOUT;
        loop {
            let status = self.status()?;
            if done(&status) {
                return Ok(status);
            }
            if deadline < Instant::now() {
                return Err(Error::new(Code::DeadlineExceeded, format!("the edge did not {what}: {status}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
