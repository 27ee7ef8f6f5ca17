//! `bms predict`: answers on the command line, from a bundle, a server or an edge node.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_engine::{Answer, Input};
use bms_wire::client::Client;
use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters};
use bms_wire::{Code, Error, Outcome, Outcomes, Preprocess, Result};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api_key::ApiKeyOption;
use crate::cmd::serve::RuntimeOptions;
use crate::home::{Home, PolicyOption};
use crate::output::{self, Output};
use crate::run_model;

/// Options of `bms predict`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["bundle", "server"])))]
pub(crate) struct Predict {
    /// Inputs: pictures (PNG, JPEG), texts, recordings (WAV) or other files, as the model's pipeline takes them; a CSV of
    /// rows; or a JSON file with an Open Inference Protocol request.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// Answer here, with the bundle in this folder.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Ask this server or edge node.
    #[arg(long, value_name = "URL", requires = "model")]
    server: Option<String>,
    #[command(flatten)]
    key: ApiKeyOption,
    /// The model to ask the server for.
    #[arg(long)]
    model: Option<String>,
    /// Write the one input picture with the answer drawn into it to this PNG file.
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    /// Labels to show an input.
    #[arg(long, value_name = "N", default_value_t = 3)]
    top: usize,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// One label with its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ranked {
    /// The label.
    pub(crate) label: String,
    /// 0 to 1; the probabilities of all labels add up to 1.
    pub(crate) probability: f32,
}

/// The answer to one input.
#[derive(Debug, Serialize)]
struct Prediction {
    input: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranked: Vec<Ranked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Value>,
    /// What the pipeline made of it, when that is no label.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

impl Predict {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        if self.draw.is_some() && self.inputs.len() != 1 {
            return Err(Error::new(Code::InvalidRequest, "--draw takes one picture"));
        }
        let predictions = match (&self.bundle, &self.server, &self.model) {
            (Some(bundle), _, _) => self.here(home, bundle)?,
            (None, Some(server), Some(model)) => self.there(&self.key.client(server)?, model)?,
            _ => return Err(Error::new(Code::InvalidRequest, "neither --bundle nor --server is given")),
        };
        let mut table = output::table(&["input", "answer", "probability", "next best"]);
        for prediction in &predictions {
            table.add_row(row(prediction, self.top));
        }
        output.result(table, &json!({"predictions": predictions}));
        Ok(())
    }

    fn here(&self, home: &Home, bundle: &Path) -> Result<Vec<Prediction>> {
        let policy = self.policy.load(home)?;
        let engine = run_model::load(bundle, &policy, &self.runtime)?;
        let mut predictions = Vec::new();
        for path in &self.inputs {
            let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
            let takes = &engine.describe().pipeline.preprocess;
            let kind = if is_about_files(takes) { Kind::Plain } else { kind(path) };
            let input = match kind {
                Kind::Request => {
                    bms_engine::oip::request_to_input(engine.describe(), parse_request(path, &bytes)?)?.0
                }
                Kind::Rows => Input::Rows(rows(path, &bytes, &engine.describe().pipeline.preprocess)?),
                Kind::Plain => bms_engine::oip::plain(engine.describe(), &bytes)?,
            };
            let answer =
                engine.predict(input).map_err(|e| e.while_doing(format!("answer `{}`", path.display())))?;
            if let Some(target) = &self.draw {
                let outcomes = answer.clone().into_outcomes().unwrap_or_default();
                let nothing = || Error::new(Code::NotSupported, "the model's answer cannot be drawn");
                let picture = bms_engine::drawn(&bytes, outcomes.first().ok_or_else(nothing)?)?;
                std::fs::write(target, picture).map_err(|e| Error::io("write", target, e))?;
            }
            predictions.extend(from_answer(path, answer));
        }
        Ok(predictions)
    }

    fn there(&self, client: &Client, model: &str) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::new();
        for path in &self.inputs {
            let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
            let input = path.display().to_string();
            match kind(path) {
                Kind::Request | Kind::Rows if self.draw.is_some() => {
                    let what = format!("--draw takes a picture, `{}` is none", path.display());
                    return Err(Error::new(Code::InvalidRequest, what));
                }
                Kind::Plain => {
                    let media = media(path);
                    if let Some(target) = &self.draw {
                        let picture = client.ask(model, &bytes, media, "image/png")?;
                        std::fs::write(target, picture).map_err(|e| Error::io("write", target, e))?;
                    }
                    let outcomes = match client.ask(model, &bytes, media, "application/json") {
                        // An edge node takes requests in JSON only.
                        Err(error) if error.code() == Code::InvalidRequest && media.starts_with("image/") => {
                            let ranked = classify(client, model, &bytes, true)?;
                            predictions.push(Prediction { input, ranked, outputs: None, outcome: None });
                            continue;
                        }
                        answer => parse_outcomes(&answer?)?,
                    };
                    predictions
                        .extend(outcomes.into_iter().map(|outcome| from_outcome(input.clone(), outcome)));
                }
                Kind::Request => {
                    let response = client.infer(model, &parse_request(path, &bytes)?)?;
                    let outputs = serde_json::to_value(&response.outputs).ok();
                    predictions.push(Prediction { input, ranked: Vec::new(), outputs, outcome: None });
                }
                Kind::Rows => {
                    return Err(Error::new(Code::InvalidRequest, "a CSV is answered with --bundle only")
                        .hint(
                            "Write the rows as an Open Inference Protocol request in JSON to ask a server.",
                        ));
                }
            }
        }
        Ok(predictions)
    }
}

enum Kind {
    /// A picture, text, recording or file.
    Plain,
    Rows,
    Request,
}

fn kind(path: &Path) -> Kind {
    match path.extension().and_then(|e| e.to_str()) {
        Some(e) if e.eq_ignore_ascii_case("json") => Kind::Request,
        Some(e) if e.eq_ignore_ascii_case("csv") => Kind::Rows,
        _ => Kind::Plain,
    }
}

/// Whether the model is asked about files of any kind, so that none is taken for a request.
fn is_about_files(takes: &Preprocess) -> bool {
    matches!(takes, Preprocess::Bytes(_))
}

/// The media type of a file, by its name.
fn media(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "wav" => "audio/wav",
        "txt" => "text/plain",
        _ => "application/octet-stream",
    }
}

fn parse_outcomes(answer: &[u8]) -> Result<Vec<Outcome>> {
    let read: std::result::Result<Outcomes, _> = serde_json::from_slice(answer);
    let read =
        read.map_err(|e| Error::new(Code::Internal, "the server's answer is not understood").because(e));
    Ok(read?.outcomes)
}

fn from_outcome(input: String, outcome: Outcome) -> Prediction {
    match outcome {
        Outcome::Labels { labels } => {
            let ranked =
                labels.into_iter().map(|s| Ranked { label: s.label, probability: s.probability }).collect();
            Prediction { input, ranked, outputs: None, outcome: None }
        }
        other => Prediction { input, ranked: Vec::new(), outputs: None, outcome: Some(other) },
    }
}

fn parse_request(path: &Path, bytes: &[u8]) -> Result<InferRequest> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("`{}` is not an inference request: {e}", path.display()))
            .because(e)
    })
}

/// The rows of a CSV with a header, columns picked by the names the model knows.
fn rows(path: &Path, bytes: &[u8], preprocess: &Preprocess) -> Result<Vec<Vec<f32>>> {
    let Preprocess::Table(table) = preprocess else {
        return Err(Error::new(Code::InvalidInput, "the model does not take rows of numbers"));
    };
    bms_data::read_rows(path, bytes, &table.columns)
}

/// Asks a server for the labels of one picture, best first. With `collect` false an edge node answers
/// without keeping the picture, however unsure it is: for measurements.
pub(crate) fn classify(client: &Client, model: &str, picture: &[u8], collect: bool) -> Result<Vec<Ranked>> {
    let mut parameters = Parameters::new();
    if !collect {
        parameters.insert("collect".to_owned(), Value::Bool(false));
    }
    let tensor = InferTensor {
        name: "image".to_owned(),
        shape: vec![1],
        datatype: Datatype::Bytes,
        parameters: Parameters::new(),
        data: json!([STANDARD.encode(picture)]),
    };
    let request = InferRequest { id: None, parameters, inputs: vec![tensor], outputs: Vec::new() };
    let response = client.infer(model, &request)?;
    let find = |name: &str| response.outputs.iter().find(|o| o.name == name).map(|o| &o.data);
    match (find("label").and_then(Value::as_array), find("probability").and_then(Value::as_array)) {
        (Some(labels), Some(probabilities)) if !labels.is_empty() && labels.len() == probabilities.len() => {
            let ranked = labels.iter().zip(probabilities).map(|(label, p)| Ranked {
                label: label.as_str().unwrap_or_default().to_owned(),
                probability: p.as_f64().unwrap_or(f64::NAN) as f32,
            });
            Ok(ranked.collect())
        }
        _ => Err(Error::new(Code::InvalidInput, format!("`{model}` does not classify pictures"))),
    }
}

fn from_answer(path: &Path, answer: Answer) -> Vec<Prediction> {
    let input = path.display().to_string();
    let outputs = answer.outputs.clone();
    match answer.into_outcomes() {
        Some(outcomes) => outcomes.into_iter().map(|outcome| from_outcome(input.clone(), outcome)).collect(),
        None => {
            let outputs = outputs.iter().map(|(name, tensor)| {
                json!({"name": name, "shape": tensor.shape(), "datatype": tensor.dtype().as_str(), "data": tensor.as_f32()})
            });
            vec![Prediction { input, ranked: Vec::new(), outputs: Some(outputs.collect()), outcome: None }]
        }
    }
}

fn row(prediction: &Prediction, top: usize) -> [String; 4] {
    if let Some(outcome) = &prediction.outcome {
        let (answer, score) = shown(outcome);
        return [prediction.input.clone(), answer, score, String::new()];
    }
    let Some(best) = prediction.ranked.first() else {
        let outputs = prediction.outputs.as_ref().map(Value::to_string).unwrap_or_default();
        return [prediction.input.clone(), outputs.chars().take(120).collect(), String::new(), String::new()];
    };
    let next = prediction.ranked.iter().take(top).skip(1);
    let next: Vec<_> =
        next.map(|r| format!("{} {}", r.label, output::percent(r.probability.into()))).collect();
    [prediction.input.clone(), best.label.clone(), output::percent(best.probability.into()), next.join(", ")]
}

/// An outcome as a person reads it, and how sure it is.
fn shown(outcome: &Outcome) -> (String, String) {
    let percent = |part: f32| output::percent(part.into());
    match outcome {
        Outcome::Labels { .. } => Default::default(),
        Outcome::Vector { vector } => {
            let first: Vec<_> = vector.iter().take(4).map(|x| format!("{x:.4}")).collect();
            (format!("{} … ({} numbers)", first.join(" "), vector.len()), String::new())
        }
        Outcome::Boxes { boxes, .. } => {
            let lines = boxes.iter().map(|b| {
                format!("{} at {:.0},{:.0} to {:.0},{:.0}", b.label, b.left, b.top, b.right, b.bottom)
            });
            let scores = boxes.iter().map(|b| percent(b.score));
            (lines.collect::<Vec<_>>().join("\n"), scores.collect::<Vec<_>>().join("\n"))
        }
        Outcome::Line { text, score } => (text.clone(), percent(*score)),
        Outcome::Lines { text, lines, .. } => {
            (text.clone(), lines.iter().map(|line| percent(line.score)).collect::<Vec<_>>().join("\n"))
        }
        Outcome::Speech { seconds, segments, .. } => {
            let times = segments.iter().map(|s| format!("{:.2} s to {:.2} s", s.start, s.end));
            (format!("speech in {seconds:.2} s:\n{}", times.collect::<Vec<_>>().join("\n")), String::new())
        }
    }
}
