//! `bundle.json`: what a bundle is.

use std::collections::{BTreeMap, BTreeSet};

use bms_wire::limits::{SOURCE_BYTES_MAX, TITLE_BYTES_MAX};
use bms_wire::{Code, Error, Pipeline, Postprocess, Preprocess, Result, limits};
use serde::{Deserialize, Serialize};

use crate::bundle::is_reserved;
use crate::seal::{self, SealInfo};
use crate::{MANIFEST, path};

/// The one schema this program writes and reads.
const SCHEMA: u32 = 1;
/// Tensors in a signature, labels, columns, evaluations: far above real models, far below harm.
const ENTRIES_MAX: usize = 100_000;
/// Axes of one tensor.
const RANK_MAX: usize = 16;
/// Tasks of models that take text.
const LANGUAGE_TASKS: [&str; 2] = ["text-generation", "text-embedding"];
/// All tasks.
const TASKS: [&str; 11] = [
    "image-classification",
    "tabular-classification",
    "tensor",
    LANGUAGE_TASKS[0],
    LANGUAGE_TASKS[1],
    "text-classification",
    "file-classification",
    "feature-extraction",
    "object-detection",
    "image-to-text",
    "voice-activity-detection",
];
/// Characters of a quantisation's name.
const PRECISION_CHARS_MAX: usize = 16;
/// Element types a tensor signature may name.
const DTYPES: &[&str] =
    &["f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool", "string"];

/// What a bundle is: its task, tensors, pipeline, measurements, ancestry and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout, 1.
    pub schema: u32,
    /// Model name: `[a-z0-9][a-z0-9._-]*`.
    pub name: String,
    /// `text-generation` or `text-embedding` of a language model, `tensor`, or what [`Pipeline::task`] says.
    pub task: String,
    /// Path of the model's graph, such as `model.onnx`; of a language model its GGUF file, or the `config.json`
    /// beside its safetensors.
    pub model: String,
    /// The graph's inputs; a language model has none.
    pub inputs: Vec<TensorInfo>,
    /// The graph's outputs; a language model has none.
    pub outputs: Vec<TensorInfo>,
    /// What happens around the graph.
    pub pipeline: Pipeline,
    /// What was measured, on which data.
    #[serde(default)]
    pub metrics: Vec<Evaluation>,
    /// Where it comes from.
    #[serde(default)]
    pub lineage: Lineage,
    /// `fp32` or `int8`; of a language model its quantisation, such as `q4_k_m` or `bf16`.
    pub precision: String,
    /// SPDX expression, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Present when the model's own files are encrypted: this manifest then says only what may be known without a key,
    /// and the model's own lies inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealInfo>,
    /// Every file except the manifest, the signature and what stands beside it, sorted by path.
    #[serde(default)]
    pub files: Vec<FileEntry>,
}

/// Name, type and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorInfo {
    /// Name in the graph.
    pub name: String,
    /// Element type, such as `f32` or `i64`.
    pub dtype: String,
    /// Length of each axis; `null` where any length goes.
    pub shape: Vec<Option<usize>>,
}

/// One measurement on one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Hex BLAKE3 of the data set.
    pub data_digest: String,
    /// What people call it.
    pub data_name: String,
    /// Samples measured.
    pub samples: u64,
    /// Metric name to value.
    pub values: BTreeMap<String, f64>,
}

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Digest of the bundle it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How it was made from its parent, such as `quantised-from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_role: Option<String>,
    /// Data sets it was trained on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataRef>,
    /// The job that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Revision of the code that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Where its files were pulled from, when they were. Their digests stand among the bundle's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRef>,
}

/// A place outside, and what its name meant when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRef {
    /// As it is called, such as `hf://owner/name`.
    pub url: String,
    /// Its commit, or the digest of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

impl std::fmt::Display for SourceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{} ({revision})", self.url),
            None => f.write_str(&self.url),
        }
    }
}

fn source(source: &SourceRef) -> Result<()> {
    let fits = |text: &str, bytes_max: usize| {
        !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
    };
    let revision = source.revision.as_ref().is_none_or(|revision| fits(revision, TITLE_BYTES_MAX));
    match fits(&source.url, SOURCE_BYTES_MAX) && revision {
        true => Ok(()),
        false => Err(Error::new(
            Code::InvalidBundle,
            "lineage.source is empty, too long or holds control characters",
        )),
    }
}

/// One data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRef {
    /// What people call it.
    pub name: String,
    /// Hex BLAKE3 of its content.
    pub digest: String,
}

/// One file with its digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path relative to the bundle, with `/`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Hex SHA-256.
    pub sha256: String,
    /// Hex BLAKE3.
    pub blake3: String,
}

impl FileEntry {
    /// The entry of a file with this content.
    pub fn of(path: &str, bytes: &[u8]) -> FileEntry {
        use sha2::Digest;
        FileEntry {
            path: path.to_owned(),
            size: bytes.len() as u64,
            sha256: hex::encode(sha2::Sha256::digest(bytes)),
            blake3: blake3::hash(bytes).to_hex().to_string(),
        }
    }
}

impl Manifest {
    /// Reads and validates a manifest. Unknown and repeated fields are errors.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] with the first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        if limits::CONTROL_BODY_BYTES_MAX < bytes.len() {
            return Err(invalid(format!("`{MANIFEST}` is over {} bytes", limits::CONTROL_BODY_BYTES_MAX)));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|e| invalid(format!("`{MANIFEST}` is malformed: {e}")).because(e))?;
        manifest.validate()?;
        if !manifest.files.iter().any(|file| file.path == manifest.model) {
            return Err(invalid(format!(
                "the model file {:?} is not among the listed files",
                manifest.model
            )));
        }
        let absent = |path: &&str| !manifest.files.iter().any(|file| file.path == **path);
        if let Some(path) = manifest.pipeline.files().iter().find(|path| absent(path)) {
            return Err(invalid(format!("the pipeline's file {path:?} is not among the listed files"))
                .hint("Add it with `bms package --add PATH=FILE`."));
        }
        Ok(manifest)
    }

    /// The bytes of `bundle.json`.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] when the manifest would not be read back.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| invalid(format!("failed to write the manifest: {e}")).because(e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Checks everything that can be checked without the files.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        if self.schema != SCHEMA {
            return Err(invalid(format!("schema {} is not supported, only {SCHEMA}", self.schema))
                .hint("Use the release of bms that wrote the bundle, or a newer one."));
        }
        check_name(&self.name)?;
        path::check_path(&self.model)?;
        match (&self.sealed, self.is_language_model()) {
            (Some(sealed), _) => {
                one_of("task", &self.task, &TASKS)?;
                sealed.validate()?;
                seal::check_outside(self)?;
            }
            (None, true) => self.validate_language()?,
            (None, false) => {
                one_of("precision", &self.precision, &["fp32", "int8"])?;
                self.validate_pipeline()?;
                tensors("inputs", &self.inputs)?;
                tensors("outputs", &self.outputs)?;
            }
        }
        self.metrics.iter().try_for_each(evaluation)?;
        if let Some(parent) = &self.lineage.parent {
            digest("lineage.parent", parent)?;
        }
        self.lineage.data.iter().try_for_each(|data| digest("lineage.data", &data.digest))?;
        self.lineage.source.iter().try_for_each(source)?;
        self.validate_files()
    }

    /// Whether it takes text rather than tensors: it then runs on the language-model engine.
    pub fn is_language_model(&self) -> bool {
        LANGUAGE_TASKS.contains(&self.task.as_str())
    }

    /// What surrounds a language model is in its own files: tokeniser, template.
    fn validate_language(&self) -> Result<()> {
        let precision = &self.precision;
        let good = (1..=PRECISION_CHARS_MAX).contains(&precision.len())
            && precision.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        if !good {
            return Err(invalid(format!("the precision {precision:?} is not the name of a quantisation")));
        }
        if !self.inputs.is_empty() || !self.outputs.is_empty() {
            return Err(invalid("a language model has no tensors as inputs or outputs"));
        }
        let plain = Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} };
        match self.pipeline == plain {
            true => Ok(()),
            false => Err(invalid(format!("the pipeline does not fit the task {:?}", self.task))),
        }
    }

    /// The task, the pipeline and the fit between them.
    fn validate_pipeline(&self) -> Result<()> {
        one_of("task", &self.task, &TASKS)?;
        match &self.pipeline.preprocess {
            Preprocess::Image(image) => {
                let sides = 1..=limits::IMAGE_SIDE_MAX;
                if !sides.contains(&image.width) || !sides.contains(&image.height) {
                    return Err(invalid(format!("an input of {}x{} pixels", image.width, image.height)));
                }
                if !matches!(image.mean.len(), 1 | 3) {
                    return Err(invalid(format!("{} channels, expected 1 or 3", image.mean.len())));
                }
                scaling(&image.mean, &image.std)?;
            }
            Preprocess::Table(table) => {
                if table.columns.is_empty() || table.columns.len() != table.mean.len() {
                    return Err(invalid("one mean per column is needed, and at least one column"));
                }
                unique("columns", table.columns.iter().map(String::as_str))?;
                scaling(&table.mean, &table.std)?;
            }
            Preprocess::Tensor {}
            | Preprocess::Picture(_)
            | Preprocess::Text(_)
            | Preprocess::Bytes(_)
            | Preprocess::Audio(_) => {}
        }
        self.pipeline.check()?;
        self.pipeline.files().into_iter().try_for_each(path::check_path)?;
        if let Postprocess::Classify { labels } = &self.pipeline.postprocess {
            if labels.is_empty() {
                return Err(invalid("a classifier without labels"));
            }
            unique("labels", labels.iter().map(String::as_str))?;
        }
        let fits = self.task == "tensor" || self.task == self.pipeline.task();
        match fits {
            true => Ok(()),
            false => Err(invalid(format!("the pipeline does not fit the task {:?}", self.task))),
        }
    }

    fn validate_files(&self) -> Result<()> {
        if limits::BUNDLE_FILES_MAX < self.files.len() {
            return Err(invalid(format!("{} files, at most {}", self.files.len(), limits::BUNDLE_FILES_MAX)));
        }
        path::check_set(self.files.iter().map(|file| file.path.as_str()))?;
        if !self.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(invalid("the files are not sorted by path"));
        }
        let mut total = 0_u64;
        for file in &self.files {
            if is_reserved(&file.path) {
                return Err(invalid(format!("{:?} cannot list itself", file.path)));
            }
            digest(&file.path, &file.sha256)?;
            digest(&file.path, &file.blake3)?;
            total = total.saturating_add(file.size);
        }
        if limits::BUNDLE_BYTES_MAX < total {
            return Err(invalid(format!("{total} bytes, at most {}", limits::BUNDLE_BYTES_MAX)));
        }
        Ok(())
    }
}

/// Checks a model name: `[a-z0-9][a-z0-9._-]*`, at most [`limits::NAME_CHARS_MAX`] characters.
///
/// # Errors
/// [`Code::InvalidBundle`].
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.starts_with(plain)
        && name.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'))
        && name.len() <= limits::NAME_CHARS_MAX;
    if good {
        return Ok(());
    }
    Err(invalid(format!("{name:?} is not a model name"))
        .hint("Use lowercase letters, digits, `.`, `_` and `-`, and begin with a letter or digit."))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidBundle, message)
}

fn one_of(what: &str, value: &str, allowed: &[&str]) -> Result<()> {
    match allowed.contains(&value) {
        true => Ok(()),
        false => Err(invalid(format!("the {what} {value:?} is not one of {}", allowed.join(", ")))),
    }
}

fn digest(what: &str, value: &str) -> Result<()> {
    let hex = value.len() == 64 && value.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    match hex {
        true => Ok(()),
        false => Err(invalid(format!("the digest of {what:?} is not 64 lowercase hex digits"))),
    }
}

fn unique<'a>(what: &str, names: impl ExactSizeIterator<Item = &'a str>) -> Result<()> {
    if ENTRIES_MAX < names.len() {
        return Err(invalid(format!("{} {what}, at most {ENTRIES_MAX}", names.len())));
    }
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(invalid(format!("{what} holds an empty or repeated name {name:?}")));
        }
    }
    Ok(())
}

fn scaling(mean: &[f32], std: &[f32]) -> Result<()> {
    let good = mean.len() == std.len()
        && mean.iter().all(|x| x.is_finite())
        && std.iter().all(|x| x.is_finite() && 0.0 < *x);
    match good {
        true => Ok(()),
        false => Err(invalid("means must be finite, and there must be one positive finite std for each")),
    }
}

fn tensors(what: &str, list: &[TensorInfo]) -> Result<()> {
    if list.is_empty() {
        return Err(invalid(format!("no {what}")));
    }
    unique(what, list.iter().map(|tensor| tensor.name.as_str()))?;
    for tensor in list {
        one_of("element type", &tensor.dtype, DTYPES)?;
        if RANK_MAX < tensor.shape.len() {
            return Err(invalid(format!(
                "{:?} has {} axes, at most {RANK_MAX}",
                tensor.name,
                tensor.shape.len()
            )));
        }
    }
    Ok(())
}

fn evaluation(one: &Evaluation) -> Result<()> {
    digest("metrics", &one.data_digest)?;
    match one.values.values().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(invalid(format!("a metric on {:?} is not finite", one.data_name))),
    }
}

#[cfg(test)]
mod tests;
