//! What a training tells while it runs.

use std::path::PathBuf;

use serde::Serialize;

use crate::curves::Point;

/// One piece of news from a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    /// The network is built and training begins.
    Started {
        /// Weights and biases.
        parameters: u64,
        /// Training samples.
        samples: usize,
        /// Epochs in all.
        epochs: usize,
        /// Steps in each epoch.
        steps: usize,
    },
    /// A checkpoint was loaded; training goes on after this epoch.
    Resumed {
        /// Last epoch done.
        epoch: usize,
        /// The checkpoint.
        path: PathBuf,
    },
    /// A checkpoint could not be used and the one before it is tried.
    CheckpointSkipped {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A step is done.
    Step {
        /// Epoch, from 1.
        epoch: usize,
        /// Step in the epoch, from 1.
        step: usize,
        /// Steps in the epoch.
        steps: usize,
        /// Loss of the step's batch.
        loss: f32,
        /// Accuracy on the step's batch, 0 to 1.
        accuracy: f32,
        /// Seconds until the last epoch's end, by the pace so far.
        eta_seconds: f64,
    },
    /// An epoch is done.
    Epoch {
        /// Its numbers.
        point: Point,
        /// Epochs in all.
        epochs: usize,
        /// Seconds it took.
        seconds: f64,
        /// Seconds until the last epoch's end, by the pace so far.
        eta_seconds: f64,
    },
    /// A checkpoint is safely on disk.
    CheckpointSaved {
        /// The checkpoint.
        path: PathBuf,
        /// Last epoch done.
        epoch: usize,
    },
    /// The validation loss has not improved for the allowed number of epochs; the best weights are kept.
    StoppedEarly {
        /// Last epoch done.
        epoch: usize,
        /// The epoch whose weights are kept.
        best_epoch: usize,
    },
}
