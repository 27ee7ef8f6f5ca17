//! Static post-training quantisation of an ONNX graph to eight bits, with the proof that it is still good.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bms_bundle::{Draft, Lineage, Manifest};
use bms_data::Dataset;
use bms_nn::Tensor;
use bms_nn::onnx::proto::{Message, ModelProto};
use bms_nn::onnx::{LoadOptions, RuntimeChoice, Session, load, read};
use bms_wire::{Code, Error, Pipeline, Result};
use serde::{Deserialize, Serialize};

use crate::evaluate::{Report, evaluate};
use crate::predict::{Scorer, predictor_from};
use crate::samples::labels;
use crate::train::MODEL_FILE;

mod emit;
mod flow;
mod layer;
mod probe;
mod range;

pub use probe::LayerError;
use probe::Probe;
pub use range::Calibration;

/// The first operator set whose `DequantizeLinear` has a scale per channel.
const OPSET_MIN: i64 = 13;
/// Rounds of the latency measurement, and the time they may take.
const LATENCY_ROUNDS: usize = 50;
const LATENCY_TIME_MAX: Duration = Duration::from_secs(3);

/// How a graph is compressed.
#[derive(Clone, Debug)]
pub struct CompressOptions {
    /// How much accuracy (0 to 1) may be lost on the evaluation data, e.g. 0.005.
    pub max_drop: f64,
    /// How ranges of activations are chosen.
    pub calibration: Calibration,
    /// Samples of the calibration data used, spread evenly.
    pub calibration_samples_max: usize,
    /// Run-time both graphs are measured on.
    pub runtime: RuntimeChoice,
    /// Threads of one run.
    pub threads: usize,
}

impl CompressOptions {
    /// Full ranges from at most 256 samples, measured on one thread of the run-time that is faster.
    pub fn new(max_drop: f64) -> CompressOptions {
        CompressOptions {
            max_drop,
            calibration: Calibration::MinMax {},
            calibration_samples_max: 256,
            runtime: RuntimeChoice::Auto,
            threads: 1,
        }
    }

    fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.max_drop) {
            return Err(Error::new(Code::InvalidRequest, "the allowed drop must lie between 0 and 1"));
        }
        if self.calibration_samples_max == 0 {
            return Err(Error::new(Code::InvalidRequest, "at least one calibration sample is needed"));
        }
        self.calibration.check()
    }
}

/// Size, speed and quality of one graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Median time of one sample, milliseconds, in runs that alternate with the other graph's.
    pub latency_ms: f64,
    /// On the evaluation data, 0 to 1.
    pub accuracy: f64,
    /// Mean negative log-likelihood on the evaluation data.
    pub nll: f64,
    /// The run-time it was measured on.
    pub runtime: String,
}

/// A compressed graph with its measurements.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// The eight-bit graph.
    pub onnx: Vec<u8>,
    /// The graph as it was.
    pub before: Measured,
    /// The eight-bit graph.
    pub after: Measured,
    /// What each layer lost by itself.
    pub layers: Vec<LayerError>,
    /// The evaluation of the eight-bit graph.
    pub report: Report,
    /// Digest of the evaluation data.
    pub evaluation_digest: String,
}

/// Quantises the `Conv`, `Gemm` and `MatMul` layers with constant weights; everything else stays in floats.
///
/// Weights get one symmetric scale per output channel, activations one scale and zero point chosen on
/// `calibration` (Jacob et al. 2018, arXiv 1712.05877); biases are corrected. The graph is then evaluated on
/// `evaluation`, beside the one it was made from.
///
/// # Errors
/// `QualityRefused` when more than `max_drop` of accuracy is lost; `UnsupportedModel` when the graph has no
/// such layer or is written for an operator set before 13; `InvalidInput` when the data does not fit.
pub fn compress(
    onnx: &[u8],
    pipeline: &Pipeline,
    calibration: &Dataset,
    evaluation: &Dataset,
    options: &CompressOptions,
) -> Result<Compressed> {
    options.check()?;
    let original: Arc<[u8]> = Arc::from(onnx);
    let model = read(&original)?;
    let (bytes, layers) = quantised(&model, pipeline, calibration, options)?;
    let small: Arc<[u8]> = Arc::from(bytes.as_slice());
    let load_options = LoadOptions { runtime: options.runtime, threads: options.threads };
    let mut before = load(Arc::clone(&original), &load_options)?;
    let mut after = load(Arc::clone(&small), &load_options)?;
    let names = labels(pipeline)?;
    let report_before = evaluate(&mut predictor_from(&mut before, pipeline, evaluation)?, evaluation, names)?;
    let report = evaluate(&mut predictor_from(&mut after, pipeline, evaluation)?, evaluation, names)?;
    let drop = report_before.accuracy - report.accuracy;
    if options.max_drop < drop {
        let message = format!(
            "accuracy falls by {drop:.4} from {:.4} to {:.4}, more than the allowed {:.4}",
            report_before.accuracy, report.accuracy, options.max_drop
        );
        return Err(Error::new(Code::QualityRefused, message).hint(
            "Calibrate on more or more typical data, allow a larger drop, or keep the model as it is.",
        ));
    }
    let (time_before, time_after) = latencies(&mut before, &mut after, pipeline, evaluation)?;
    let measured = |bytes: usize, latency_ms, report: &Report, session: &Session| Measured {
        size_bytes: bytes as u64,
        latency_ms,
        accuracy: report.accuracy,
        nll: report.nll,
        runtime: session.runtime().as_str().to_owned(),
    };
    Ok(Compressed {
        before: measured(onnx.len(), time_before, &report_before, &before),
        after: measured(bytes.len(), time_after, &report, &after),
        onnx: bytes,
        layers,
        report,
        evaluation_digest: evaluation.digest(),
    })
}

/// The eight-bit graph's bytes, and what each layer lost.
fn quantised(
    model: &ModelProto,
    pipeline: &Pipeline,
    calibration: &Dataset,
    options: &CompressOptions,
) -> Result<(Vec<u8>, Vec<LayerError>)> {
    let unsupported = |what: &str| Error::new(Code::UnsupportedModel, what);
    let graph = model.graph.as_ref().ok_or_else(|| unsupported("the model has no graph"))?;
    let opset =
        model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx")).map(|set| set.version());
    if opset.is_none_or(|version| version < OPSET_MIN) {
        return Err(unsupported("the model is written for an operator set that has no integer operators")
            .hint("Export it again with operator set 13 or newer."));
    }
    let layers = layer::find(graph);
    if layers.is_empty() {
        return Err(unsupported("the graph has no Conv, Gemm or MatMul with constant weights in f32"));
    }
    let probe = Probe {
        model,
        graph,
        pipeline,
        data: calibration,
        samples_max: options.calibration_samples_max,
        threads: options.threads,
    };
    let ranges = probe.ranges(&layers, options.calibration)?;
    let corrected = probe.correct(&layers, &ranges)?;
    let graph = emit::eight_bit_graph(graph, &layers, &ranges, &corrected.biases);
    let model = ModelProto { graph: Some(graph), ..model.clone() };
    Ok((model.encode_to_vec(), corrected.errors))
}

/// Median milliseconds of one sample through each session, taken in turns so that whatever else the machine
/// does falls on both.
fn latencies(
    before: &mut Session,
    after: &mut Session,
    pipeline: &Pipeline,
    data: &Dataset,
) -> Result<(f64, f64)> {
    let mut first = Scorer::new(before, pipeline, data)?;
    let mut second = Scorer::new(after, pipeline, data)?;
    let input = first.tensor(&first.batches(data.len(), 1, 1)[0])?;
    let time = |scorer: &mut Scorer<'_>, input: Tensor| -> Result<f64> {
        let start = Instant::now();
        scorer.run(input)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    // The first run of each allocates; it is not typical.
    time(&mut first, input.clone())?;
    time(&mut second, input.clone())?;
    let (mut times_before, mut times_after) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    for _ in 0..LATENCY_ROUNDS {
        times_before.push(time(&mut first, input.clone())?);
        times_after.push(time(&mut second, input.clone())?);
        if LATENCY_TIME_MAX < begin.elapsed() {
            break;
        }
    }
    Ok((median(times_before), median(times_after)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

impl Compressed {
    /// The manifest of the eight-bit bundle: the parent's, with its own metrics, precision and ancestry.
    /// `parent_digest` is the identity of the bundle the graph came from.
    pub fn manifest(
        &self,
        parent: &Manifest,
        parent_digest: Option<String>,
        evaluation_name: &str,
    ) -> Manifest {
        Manifest {
            metrics: vec![self.report.evaluation(self.evaluation_digest.clone(), evaluation_name)],
            lineage: Lineage {
                parent_role: parent_digest.as_ref().map(|_| "quantised-from".to_owned()),
                parent: parent_digest,
                // The parent was pulled, this was made.
                source: None,
                ..parent.lineage.clone()
            },
            model: MODEL_FILE.to_owned(),
            precision: "int8".into(),
            created_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as i64),
            files: Vec::new(),
            ..parent.clone()
        }
    }

    /// The files of the bundle beside its manifest.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let facts = serde_json::json!({ "before": self.before, "after": self.after, "layers": self.layers });
        let mut json = serde_json::to_vec_pretty(&facts)
            .map_err(|e| Error::new(Code::Internal, "failed to write the compression's report").because(e))?;
        json.push(b'\n');
        let mut files =
            vec![(MODEL_FILE.to_owned(), self.onnx.clone()), ("compression.json".to_owned(), json)];
        files.extend(self.report.files()?);
        Ok(files)
    }

    /// Writes the eight-bit bundle to the folder `dir`, which must not exist yet or be empty. Returns the
    /// manifest as written.
    ///
    /// # Errors
    /// As [`Draft::write`].
    pub fn write_bundle(
        &self,
        dir: &Path,
        parent: &Manifest,
        parent_digest: Option<String>,
        evaluation_name: &str,
    ) -> Result<Manifest> {
        let mut draft = Draft::new(self.manifest(parent, parent_digest, evaluation_name));
        for (path, bytes) in self.files()? {
            draft.add(path, bytes)?;
        }
        draft.write(dir)
    }
}
