//! `bms label`: a larger served model labels the hard samples of the edge.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_data::{Image, ImageSample, ImageSet};
use bms_wire::api::{AssignedLabel, StoredSample};
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde::Serialize;

use crate::cmd::predict::{Ranked, classify};
use crate::cmd::registry::ServerOption;
use crate::output::Output;

/// Options of `bms label`.
#[derive(Debug, Args)]
pub(crate) struct Label {
    /// The model on the edge whose samples are to be labelled.
    model: String,
    /// The larger model, deployed on the same server, that labels them.
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    /// Leave out samples of which the larger model is less sure than this.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    min_confidence: f32,
    /// The data set to write: class folders of PNG.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    server: ServerOption,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Labelled {
    /// Samples the larger model was sure of; these are in the data set.
    pub(crate) labelled: usize,
    /// Samples it was not sure of; left for a person.
    pub(crate) unsure: usize,
    /// Digest of the data set.
    pub(crate) digest: String,
}

impl Label {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.server.client()?;
        let (set, unsure) = label(&client, &self.model, &self.teacher, self.min_confidence, output)?;
        set.save(&self.out)?;
        let done = Labelled { labelled: set.samples.len(), unsure, digest: set.digest() };
        let text = format!(
            "{} samples labelled by {} in `{}`, {} left for a person",
            done.labelled,
            self.teacher,
            self.out.display(),
            done.unsure
        );
        output.result(text, &done);
        Ok(())
    }
}

/// Labels the stored samples of `model` by asking `teacher`; gives those it was sure of, and the number it was not.
pub(crate) fn label(
    client: &Client,
    model: &str,
    teacher: &str,
    min_confidence: f32,
    output: &Output,
) -> Result<(ImageSet, usize)> {
    let stored = client.samples(model, false)?;
    let by = format!("model:{teacher}@{}", client.version(teacher, "production").map_or(0, |v| v.version));
    let progress = output.progress("labelling hard samples", stored.len() as u64);
    let mut labels: Vec<String> = Vec::new();
    let mut sure: Vec<(String, String, Image)> = Vec::new();
    let mut unsure = 0;
    for (done, sample) in stored.iter().enumerate() {
        let (picture, ranked) = ask(client, teacher, sample)?;
        if labels.is_empty() {
            labels = ranked.iter().map(|r| r.label.clone()).collect();
            labels.sort();
        }
        let best = &ranked[0];
        if best.probability < min_confidence {
            unsure += 1;
        } else {
            let assigned =
                AssignedLabel { label: best.label.clone(), by: by.clone(), confidence: best.probability };
            client.label_sample(&sample.sample.id, &assigned)?;
            sure.push((format!("hard-{}", &sample.sample.id[..16]), best.label.clone(), picture));
        }
        progress.at(done as u64 + 1);
    }
    progress.done();
    let samples = sure.into_iter().map(|(name, label, image)| {
        // `labels` holds every label of the answer, this one among them.
        ImageSample { name, label: labels.iter().position(|l| *l == label).unwrap_or_default(), image }
    });
    let samples = samples.collect();
    Ok((ImageSet { labels, samples }, unsure))
}

fn ask(client: &Client, teacher: &str, sample: &StoredSample) -> Result<(Image, Vec<Ranked>)> {
    let bytes = STANDARD.decode(&sample.sample.image).map_err(|e| {
        Error::new(Code::InvalidInput, format!("sample {} is not base64: {e}", sample.sample.id)).because(e)
    })?;
    let ranked = classify(client, teacher, &bytes, true)?;
    Ok((Image::decode(&bytes)?, ranked))
}
