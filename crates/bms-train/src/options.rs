//! What the caller decides about a training.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bms_data::Dataset;
use bms_data::augment::Plan;
use bms_wire::{Code, Error, Result};

use crate::network::design::Architecture;

/// How a model is trained. [`TrainOptions::new`] fills in what suits small data sets.
#[derive(Clone, Debug)]
pub struct TrainOptions<'a> {
    /// Name of the model, `[a-z0-9][a-z0-9._-]*`.
    pub name: String,
    /// Kind and size of the network.
    pub architecture: Architecture,
    /// Passes over the training data.
    pub epochs: usize,
    /// Samples in one step.
    pub batch: usize,
    /// Highest learning rate of AdamW.
    pub learning_rate: f64,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f32,
    /// Share of each target spread over all labels, 0 to below 1.
    pub label_smoothing: f32,
    /// Epochs in which the learning rate rises to its highest.
    pub warmup_epochs: usize,
    /// Decides initial weights, order, augmentation and dropout: the same seed gives the same bits.
    pub seed: u64,
    /// Augmentation of pictures, drawn anew in each epoch.
    pub augment: Option<Plan>,
    /// Columns and rows pictures are resized to; by default the first picture's size, scaled down to at
    /// most 224 on its longer side.
    pub picture_size: Option<(u32, u32)>,
    /// Data to measure each epoch on; never trained on.
    pub validation: Option<&'a Dataset>,
    /// Stop when the validation loss has not improved for this many epochs, and keep the best weights.
    pub patience: Option<usize>,
    /// Where to keep checkpoints, one after each epoch.
    pub checkpoint_dir: Option<PathBuf>,
    /// Go on from the newest checkpoint, when there is one.
    pub resume: bool,
    /// Threads; 0 means one per processor. The result does not depend on it.
    pub threads: usize,
    /// What people call the training data, for the bundle's lineage.
    pub data_name: String,
    /// What people call the validation data, for the bundle's metrics.
    pub validation_name: String,
    /// SPDX licence expression for the bundle.
    pub licence: Option<String>,
    /// Set by another thread to stop after the current step, with `Unavailable`.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl<'a> TrainOptions<'a> {
    /// 30 epochs of batches of 32, learning rate 0.002 after one epoch of warm-up, weight decay 0.01, seed 1;
    /// no augmentation, validation, checkpoints or early stopping.
    pub fn new(name: impl Into<String>, architecture: Architecture) -> TrainOptions<'a> {
        TrainOptions {
            name: name.into(),
            architecture,
            epochs: 30,
            batch: 32,
            learning_rate: 0.002,
            weight_decay: 0.01,
            label_smoothing: 0.0,
            warmup_epochs: 1,
            seed: 1,
            augment: None,
            picture_size: None,
            validation: None,
            patience: None,
            checkpoint_dir: None,
            resume: false,
            threads: 0,
            data_name: "training data".into(),
            validation_name: "validation data".into(),
            licence: None,
            cancel: None,
        }
    }

    /// Refuses what makes no sense, before any work is done.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::new(Code::InvalidRequest, what));
        bms_bundle::check_name(&self.name)?;
        if self.epochs == 0 || self.batch == 0 {
            return refuse("epochs and batch must be at least 1");
        }
        if !(self.learning_rate.is_finite() && 0.0 < self.learning_rate) {
            return refuse("the learning rate must be a positive number");
        }
        if !(self.weight_decay.is_finite() && 0.0 <= self.weight_decay) {
            return refuse("the weight decay must be zero or a positive number");
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return refuse("the label smoothing must be at least 0 and below 1");
        }
        if self.patience.is_some() && self.validation.is_none() {
            return refuse("early stopping needs validation data");
        }
        if self.patience == Some(0) {
            return refuse("the patience must be at least 1 epoch");
        }
        if self.resume && self.checkpoint_dir.is_none() {
            return refuse("resuming needs a checkpoint folder");
        }
        if let Architecture::Mlp { hidden } = &self.architecture
            && hidden.contains(&0)
        {
            return refuse("a hidden layer must have at least 1 value");
        }
        self.augment.as_ref().map_or(Ok(()), Plan::validate)
    }
}
