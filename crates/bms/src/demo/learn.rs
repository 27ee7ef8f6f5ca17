//! Augment, train, evaluate, compress: what the demo's laboratory does with digits.

use std::path::{Path, PathBuf};

use bms_data::augment::{Plan, augment_set};
use bms_data::{Dataset, ImageSet};
use bms_nn::onnx::RuntimeChoice;
use bms_train::{Architecture, CnnSize, CompressOptions, TrainOptions};
use bms_wire::Result;
use serde_json::json;

use super::centre::{MODEL, TEACHER};
use super::place::Place;
use super::summary::{Augmentation, VersionEntry};
use crate::cmd::compress::{Compression, compress_bundle};
use crate::cmd::serve::RuntimeOptions;
use crate::cmd::train::{fit, write_signed};
use crate::home::PolicyOption;
use crate::output::{Output, bytes, percent};
use crate::run_model;

/// Share of the labelled digits kept apart to watch the training and to gate the compression.
const VALIDATION: f64 = 0.15;
/// Augmented copies of each training digit.
const COPIES: u32 = 5;
/// Passes over the augmented data of the small model.
const EPOCHS: usize = 12;
/// Passes over the augmented data of the larger model.
const TEACHER_EPOCHS: usize = 8;
/// Without it the small network is sure of nearly everything, and its confidence tells nothing.
const LABEL_SMOOTHING: f32 = 0.1;
/// Accuracy int8 may cost: half a point.
const MAX_DROP: f64 = 0.005;

/// Makes models. Everything is measured on the held-out digits, none of which it trains on.
pub(crate) struct Lab<'a> {
    place: &'a Place,
    seed: u64,
    /// The labelled digits that are trained on.
    train: ImageSet,
    /// The labelled digits that watch the training.
    validation: Dataset,
    held_out: &'a Dataset,
    output: Output,
}

/// A version of the small model, as trained and as int8.
pub(crate) struct Learned {
    /// The int8 bundle, which is what the edge runs.
    pub(crate) int8_bundle: PathBuf,
    accuracy: f64,
    int8_accuracy: f64,
    size_bytes: u64,
    int8_size_bytes: u64,
    training_samples: usize,
}

/// The first version, and what augmentation did for it.
pub(crate) struct First {
    pub(crate) model: Learned,
    pub(crate) augmentation: Augmentation,
    /// The data it learned from.
    pub(crate) augmented: Dataset,
}

/// The larger model.
pub(crate) struct Teacher {
    pub(crate) bundle: PathBuf,
    pub(crate) accuracy: f64,
}

impl<'a> Lab<'a> {
    /// A laboratory in `place`, with the labelled digits.
    pub(crate) fn new(
        place: &'a Place,
        seed: u64,
        labelled: &ImageSet,
        held_out: &'a Dataset,
        output: Output,
    ) -> Result<Lab<'a>> {
        let (train, validation) = labelled.split(1.0 - VALIDATION, seed)?;
        Ok(Lab { place, seed, train, validation: Dataset::Images(validation), held_out, output })
    }

    /// The small model, with and without augmentation; the one with becomes version 1.
    pub(crate) fn first_version(&self) -> Result<First> {
        let plain = Dataset::Images(self.train.clone());
        // As many steps as with augmentation, so that only the data differ.
        let steps = EPOCHS * (1 + COPIES as usize);
        let without = self.accuracy(&self.train("v1-plain", MODEL, &plain, CnnSize::Tiny, steps)?)?;
        let augmented = self.augment("v1", &self.train)?;
        let bundle = self.train("v1", MODEL, &augmented, CnnSize::Tiny, EPOCHS)?;
        let with = self.accuracy(&bundle)?;
        let text = format!("train      {} without augmentation, {} with", percent(without), percent(with));
        self.output.event(
            "stage",
            text,
            json!({"stage": "train", "accuracy_without": without, "accuracy_with": with}),
        );
        let model = self.compress("v1", &bundle, with, self.train.samples.len())?;
        let augmentation = Augmentation { accuracy_without: without, accuracy_with: with };
        Ok(First { model, augmentation, augmented })
    }

    /// The larger model, which labels what the edge is unsure of; it learns from the first version's data.
    pub(crate) fn teacher(&self, augmented: &Dataset) -> Result<Teacher> {
        let bundle = self.train("teacher", TEACHER, augmented, CnnSize::Medium, TEACHER_EPOCHS)?;
        let accuracy = self.accuracy(&bundle)?;
        let text = format!("train      the larger model reaches {}", percent(accuracy));
        self.output.event("stage", text, json!({"stage": "teacher", "accuracy": accuracy}));
        Ok(Teacher { bundle, accuracy })
    }

    /// The next version of the small model: the hard samples join the training data.
    pub(crate) fn next_version(&self, hard: &ImageSet) -> Result<Learned> {
        let mut data = self.train.clone();
        data.merge(hard)?;
        let augmented = self.augment("v2", &data)?;
        let bundle = self.train("v2", MODEL, &augmented, CnnSize::Tiny, EPOCHS)?;
        let accuracy = self.accuracy(&bundle)?;
        let text = format!("train      version 2 reaches {}", percent(accuracy));
        self.output.event("stage", text, json!({"stage": "train", "version": 2, "accuracy": accuracy}));
        self.compress("v2", &bundle, accuracy, data.samples.len())
    }

    /// The digits and their augmented copies, also written as a data set.
    fn augment(&self, name: &str, set: &ImageSet) -> Result<Dataset> {
        let progress = self.output.progress("augmenting", set.samples.len() as u64 * u64::from(COPIES));
        let show = |done: usize, _: usize| progress.at(done as u64);
        let mut augmented = augment_set(set, &Plan::digits(), COPIES, self.seed, 0, &show)?;
        augmented.merge(set)?;
        augmented.save(&self.place.at(&format!("{name}-data")))?;
        progress.done();
        let text = format!("augment    {} digits became {}", set.samples.len(), augmented.samples.len());
        self.output.event("stage", text, json!({"stage": "augment", "samples": augmented.samples.len()}));
        Ok(Dataset::Images(augmented))
    }

    /// Trains, signs, and gives the bundle.
    fn train(
        &self,
        name: &str,
        model: &str,
        data: &Dataset,
        size: CnnSize,
        epochs: usize,
    ) -> Result<PathBuf> {
        let options = TrainOptions {
            epochs,
            seed: self.seed,
            label_smoothing: LABEL_SMOOTHING,
            validation: Some(&self.validation),
            data_name: format!("digits for {name}"),
            validation_name: "validation digits".to_owned(),
            licence: Some("MIT OR Apache-2.0".to_owned()),
            ..TrainOptions::new(model, Architecture::Cnn { size })
        };
        let trained = fit(data, &options, &self.output)?;
        let bundle = self.place.at(&format!("{name}-fp32"));
        write_signed(&trained, &bundle, &self.place.home())?;
        Ok(bundle)
    }

    /// Accuracy on the held-out digits, through gate and engine.
    fn accuracy(&self, bundle: &Path) -> Result<f64> {
        let options = RuntimeOptions { runtime: RuntimeChoice::Auto, threads: None };
        let engine = run_model::load(bundle, &self.place.home().policy()?, &options)?;
        Ok(run_model::evaluate_on(&engine, self.held_out)?.accuracy)
    }

    /// Quantises to int8. The held-out digits decide whether it may cost what it costs, and stand in the
    /// manifest, so that the registry can compare versions on them.
    fn compress(&self, name: &str, bundle: &Path, accuracy: f64, training_samples: usize) -> Result<Learned> {
        let work = Compression {
            bundle,
            calibration: &Dataset::Images(self.train.clone()),
            evaluation: self.held_out,
            evaluation_name: "held-out digits",
            options: CompressOptions::new(MAX_DROP),
        };
        let int8_bundle = self.place.at(&format!("{name}-int8"));
        let done = compress_bundle(&work, &self.place.home(), &PolicyOption::default(), &int8_bundle)?;
        let text = format!(
            "compress   {} became {}, accuracy {} became {}",
            bytes(done.before.size_bytes),
            bytes(done.after.size_bytes),
            percent(done.before.accuracy),
            percent(done.after.accuracy)
        );
        self.output.event(
            "stage",
            text,
            json!({"stage": "compress", "before": done.before, "after": done.after}),
        );
        Ok(Learned {
            int8_bundle,
            accuracy,
            int8_accuracy: done.after.accuracy,
            size_bytes: done.before.size_bytes,
            int8_size_bytes: done.after.size_bytes,
            training_samples,
        })
    }
}

impl Learned {
    /// Its line in the summary.
    pub(crate) fn entry(&self, version: u64) -> VersionEntry {
        VersionEntry {
            version,
            accuracy: self.accuracy,
            int8_accuracy: self.int8_accuracy,
            size_bytes: self.size_bytes,
            int8_size_bytes: self.int8_size_bytes,
            training_samples: self.training_samples,
        }
    }
}
