//! Gate and engine together: what every command that answers here does.

use std::path::Path;

use bms_bundle::{Bundle, Policy};
use bms_data::Dataset;
use bms_engine::{Engine, EngineOptions, Input};
use bms_train::{Report, evaluate};
use bms_wire::{Error, Result};

use crate::cmd::serve::RuntimeOptions;

/// Passes the bundle in `dir` through the gate and loads it.
pub(crate) fn load(dir: &Path, policy: &Policy, options: &RuntimeOptions) -> Result<Engine> {
    let verified = policy.verify(Bundle::open(dir)?).map_err(|rejected| {
        Error::from(rejected).while_doing(format!("load the bundle `{}`", dir.display()))
    })?;
    let options = EngineOptions {
        runtime: options.runtime,
        threads: options.graph_threads(),
        ..EngineOptions::default()
    };
    Engine::load(verified, &options)
}

/// Evaluates a loaded model on a data set, on the path that serves it.
pub(crate) fn evaluate_on(engine: &Engine, data: &Dataset) -> Result<Report> {
    let labels = engine.describe().labels().to_vec();
    let mut predict = |samples: &[usize]| {
        let answer = engine.predict(input(data, samples)?)?;
        let rows = answer.classes.unwrap_or_default().into_iter().map(|class| {
            // Back from best first to the order of the labels.
            labels
                .iter()
                .map(|l| class.ranked.iter().find(|(label, _)| label == l).map_or(0.0, |(_, p)| *p))
                .collect()
        });
        Ok(rows.collect())
    };
    evaluate(&mut predict, data, &labels)
}

/// Samples of a data set as a request's input.
pub(crate) fn input(data: &Dataset, samples: &[usize]) -> Result<Input> {
    match data {
        Dataset::Images(set) => samples
            .iter()
            .map(|&i| set.samples[i].image.encode_png())
            .collect::<Result<_>>()
            .map(Input::Images),
        Dataset::Table(set) => Ok(Input::Rows(samples.iter().map(|&i| set.row(i).to_vec()).collect())),
    }
}
