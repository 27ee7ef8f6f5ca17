//! The whole loop on real handwritten digits, with real processes: augment → train → evaluate → compress →
//! sign → register → serve → predict → edge → back to data, and round again.
//!
//! The digits come writer after writer. The first writers' are labelled; the next writers' arrive
//! unlabelled at the edge; the last writers' are held out, and no version ever trains on them.

mod centre;
mod edge;
mod hostile;
mod learn;
mod measure;
mod place;
mod process;
mod summary;

use std::time::Instant;

use bms_data::{Dataset, ImageSet, digits};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::cmd::demo::Demo;
use crate::cmd::label::label;
use crate::output::{self, Output};
use centre::{Centre, MODEL, TEACHER};
use edge::Edge;
use learn::{Lab, Learned};
use place::Place;
use summary::{EdgeSummary, Summary};

/// Digits of the first writers: labelled.
const LABELLED: usize = 800;
/// Digits of the next writers: they pass the edge, without labels.
const STREAM: usize = 500;
/// The larger model's label is used when it is at least this sure.
const TEACHER_SURE: f32 = 0.7;

/// Digits by who sees them.
struct Digits {
    labelled: ImageSet,
    stream: ImageSet,
    held_out: Dataset,
}

impl Digits {
    /// As data sets on disk, for whoever wants to go on by hand.
    fn save(&self, place: &Place) -> Result<()> {
        self.labelled.save(&place.at("labelled"))?;
        match &self.held_out {
            Dataset::Images(set) => set.save(&place.at("held-out")),
            Dataset::Table(_) => Ok(()),
        }
    }
}

/// Runs the demo.
pub(crate) fn run(args: &Demo, output: &Output) -> Result<()> {
    let started = Instant::now();
    let place = Place::make(args.dir.as_deref())?;
    let digits = split()?;
    digits.save(&place)?;
    output.event("stage", intro(&digits), json!({"stage": "data"}));

    let lab = Lab::new(&place, args.seed, &digits.labelled, &digits.held_out, *output)?;
    let first = lab.first_version()?;
    let teacher = lab.teacher(&first.augmented)?;

    let centre = Centre::start(&place, args.port, *output)?;
    centre.register(TEACHER, &teacher.bundle)?;
    centre.register(MODEL, &first.model.int8_bundle)?;
    let refused =
        hostile::try_both(&centre.client, &first.model.int8_bundle, &place.work, &place.key()?, output)?;
    for refusal in &refused {
        let text = format!("gate       refused the {} bundle: {}", refusal["bundle"], refusal["message"]);
        output.event("refused", text, refusal.clone());
    }

    let edge = Edge::start(&place, &centre.url(), *output)?;
    edge.wait_for_version(1)?;
    let latency =
        measure::latency(&place, &centre.client, &edge.client, &first.model.int8_bundle, &digits.held_out)?;
    let before = edge.accuracy(&digits.held_out)?;
    let (centre, streamed) = edge.stream(&digits.stream, centre)?;

    let second = second_version(&lab, &centre, output)?;
    centre.register_better(MODEL, &second.int8_bundle)?;
    edge.wait_for_version(2)?;
    let after = edge.accuracy(&digits.held_out)?;
    if after < before {
        let what = format!("the edge went from {} to {}", output::percent(before), output::percent(after));
        return Err(Error::new(Code::QualityRefused, what));
    }

    let summary = Summary {
        dataset: summary::dataset(&digits.labelled, &digits.stream, &digits.held_out),
        versions: vec![first.model.entry(1), second.entry(2)],
        edge: EdgeSummary::new(before, after, &streamed),
        refused,
        latency_ms: latency,
        augmentation: first.augmentation,
        teacher_accuracy: teacher.accuracy,
        dashboard: centre.url(),
        seconds: started.elapsed().as_secs_f64(),
    };
    output.result(summary.text(), &summary);
    if args.once {
        return Ok(());
    }
    centre.stay(&edge, *output)
}

/// The digits in their original order, so that each part has other writers.
fn split() -> Result<Digits> {
    let all = digits()?;
    let total = all.samples.len();
    Ok(Digits {
        labelled: all.slice(0..LABELLED)?,
        stream: all.slice(LABELLED..LABELLED + STREAM)?,
        held_out: Dataset::Images(all.slice(LABELLED + STREAM..total)?),
    })
}

fn intro(digits: &Digits) -> String {
    format!(
        "data       {} handwritten digits: {} labelled, {} that will pass the edge, {} held out",
        digits.labelled.samples.len() + digits.stream.samples.len() + digits.held_out.len(),
        digits.labelled.samples.len(),
        digits.stream.samples.len(),
        digits.held_out.len()
    )
}

/// The hard samples, labelled by the larger model, join the training data of the next version.
fn second_version(lab: &Lab<'_>, centre: &Centre, output: &Output) -> Result<Learned> {
    let (hard, unsure) = label(&centre.client, MODEL, TEACHER, TEACHER_SURE, output)?;
    let text = format!(
        "label      the larger model labelled {} hard samples from the edge and left {unsure} for a person",
        hard.samples.len()
    );
    output.event("stage", text, json!({"stage": "label", "labelled": hard.samples.len(), "unsure": unsure}));
    lab.next_version(&hard)
}
