//! `bms compress`.

use std::path::{Path, PathBuf};

use bms_bundle::{Bundle, sign_dir};
use bms_data::{Dataset, OpenOptions};
use bms_train::{CompressOptions, Compressed, compress};
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::json;

use crate::cmd::serve::RuntimeOptions;
use crate::cmd::train::free;
use crate::home::{Home, PolicyOption};
use crate::output::{self, Output};

/// Options of `bms compress`.
#[derive(Debug, Args)]
pub(crate) struct Compress {
    /// The bundle's folder.
    bundle: PathBuf,
    /// The int8 bundle to write; must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Data that tells the ranges of the activations; best a part of the training data.
    #[arg(long, value_name = "PATH")]
    calibration: PathBuf,
    /// Data to measure the quality on, before and after.
    #[arg(long, value_name = "PATH")]
    evaluation: PathBuf,
    /// Refuse when accuracy drops by more than this, e.g. 0.005 for half a point.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    max_drop: f64,
    /// Calibration samples used, spread evenly over the data.
    #[arg(long, value_name = "N", default_value_t = 256)]
    calibration_samples: usize,
    /// Column of a CSV that holds the label.
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// What a compression works with.
pub(crate) struct Compression<'a> {
    /// The bundle to compress.
    pub(crate) bundle: &'a Path,
    /// Tells the ranges of the activations.
    pub(crate) calibration: &'a Dataset,
    /// Tells the quality before and after.
    pub(crate) evaluation: &'a Dataset,
    /// What people call the evaluation data.
    pub(crate) evaluation_name: &'a str,
    /// How.
    pub(crate) options: CompressOptions,
}

impl Compress {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        free(&self.out)?;
        let open = OpenOptions { label_column: self.label_column.clone() };
        let calibration = Dataset::open(&self.calibration, &open)?;
        let evaluation = Dataset::open(&self.evaluation, &open)?;
        let progress = output.progress("calibrating, quantising, measuring", 1);
        let work = Compression {
            bundle: &self.bundle,
            calibration: &calibration,
            evaluation: &evaluation,
            evaluation_name: self
                .evaluation
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or("evaluation data"),
            options: CompressOptions {
                calibration_samples_max: self.calibration_samples,
                runtime: self.runtime.runtime,
                threads: self.runtime.graph_threads(),
                ..CompressOptions::new(self.max_drop)
            },
        };
        let done = compress_bundle(&work, home, &self.policy, &self.out)?;
        progress.done();
        let value =
            json!({"out": self.out, "before": done.before, "after": done.after, "layers": done.layers});
        output.result(text(&done, &self.out), &value);
        Ok(())
    }
}

/// Compresses a bundle that passes the gate, and signs the result with the home folder's key.
pub(crate) fn compress_bundle(
    work: &Compression<'_>,
    home: &Home,
    policy: &PolicyOption,
    out: &Path,
) -> Result<Compressed> {
    let parent = policy.load(home)?.verify(Bundle::open(work.bundle)?).map_err(Error::from)?;
    if parent.seal().is_some() {
        // The result would lie on the disk in plain.
        let what = format!("`{}` is sealed", work.bundle.display());
        return Err(
            Error::new(Code::InvalidRequest, what).hint("Unseal it, compress it, and seal the result.")
        );
    }
    let manifest = parent.manifest();
    let compressed = compress(
        &parent.model_bytes(),
        &manifest.pipeline,
        work.calibration,
        work.evaluation,
        &work.options,
    )?;
    compressed.write_bundle(out, manifest, Some(parent.digest().to_owned()), work.evaluation_name)?;
    sign_dir(out, &home.signing_key()?)?;
    Ok(compressed)
}

fn text(done: &Compressed, out: &Path) -> String {
    let mut table = output::table(&["", "before", "after", "ratio"]);
    let (before, after) = (&done.before, &done.after);
    let ratio = |a: f64, b: f64| format!("{:.2}", a / b);
    table.add_row([
        "size".to_owned(),
        output::bytes(before.size_bytes),
        output::bytes(after.size_bytes),
        ratio(after.size_bytes as f64, before.size_bytes as f64),
    ]);
    table.add_row([
        "latency of one sample".to_owned(),
        format!("{:.3} ms on {}", before.latency_ms, before.runtime),
        format!("{:.3} ms on {}", after.latency_ms, after.runtime),
        ratio(after.latency_ms, before.latency_ms),
    ]);
    table.add_row([
        "accuracy".to_owned(),
        output::percent(before.accuracy),
        output::percent(after.accuracy),
        ratio(after.accuracy, before.accuracy),
    ]);
    format!("{table}\nthe signed bundle lies in `{}`", out.display())
}
