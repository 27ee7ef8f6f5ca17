//! `bms train`.

use std::path::{Path, PathBuf};

use bms_bundle::sign_dir;
use bms_data::augment::Plan;
use bms_data::{Dataset, OpenOptions};
use bms_train::{Architecture, CnnSize, TrainEvent, TrainOptions, Trained, train};
use bms_wire::{Code, Error, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cmd::augment::plan;
use crate::home::Home;
use crate::output::{self, Output};

/// Options of `bms train`.
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Training data: class folders of pictures, or a CSV.
    data: PathBuf,
    /// The bundle to write; must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the model.
    #[arg(long)]
    name: String,
    /// Kind of network [default: cnn for pictures, mlp for tables].
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Size of a convolutional network.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    /// Widths of an mlp's hidden layers.
    #[arg(long, value_name = "WIDTHS", value_delimiter = ',', default_values_t = [64, 32])]
    hidden: Vec<usize>,
    /// Validation data, measured after each epoch and never trained on.
    #[arg(long, value_name = "PATH", conflicts_with = "validation_share")]
    validation: Option<PathBuf>,
    /// Share of the data to keep apart for validation.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    validation_share: f64,
    /// Augment pictures anew in each epoch: `digits`, `photos`, or a TOML file.
    #[arg(long, value_name = "PRESET|FILE", value_parser = plan)]
    augment: Option<Plan>,
    /// Passes over the data.
    #[arg(long, default_value_t = 30)]
    epochs: usize,
    /// Samples in one step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Highest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 0.002)]
    learning_rate: f64,
    /// Stop when the validation loss has not improved for this many epochs, and keep the best weights.
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Seed of weights, order and augmentation; the same seed gives the same model.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Column of a CSV that holds the label.
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Keep a checkpoint after each epoch here.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
    /// Go on from the newest checkpoint.
    #[arg(long, requires = "checkpoints")]
    resume: bool,
    /// Threads [default: all cores]; the result does not depend on it.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Kinds of network.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arch {
    /// Convolutions, for pictures.
    Cnn,
    /// Fully connected layers.
    Mlp,
}

/// Sizes of a convolutional network.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Size {
    Tiny,
    Small,
    Medium,
    Large,
}

impl Train {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        free(&self.out)?;
        let open = OpenOptions { label_column: self.label_column.clone() };
        let data = Dataset::open(&self.data, &open)?;
        let (data, validation) = match &self.validation {
            Some(path) => (data, Dataset::open(path, &open)?),
            None => data.split(1.0 - self.validation_share, self.seed)?,
        };
        let trained = fit(&data, &self.options(&data, &validation), output)?;
        write_signed(&trained, &self.out, home)?;
        let last = trained.curves.points.last();
        let accuracy = last.and_then(|p| p.validation_accuracy);
        let text = format!(
            "trained `{}` ({} parameters, {} epochs): validation accuracy {}; the signed bundle lies in `{}`",
            self.name,
            trained.parameters,
            trained.curves.points.len(),
            accuracy.map_or("not measured".to_owned(), |a| output::percent(a.into())),
            self.out.display(),
        );
        let value = json!({"out": self.out, "parameters": trained.parameters, "curves": trained.curves.points,
            "metrics": trained.manifest.metrics, "lineage": trained.manifest.lineage});
        output.result(text, &value);
        Ok(())
    }

    fn options<'a>(&self, data: &Dataset, validation: &'a Dataset) -> TrainOptions<'a> {
        let arch = self.arch.unwrap_or(match data {
            Dataset::Images(_) => Arch::Cnn,
            Dataset::Table(_) => Arch::Mlp,
        });
        let architecture = match arch {
            Arch::Cnn => Architecture::Cnn { size: self.size.into() },
            Arch::Mlp => Architecture::Mlp { hidden: self.hidden.clone() },
        };
        let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).unwrap_or("data").to_owned();
        TrainOptions {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            patience: self.patience,
            seed: self.seed,
            augment: self.augment.clone(),
            validation: (!validation.is_empty()).then_some(validation),
            checkpoint_dir: self.checkpoints.clone(),
            resume: self.resume,
            threads: self.threads,
            data_name: name(&self.data),
            validation_name: self
                .validation
                .as_deref()
                .map_or_else(|| format!("part of {}", name(&self.data)), name),
            ..TrainOptions::new(&self.name, architecture)
        }
    }
}

impl From<Size> for CnnSize {
    fn from(size: Size) -> Self {
        match size {
            Size::Tiny => CnnSize::Tiny,
            Size::Small => CnnSize::Small,
            Size::Medium => CnnSize::Medium,
            Size::Large => CnnSize::Large,
        }
    }
}

/// Trains with a progress bar.
pub(crate) fn fit(data: &Dataset, options: &TrainOptions<'_>, output: &Output) -> Result<Trained> {
    let progress = output.progress(&format!("training {}", options.name), options.epochs as u64);
    let mut hear = |event: TrainEvent| match &event {
        TrainEvent::Epoch { point, .. } => {
            progress.at(point.epoch as u64);
            progress.note(&format!("{}: loss {:.3}", options.name, point.train_loss));
            progress.event(json!({"model": options.name, "training": event}));
        }
        TrainEvent::Step { .. } => {}
        _ => progress.event(json!({"model": options.name, "training": event})),
    };
    let trained = train(data, options, &mut hear)?;
    progress.done();
    Ok(trained)
}

/// Writes the bundle and signs it with the home folder's key.
pub(crate) fn write_signed(trained: &Trained, out: &Path, home: &Home) -> Result<()> {
    trained.write_bundle(out)?;
    sign_dir(out, &home.signing_key()?)
}

/// Refuses to write over what is there, before the work is done.
pub(crate) fn free(out: &Path) -> Result<()> {
    let is_taken = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => out.symlink_metadata().is_ok(),
    };
    if is_taken { Err(taken(out)) } else { Ok(()) }
}

/// What to say of a path that a command would write to.
pub(crate) fn taken(out: &Path) -> Error {
    Error::new(Code::Conflict, format!("`{}` exists already", out.display()))
        .hint("Choose another path with --out, or remove it first.")
}
