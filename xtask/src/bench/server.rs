//! A server while it is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::serve::{Serves, Shape};
use super::{Plan, http, load, memory};
use crate::services::place::free_port;

/// How long a server may take to its first token.
const START_MAX: Duration = Duration::from_secs(300);
/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How long a server may take to end.
const END_MAX: Duration = Duration::from_secs(10);

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// The name it gives its model.
    model: String,
    /// From the start of the program to the first token.
    pub(crate) first_token: Duration,
}

impl Server {
    /// Starts a server and waits for its first token.
    pub(crate) fn start(engine: &dyn Serves, plan: &Plan, shape: Shape, prompt: &[u32]) -> Result<Server> {
        let port = free_port(0)?;
        let begin = Instant::now();
        let child = engine.start(plan, port, shape)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Server { child, address, model: String::new(), first_token: Duration::ZERO };
        loop {
            let tried = server.try_first(prompt);
            match tried {
                Ok(()) => break,
                Err(error) if START_MAX < begin.elapsed() => {
                    return Err(error.context(format!("{} gave no token in time", engine.name())));
                }
                Err(_) => std::thread::sleep(RETRY_PAUSE),
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server of {} ended with {status} before its first token", engine.name());
            }
        }
        server.first_token = begin.elapsed();
        Ok(server)
    }

    fn try_first(&mut self, prompt: &[u32]) -> Result<()> {
        if self.model.is_empty() {
            let models: Value = serde_json::from_str(&http::get(self.address, "/v1/models")?)?;
            self.model = models["data"][0]["id"].as_str().context("no model is served")?.to_owned();
        }
        self.ask(prompt, 1).map(drop)
    }

    /// One streamed completion.
    pub(crate) fn ask(&self, prompt: &[u32], tokens: usize) -> Result<load::Answer> {
        load::ask(self.address, &self.model, prompt, tokens)
    }

    /// Peak memory of it and all its processes so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        memory::peak_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that watches its input ends in order; the other is told to.
        let watches = self.child.stdin.take().is_some();
        let begin = Instant::now();
        while watches && begin.elapsed() < END_MAX {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
