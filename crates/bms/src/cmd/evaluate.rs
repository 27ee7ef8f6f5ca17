//! `bms evaluate`.

use std::path::PathBuf;

use bms_data::{Dataset, OpenOptions};
use bms_train::Report;
use bms_wire::Result;
use clap::Args;
use serde_json::json;

use crate::cmd::serve::RuntimeOptions;
use crate::home::{Home, PolicyOption};
use crate::output::{self, Output};
use crate::run_model;

/// Options of `bms evaluate`.
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// The bundle's folder.
    bundle: PathBuf,
    /// The data set: class folders of pictures, or a CSV.
    data: PathBuf,
    /// Write `report.json` and the confusion matrix as a picture here.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Column of a CSV that holds the label.
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

impl Evaluate {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let data = Dataset::open(&self.data, &OpenOptions { label_column: self.label_column })?;
        let engine = run_model::load(&self.bundle, &self.policy.load(home)?, &self.runtime)?;
        let report = run_model::evaluate_on(&engine, &data)?;
        if let Some(out) = &self.out {
            report.write(out)?;
        }
        let mut value = json!(report);
        value["data_digest"] = json!(data.digest());
        value["bundle_digest"] = json!(engine.describe().digest);
        output.result(text(&report), &value);
        Ok(())
    }
}

/// The report as a table for people.
fn text(report: &Report) -> String {
    let mut table = output::table(&["class", "precision", "recall", "F1", "samples", "most often taken for"]);
    for (index, class) in report.classes.iter().enumerate() {
        let wrong =
            report.confusion[index].iter().enumerate().filter(|(other, n)| *other != index && **n != 0);
        let taken = wrong
            .max_by_key(|(_, n)| **n)
            .map(|(other, n)| format!("{} ({n}×)", report.classes[other].label));
        table.add_row([
            class.label.clone(),
            format!("{:.4}", class.precision),
            format!("{:.4}", class.recall),
            format!("{:.4}", class.f1),
            class.support.to_string(),
            taken.unwrap_or_default(),
        ]);
    }
    format!(
        "{table}\naccuracy {} of {} samples; calibration error {:.4}; negative log-likelihood {:.4}",
        output::percent(report.accuracy),
        report.samples,
        report.ece,
        report.nll
    )
}
