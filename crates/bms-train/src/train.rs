//! Training from a data set to a bundle.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bms_bundle::{DataRef, Draft, Lineage, Manifest, TensorInfo};
use bms_data::Dataset;
use bms_wire::{Code, Error, Pipeline, Preprocess, Result};

use crate::curves::Curves;
use crate::evaluate::{Report, evaluate};
use crate::event::TrainEvent;
use crate::export::{INPUT, OUTPUT, to_onnx};
use crate::fit::{Source, Task, fit, logits};
use crate::network::Network;
use crate::network::design::Architecture;
use crate::options::TrainOptions;
use crate::predict::softmax;
use crate::samples::{Samples, fit_pipeline, input_shape};

/// File of the graph in a bundle.
pub const MODEL_FILE: &str = "model.onnx";

/// A trained model.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The graph, `model.onnx`.
    pub onnx: Vec<u8>,
    /// The manifest; its `files` are filled in when the bundle is written.
    pub manifest: Manifest,
    /// Loss and accuracy over the epochs.
    pub curves: Curves,
    /// The evaluation on the validation data, when there was some.
    pub report: Option<Report>,
    /// Weights and biases.
    pub parameters: u64,
}

impl Trained {
    /// The files of the bundle beside its manifest.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = vec![
            (MODEL_FILE.to_owned(), self.onnx.clone()),
            ("curves.json".to_owned(), self.curves.to_json()?),
            ("curves.svg".to_owned(), self.curves.to_svg()?.into_bytes()),
        ];
        if let Some(report) = &self.report {
            files.extend(report.files()?);
        }
        Ok(files)
    }

    /// Writes the bundle to the folder `dir`, which must not exist yet or be empty. Returns the manifest as
    /// written.
    ///
    /// # Errors
    /// As [`Draft::write`].
    pub fn write_bundle(&self, dir: &Path) -> Result<Manifest> {
        let mut draft = Draft::new(self.manifest.clone());
        for (path, bytes) in self.files()? {
            draft.add(path, bytes)?;
        }
        draft.write(dir)
    }
}

/// Trains a classifier on `data`. `events` hears of each step; a slow listener slows the training.
///
/// The same data and options give the same bits, whatever the number of threads and however often the
/// training was stopped and resumed.
///
/// # Errors
/// `InvalidRequest` for options that make no sense and when the loss stops being finite, `InvalidInput` for
/// data that cannot be trained on, `Conflict` when the checkpoint folder belongs to something else,
/// `Unavailable` when cancelled.
pub fn train(
    data: &Dataset,
    options: &TrainOptions<'_>,
    events: &mut dyn FnMut(TrainEvent),
) -> Result<Trained> {
    options.check()?;
    if matches!((data, &options.architecture), (Dataset::Table(_), Architecture::Cnn { .. })) {
        return Err(Error::new(Code::InvalidRequest, "a convolutional network takes pictures, not tables")
            .hint("Choose the `mlp` architecture."));
    }
    let pipeline = fit_pipeline(data, options)?;
    let samples = Samples::new(data, &pipeline, options.augment.as_ref())?;
    let validation = options
        .validation
        .map(|data| Samples::new(data, &pipeline, None).map_err(|e| e.while_doing("use the validation data")))
        .transpose()?;
    let data_labels = data.labels();
    let labels = data_labels.len();
    let task = Task {
        train: &samples,
        validation: validation.as_ref().map(|samples| samples as &dyn Source),
        input: input_shape(&pipeline)?,
        labels,
        fingerprint: fingerprint(data, options)?,
    };
    let fitted = fit(&task, options, events)?;
    let report = match (options.validation, &validation) {
        (Some(data), Some(samples)) => Some(report(&fitted.network, data, samples, data_labels)?),
        _ => None,
    };
    let onnx = to_onnx(&fitted.network, &options.name, labels)?;
    let manifest = manifest(data, options, pipeline.clone(), &task, report.as_ref());
    manifest.validate()?;
    let parameters = fitted.network.parameters();
    Ok(Trained { onnx, manifest, curves: fitted.curves, report, parameters })
}

/// Evaluates the network itself; the exported graph agrees with it.
fn report(network: &Network, data: &Dataset, samples: &Samples<'_>, labels: &[String]) -> Result<Report> {
    let mut predict = |rows: &[usize]| {
        let mut input = Vec::new();
        for &idx in rows {
            samples.fill(idx, None, &mut input)?;
        }
        let logits = logits(network, rows.len(), input)?;
        Ok(logits.chunks_exact(labels.len()).map(softmax).collect())
    };
    evaluate(&mut predict, data, labels)
}

/// Hex BLAKE3 of all that decides the result: a checkpoint with another one cannot be gone on from.
fn fingerprint(data: &Dataset, options: &TrainOptions<'_>) -> Result<String> {
    let decisive = serde_json::json!({
        "format": 1,
        "data": data.digest(),
        // The digest does not see the order, and the order decides which sample is drawn when.
        "order": order_digest(data),
        "validation": options.validation.map(Dataset::digest),
        "architecture": options.architecture,
        "epochs": options.epochs,
        "batch": options.batch,
        "learning_rate": options.learning_rate.to_bits(),
        "weight_decay": options.weight_decay.to_bits(),
        "label_smoothing": options.label_smoothing.to_bits(),
        "warmup_epochs": options.warmup_epochs,
        "seed": options.seed,
        "augment": options.augment,
        "picture_size": options.picture_size,
        "patience": options.patience,
    });
    let bytes = serde_json::to_vec(&decisive)
        .map_err(|e| Error::new(Code::Internal, "failed to write the options' fingerprint").because(e))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

fn order_digest(data: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    match data {
        Dataset::Images(set) => {
            for sample in &set.samples {
                hasher.update(&(sample.label as u64).to_le_bytes());
                hasher.update(sample.name.as_bytes());
                hasher.update(b"\0");
            }
        }
        Dataset::Table(set) => {
            for &target in &set.targets {
                hasher.update(&(target as u64).to_le_bytes());
            }
            for value in &set.rows {
                hasher.update(&value.to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn manifest(
    data: &Dataset,
    options: &TrainOptions<'_>,
    pipeline: Pipeline,
    task: &Task<'_>,
    report: Option<&Report>,
) -> Manifest {
    let name = match pipeline.preprocess {
        Preprocess::Table(_) => "tabular-classification",
        _ => "image-classification",
    };
    let tensor = |name: &str, dims: Vec<usize>| TensorInfo {
        name: name.into(),
        dtype: "f32".into(),
        shape: std::iter::once(None).chain(dims.into_iter().map(Some)).collect(),
    };
    let metrics = match (options.validation, report) {
        (Some(data), Some(report)) => vec![report.evaluation(data.digest(), &options.validation_name)],
        _ => Vec::new(),
    };
    Manifest {
        schema: 1,
        name: options.name.clone(),
        task: name.into(),
        model: MODEL_FILE.into(),
        inputs: vec![tensor(INPUT, task.input.dims())],
        outputs: vec![tensor(OUTPUT, vec![task.labels])],
        pipeline,
        metrics,
        lineage: Lineage {
            data: vec![DataRef { name: options.data_name.clone(), digest: data.digest() }],
            ..Lineage::default()
        },
        precision: "fp32".into(),
        licence: options.licence.clone(),
        created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        sealed: None,
        files: Vec::new(),
    }
}
