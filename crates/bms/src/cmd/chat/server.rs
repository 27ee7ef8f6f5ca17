//! A model behind an OpenAI-compatible server.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};

use bms_wire::client::Client;
use bms_wire::conversation::Message;
use bms_wire::openai::ModelList;
use bms_wire::{Code, Error, Result};

use crate::api_key::ApiKeyOption;

use super::partner::{Manner, Outcome, Partner, Said};
use super::protocol::{self, Following};

/// A model of a server.
#[derive(Debug)]
pub(super) struct Server {
    client: Client,
    model: String,
}

impl Server {
    /// The model of this name, or the first the server lists.
    pub(super) fn new(url: &str, model: Option<String>, key: &ApiKeyOption) -> Result<Self> {
        let base = url.trim_end_matches('/');
        let client = key.client(base.strip_suffix("/v1").unwrap_or(base))?;
        let model = match model {
            Some(model) => model,
            None => {
                let listed: ModelList = client.get("/v1/models")?;
                let first = listed.data.into_iter().next().map(|model| model.id);
                first.ok_or_else(|| {
                    Error::new(Code::ModelNotFound, format!("{base} serves no language model"))
                        .hint("Serve one with `bms serve model.gguf`, or deploy one.")
                })?
            }
        };
        Ok(Server { client, model })
    }
}

impl Partner for Server {
    fn name(&self) -> &str {
        &self.model
    }

    fn answer(
        &mut self,
        messages: &[Message],
        manner: &Manner,
        stopped: &AtomicBool,
        say: &mut dyn FnMut(Said<'_>),
    ) -> Result<Outcome> {
        let mut following = Following::begin();
        let answer = self.client.stream(protocol::PATH, &protocol::body(&self.model, messages, manner))?;
        for line in BufReader::new(answer).lines() {
            let line = line.map_err(|e| {
                Error::new(Code::Unavailable, format!("the answer broke off: {e}")).because(e)
            })?;
            if stopped.load(Ordering::Relaxed) {
                // The connection closes with the reader, which cancels the answer at the server.
                return Ok(following.end(true));
            }
            following.line(&line, say)?;
        }
        Ok(following.end(false))
    }
}
