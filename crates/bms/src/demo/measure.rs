//! Latency of one answer on each path, and that all paths give the same answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bms_data::Dataset;
use bms_engine::Input;
use bms_nn::onnx::RuntimeChoice;
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use serde_json::Value;

use super::centre::MODEL;
use super::place::Place;
use super::process::program;
use crate::cmd::predict::{Ranked, classify};
use crate::cmd::serve::RuntimeOptions;
use crate::run_model;

/// Answers measured on each path but the command line's.
const ROUNDS: usize = 200;
/// Runs of the command line, which starts a process and loads the model each time.
const PROCESS_ROUNDS: usize = 5;
/// How far probabilities may differ between paths.
const AGREEMENT: f32 = 1e-4;

/// Median milliseconds through the library, the server, the command line and the edge.
///
/// # Errors
/// When a path fails, or gives another answer than the library.
pub(crate) fn latency(
    place: &Place,
    centre: &Client,
    edge: &Client,
    bundle: &Path,
    data: &Dataset,
) -> Result<BTreeMap<&'static str, f64>> {
    let Dataset::Images(set) = data else {
        return Err(Error::new(Code::Internal, "the demo's data are pictures"));
    };
    let picture = set.samples[0].image.encode_png()?;
    let file = place.at("digit.png");
    std::fs::write(&file, &picture).map_err(|e| Error::io("write", &file, e))?;
    let options = RuntimeOptions { runtime: RuntimeChoice::Auto, threads: None };
    let engine = run_model::load(bundle, &place.home().policy()?, &options)?;
    let library = || -> Result<Vec<Ranked>> {
        let answer = engine.predict(Input::Images(vec![picture.clone()]))?;
        let class = answer.classes.into_iter().flatten().next();
        let ranked = class.map(|c| c.ranked).unwrap_or_default().into_iter();
        Ok(ranked.map(|(label, probability)| Ranked { label, probability }).collect())
    };
    let want = library()?;
    let mut medians = BTreeMap::new();
    medians.insert("library", median("library", ROUNDS, &want, library)?);
    medians.insert("http", median("http", ROUNDS, &want, || classify(centre, MODEL, &picture, false))?);
    medians.insert("edge", median("edge", ROUNDS, &want, || classify(edge, MODEL, &picture, false))?);
    medians.insert("cli", median("cli", PROCESS_ROUNDS, &want, || command_line(place, bundle, &file))?);
    Ok(medians)
}

/// Runs a path often; its answer must be the library's.
fn median(
    path: &str,
    rounds: usize,
    want: &[Ranked],
    mut ask: impl FnMut() -> Result<Vec<Ranked>>,
) -> Result<f64> {
    let mut times: Vec<Duration> = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        let got = ask().map_err(|e| e.while_doing(format!("answer through the {path} path")))?;
        times.push(started.elapsed());
        let agrees = |a: &Ranked| {
            let b = want.iter().find(|b| b.label == a.label);
            b.is_some_and(|b| (a.probability - b.probability).abs() <= AGREEMENT)
        };
        if got.len() != want.len() || !got.iter().all(agrees) {
            return Err(Error::new(
                Code::Internal,
                format!("the {path} path answers {got:?}, the library {want:?}"),
            ));
        }
    }
    times.sort();
    Ok(times[times.len() / 2].as_secs_f64() * 1e3)
}

/// `bms predict` in a process of its own.
fn command_line(place: &Place, bundle: &Path, picture: &Path) -> Result<Vec<Ranked>> {
    let output = program(&place.home_dir)?
        .args(["--json", "predict", "--bundle"])
        .args([bundle, picture])
        .output()
        .map_err(|e| Error::new(Code::Internal, format!("failed to run `bms predict`: {e}")).because(e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|e| {
        Error::new(Code::Internal, format!("`bms predict` printed no JSON: {e}; {text}")).because(e)
    })?;
    let ranked = answer["predictions"][0]["ranked"].as_array().cloned().unwrap_or_default();
    let one = |r: &Value| Ranked {
        label: r["label"].as_str().unwrap_or_default().to_owned(),
        probability: r["probability"].as_f64().unwrap_or(f64::NAN) as f32,
    };
    Ok(ranked.iter().map(one).collect())
}
