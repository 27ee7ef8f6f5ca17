//! Two or three processes on one store, whose operations happen in an order that a seed decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};

use crate::faulty::{Fate, Gate, failed};

#[derive(Debug, Default)]
struct State {
    /// Operations that wait, by process.
    waiting: BTreeMap<usize, Vec<oneshot::Sender<()>>>,
    /// Processes that go on.
    running: Vec<usize>,
}

/// Lets one operation happen at a time.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    state: Mutex<State>,
    arrived: Notify,
}

/// The gate of one process.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) process: usize,
}

#[async_trait]
impl Gate for Paced {
    async fn pass(&self, _writes: bool) -> (Fate, object_store::Error) {
        let (sender, receiver) = oneshot::channel();
        self.scheduler.state.lock().unwrap().waiting.entry(self.process).or_default().push(sender);
        self.scheduler.arrived.notify_one();
        receiver.await.unwrap();
        (Fate::Done, failed("never"))
    }
}

impl Scheduler {
    pub(crate) fn begin(&self, process: usize) {
        self.state.lock().unwrap().running.push(process);
    }

    pub(crate) fn end(&self, process: usize) {
        self.state.lock().unwrap().running.retain(|running| *running != process);
        self.arrived.notify_one();
    }

    /// Runs until every process ended. A turn is given when each that runs waits for one, so that the seed alone decides.
    pub(crate) async fn run(&self, seed: u64) -> u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut turns = 0;
        loop {
            let turn = {
                let mut state = self.state.lock().unwrap();
                if state.running.is_empty() {
                    return turns;
                }
                let all = state
                    .running
                    .iter()
                    .all(|process| state.waiting.get(process).is_some_and(|waiting| !waiting.is_empty()));
                all.then(|| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    // Long stretches of one process are as telling as quick changes.
                    let choice =
                        if seed.is_multiple_of(2) { random >> 33 } else { (turns / (1 + seed % 7)) ^ seed };
                    let process = state.running[choice as usize % state.running.len()];
                    state.waiting.get_mut(&process).unwrap().remove(0)
                })
            };
            match turn {
                Some(turn) => {
                    turns += 1;
                    // One that was given up meanwhile does not take its turn.
                    let _ = turn.send(());
                }
                None => self.arrived.notified().await,
            }
        }
    }
}
