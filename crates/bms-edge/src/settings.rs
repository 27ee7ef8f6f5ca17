//! What an edge node is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bms_bundle::Policy;
use bms_engine::EngineOptions;
use bms_wire::client::ServerKey;
use bms_wire::{Code, Error, Result, limits};

/// How an edge node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name at the centre: `[a-z0-9][a-z0-9._-]*`.
    pub node: String,
    /// The model it answers with.
    pub model: String,
    /// The centre's address, `http://HOST:PORT` or `https://HOST:PORT`.
    pub centre: String,
    /// PEM file of the certificate authorities that vouch for the centre at an `https://` address; those the system trusts when
    /// absent.
    pub authorities: Option<PathBuf>,
    /// The key for it, where it needs one.
    pub key: Option<ServerKey>,
    /// Where it answers; a loopback address, since requests carry no credentials.
    pub listen: SocketAddr,
    /// Folder of its state: slots, downloads, outbox. Used by one agent at a time.
    pub dir: PathBuf,
    /// What may be loaded.
    pub policy: Policy,
    /// How the model is loaded and batched.
    pub engine: EngineOptions,
    /// Pictures whose best label has a lower probability than this, from 0 to 1, go to the centre.
    pub confidence_threshold: f32,
    /// How often it reports to the centre.
    pub report_every: Duration,
    /// The longest pause after failures; pauses double up to it.
    pub backoff_max: Duration,
    /// How long an answer waits at most for its samples to be on disk. One that is not by then
    /// is written all the same; the answer then does not say that it was queued.
    pub queue_wait: Duration,
    /// Bytes the outbox may take on disk.
    pub outbox_bytes_max: u64,
    /// How long open requests get to finish on shutdown, at most [`limits::DRAIN_SECONDS_MAX`].
    pub drain: Duration,
}

impl Settings {
    /// Settings with the defaults: listening on `127.0.0.1:8090`, threshold 0.8, a report every 5 s,
    /// pauses up to 60 s, 20 ms for the disk, an outbox of 1 GiB, 10 s to drain.
    pub fn new(
        node: impl Into<String>,
        model: impl Into<String>,
        centre: impl Into<String>,
        dir: impl Into<PathBuf>,
        policy: Policy,
    ) -> Settings {
        Settings {
            node: node.into(),
            model: model.into(),
            centre: centre.into(),
            authorities: None,
            key: None,
            listen: (Ipv4Addr::LOCALHOST, 8090).into(),
            dir: dir.into(),
            policy,
            engine: EngineOptions::default(),
            confidence_threshold: 0.8,
            report_every: Duration::from_secs(5),
            backoff_max: Duration::from_secs(60),
            queue_wait: Duration::from_millis(20),
            outbox_bytes_max: 1 << 30,
            drain: Duration::from_secs(10),
        }
    }

    /// # Errors
    /// [`Code::InvalidRequest`] naming the setting that is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Code::InvalidRequest, what));
        for (what, name) in [("node", &self.node), ("model", &self.model)] {
            if bms_bundle::check_name(name).is_err() {
                let error = Error::new(Code::InvalidRequest, format!("`{name}` is not a {what} name"));
                return Err(error.hint(format!(
                    "Use lower-case letters, digits, `.`, `_` and `-`, at most {} characters.",
                    limits::NAME_CHARS_MAX
                )));
            }
        }
        if !(0.0..=1.0).contains(&self.confidence_threshold) {
            return refuse(format!("the threshold {} is not between 0 and 1", self.confidence_threshold));
        }
        if self.report_every.is_zero() || self.backoff_max < self.report_every {
            return refuse(
                "the time between reports must be above zero and within the longest pause".to_owned(),
            );
        }
        if self.outbox_bytes_max < 2 * limits::EDGE_SAMPLE_BYTES_MAX as u64 {
            return refuse(format!("an outbox of {} bytes holds no sample", self.outbox_bytes_max));
        }
        Ok(())
    }
}
