//! The load tool, once for each kind of request, with both replicas to ask.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::scene::{LANGUAGE, Scene, TENSORS};
use super::{Course, RETRIES};
use crate::process;

/// What is asked for besides streams: a name, the protocol, the model, requests a second.
const KINDS: [(&str, &str, &str, u32); 4] = [
    ("tensors as JSON", "infer", TENSORS, 40),
    ("tensors as bytes", "binary", TENSORS, 20),
    ("tensors by gRPC", "grpc", TENSORS, 40),
    ("embeddings", "embeddings", LANGUAGE, 5),
];
/// Connections of each kind: what is due while requests wait for a slot has connections enough.
const CONNECTIONS: u32 = 64;
/// Seconds an answer may take, longer than a server takes to give up.
const TIMEOUT: u32 = 60;

/// What became of one kind of request.
pub(crate) struct Heard {
    pub(crate) kind: &'static str,
    pub(crate) report: Value,
}

/// Asks as long as the course lasts.
pub(crate) fn run(scene: &Scene, course: &Course) -> Result<Vec<Heard>> {
    let started = KINDS.map(|(kind, protocol, model, rate)| {
        let seconds = course.length.saturating_sub(course.begin.elapsed()).as_secs();
        let mut command = scene.ours.command(&["bench", "serve", model, "--json", "--protocol", protocol]);
        for (option, value) in [
            ("--seconds", seconds.to_string()),
            ("--rate", rate.to_string()),
            ("--connections", CONNECTIONS.to_string()),
            ("--timeout", TIMEOUT.to_string()),
            ("--retries", RETRIES.to_string()),
            ("--warm-up", "0".to_owned()),
            ("--prompt-words", "8".to_owned()),
        ] {
            command.args([option, &value]);
        }
        command.args(scene.replicas.iter().flat_map(|replica| ["--server".to_owned(), replica.url()]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child =
            command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)));
        (kind, child)
    });
    // All of them end, whatever one of them says.
    let heard = started.map(|(kind, child)| read(kind, child?));
    heard.into_iter().collect()
}

fn read(kind: &'static str, child: Child) -> Result<Heard> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
    let report: Value = serde_json::from_str(last).with_context(|| format!("{kind}: `{text}`"))?;
    ensure!(report["answered"].is_u64(), "{kind}: {report}");
    Ok(Heard { kind, report })
}
