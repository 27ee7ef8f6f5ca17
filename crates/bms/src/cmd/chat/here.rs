//! A model loaded into this process.

use std::sync::atomic::{AtomicBool, Ordering};

use bms_bundle::Verified;
use bms_server::LanguageLaunch;
use bms_server::slot::LocalModel;
use bms_wire::conversation::Message;
use bms_wire::{Code, Error, Result};

use super::partner::{Manner, Outcome, Partner, Said};
use super::protocol::{self, Following};

/// A loaded model.
#[derive(Debug)]
pub(super) struct Here(LocalModel);

impl Here {
    /// Loads a model that passed the gate.
    pub(super) fn load(
        verified: &Verified,
        threads: Option<usize>,
        language: LanguageLaunch,
    ) -> Result<Self> {
        LocalModel::load(verified, threads, language).map(Here)
    }
}

impl Partner for Here {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn answer(
        &mut self,
        messages: &[Message],
        manner: &Manner,
        stopped: &AtomicBool,
        say: &mut dyn FnMut(Said<'_>),
    ) -> Result<Outcome> {
        let mut following = Following::begin();
        let mut lines = Lines::default();
        let mut failure = None;
        let body = protocol::body(self.0.name(), messages, manner);
        self.0.post(protocol::PATH, &body, |piece| {
            let heard = lines.push(piece, |line| following.line(line, say));
            failure = heard.err();
            failure.is_none() && !stopped.load(Ordering::Relaxed)
        })?;
        match failure {
            Some(error) => Err(error),
            None => Ok(following.end(stopped.load(Ordering::Relaxed))),
        }
    }
}

/// Lines of what comes in pieces.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, piece: &[u8], mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.0.extend_from_slice(piece);
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.0.drain(..=end).collect();
            let text = std::str::from_utf8(&whole)
                .map_err(|e| Error::new(Code::Internal, "the answer is no text").because(e))?;
            line(text.trim_end())?;
        }
        Ok(())
    }
}
