//! The same requests without a server: what a server adds is what its answers take longer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bms_bundle::Policy;
use bms_engine::{Engine, Input, oip};
use bms_wire::Result;
use tokio::sync::oneshot;

use super::tally::{Outcome, Streamed};
use super::work::Ask;
use crate::cmd::serve::RuntimeOptions;
use crate::run_model;

/// A model in this process and its requests, read already.
#[derive(Clone, Debug)]
pub(super) struct InProcess {
    engine: Arc<Engine>,
    inputs: Arc<Vec<Input>>,
    next: Arc<AtomicUsize>,
}

impl InProcess {
    /// # Errors
    /// The refusal of the gate or the engine, and requests that do not fit the model.
    pub(super) fn load(
        bundle: &Path,
        policy: &Policy,
        options: &RuntimeOptions,
        asks: &[Ask],
    ) -> Result<InProcess> {
        let engine = run_model::load(bundle, policy, options)?;
        let input = |ask: &Ask| Ok(oip::read(engine.describe(), &ask.body, ask.head_bytes)?.0);
        let inputs = Arc::new(asks.iter().map(input).collect::<Result<Vec<_>>>()?);
        Ok(InProcess { engine: Arc::new(engine), inputs, next: Arc::default() })
    }

    /// Asks the engine for the next answer, as a slot does.
    pub(super) async fn ask(&self) -> Outcome {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.inputs.len();
        let (sender, receiver) = oneshot::channel();
        let reply = move |answer| {
            // Whoever asked may have waited long enough.
            let _ = sender.send(answer);
        };
        let answer = match self.engine.submit(self.inputs[number].clone(), reply) {
            Ok(()) => receiver.await,
            Err(refusal) => return Outcome::Failed(refusal.to_string()),
        };
        match answer {
            Ok(Ok(_)) => Outcome::Answered(Streamed::default()),
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed("the engine ended".to_owned()),
        }
    }
}
