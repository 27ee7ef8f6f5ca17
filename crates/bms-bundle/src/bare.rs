//! Language models as others publish them: a GGUF file, or a Hugging Face folder.
//!
//! Such a model has no manifest. What one needs to know of it, it says itself: the header of a GGUF file, or
//! `config.json`.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bms_wire::{Code, Error, Pipeline, Postprocess, Preprocess, Result, limits};

use crate::bundle::Bare;
use crate::folder::{self, Files};
use crate::json::Json;
use crate::manifest::check_name;
use crate::scan::gguf;
use crate::{Content, Lineage, Manifest, path};

/// The name a GGUF file gets inside a bundle.
const GGUF_FILE: &str = "model.gguf";
/// The settings of a Hugging Face folder, which stand for the model.
const CONFIG_FILE: &str = "config.json";
/// The weights of a Hugging Face folder, when they are one file.
const WEIGHTS_FILE: &str = "model.safetensors";
/// Which of several files holds which weights.
const INDEX_FILE: &str = "model.safetensors.index.json";
/// Bytes of that file: the largest models need ten million.
const INDEX_BYTES_MAX: u64 = 32 << 20;
/// What of a Hugging Face folder makes up the model, besides the weights. Whatever else lies there, such as the same
/// weights as pickles, is left where it is.
const FOLDER_FILES: [&str; 20] = [
    CONFIG_FILE,
    INDEX_FILE,
    "1_Pooling/config.json",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "merges.txt",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];
/// Architectures that turn text into vectors, as GGUF and Hugging Face name them.
const EMBEDDERS: [&str; 14] = [
    "albert",
    "bert",
    "camembert",
    "deberta",
    "distilbert",
    "electra",
    "jina-bert-v2",
    "modern-bert",
    "modernbert",
    "mpnet",
    "nomic-bert",
    "nomic_bert",
    "roberta",
    "xlm-roberta",
];

/// An opened model.
pub(crate) struct Opened {
    pub(crate) files: Files,
    pub(crate) bare: Bare,
}

/// Opens the model at `path`; `name` instead of the one its file suggests.
pub(crate) fn open(path: &Path, name: Option<&str>) -> Result<Opened> {
    let mut files = Files::new();
    let mut state = blake3::Hasher::new();
    let mut newest_ms = 0;
    let mut bytes_left = limits::BUNDLE_BYTES_MAX;
    for (inside, file) in files_of(path)? {
        let content = folder::read_file(&file, bytes_left)?;
        bytes_left -= content.len() as u64;
        let metadata = file.metadata().map_err(|e| Error::io("read", &file, e))?;
        let written_ms = modified_ms(&metadata);
        newest_ms = written_ms.max(newest_ms);
        state.update(
            format!("{inside}\0{}\0{written_ms}\0{}\0", content.len(), identity(&metadata)).as_bytes(),
        );
        files.insert(inside, content);
    }
    let manifest = manifest(path, name, &files, newest_ms)?;
    state.update(manifest.name.as_bytes());
    let digest = state.finalize().to_hex().to_string();
    Ok(Opened { files, bare: Bare { manifest, digest } })
}

/// The files of the model at `path`: by their path in a bundle, and where they lie. Links are resolved: models
/// that were downloaded are folders of links.
pub(crate) fn files_of(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
    match metadata.is_dir() {
        true => folder_files(path),
        false => Ok(vec![(GGUF_FILE.to_owned(), resolved(path)?)]),
    }
}

/// What the model at `path`, which consists of `files`, says of itself.
pub(crate) fn manifest(path: &Path, name: Option<&str>, files: &Files, created_ms: i64) -> Result<Manifest> {
    let said = match (files.get(GGUF_FILE), files.get(CONFIG_FILE)) {
        (Some(content), _) => of_gguf(path, content)?,
        (None, Some(content)) => of_folder(path, content)?,
        (None, None) => return Err(no_model(path)),
    };
    let manifest = Manifest {
        schema: 1,
        name: match name {
            Some(name) => {
                check_name(name)?;
                name.to_owned()
            }
            None => said.name,
        },
        task: if said.embeds { "text-embedding" } else { "text-generation" }.to_owned(),
        model: said.model.to_owned(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        pipeline: Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} },
        metrics: Vec::new(),
        lineage: Lineage::default(),
        precision: said.precision,
        licence: said.licence,
        created_ms,
        sealed: None,
        files: Vec::new(),
    };
    manifest.validate()?;
    Ok(manifest)
}

/// What a model says of itself.
struct Said {
    model: &'static str,
    name: String,
    embeds: bool,
    precision: String,
    licence: Option<String>,
}

fn of_gguf(path: &Path, content: &Content) -> Result<Said> {
    if !content.starts_with(b"GGUF") {
        return Err(no_model(path));
    }
    let facts = gguf::facts(content);
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let called = match (stem.as_str(), facts.name) {
        ("" | "model", Some(name)) => name,
        _ => stem,
    };
    Ok(Said {
        model: GGUF_FILE,
        name: slug(&called),
        embeds: facts.architecture.is_some_and(|name| EMBEDDERS.contains(&name.as_str())),
        precision: facts.precision.to_owned(),
        licence: facts.licence.filter(|licence| licence.len() <= limits::NAME_CHARS_MAX),
    })
}

fn of_folder(path: &Path, config: &Content) -> Result<Said> {
    let config = Json::parse(config).map_err(|e| {
        Error::new(Code::InvalidBundle, format!("`{CONFIG_FILE}` is malformed: {e}")).because(e)
    })?;
    let text = |key: &str| match config.get(key) {
        Some(Json::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let precision = match text("torch_dtype").or_else(|| text("dtype")) {
        Some("float32") => "f32",
        Some("float16") => "f16",
        Some("bfloat16") => "bf16",
        _ => "mixed",
    };
    Ok(Said {
        model: CONFIG_FILE,
        name: slug(&folder_name(path)),
        embeds: text("model_type").is_some_and(|name| EMBEDDERS.contains(&name)),
        precision: precision.to_owned(),
        licence: None,
    })
}

/// The name of a folder; of one inside a download cache, the model's.
fn folder_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name =
        |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let cached = path
        .parent()
        .filter(|snapshots| name(snapshots) == "snapshots")
        .and_then(Path::parent)
        .map(name)
        .and_then(|repository| repository.rsplit_once("--").map(|(_, model)| model.to_owned()));
    cached.unwrap_or_else(|| name(&path))
}

/// A model name as close to `text` as the rules allow.
fn slug(text: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => c,
        _ => '-',
    };
    let name: String = text
        .chars()
        .map(plain)
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(limits::NAME_CHARS_MAX)
        .collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

fn folder_files(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut wanted: BTreeSet<String> =
        FOLDER_FILES.iter().filter(|name| dir.join(name).is_file()).map(|name| (*name).to_owned()).collect();
    if !wanted.contains(CONFIG_FILE) {
        return Err(no_model(dir));
    }
    match wanted.contains(INDEX_FILE) {
        true => wanted.extend(shards(dir)?),
        false if dir.join(WEIGHTS_FILE).is_file() => drop(wanted.insert(WEIGHTS_FILE.to_owned())),
        false => {
            return Err(Error::new(
                Code::InvalidInput,
                format!("there is neither `{WEIGHTS_FILE}` nor `{INDEX_FILE}`"),
            )
            .hint("Only weights as safetensors are read; pickles (`.bin`, `.pt`) are programs."));
        }
    }
    wanted.into_iter().map(|name| Ok((name.clone(), resolved(&dir.join(&name))?))).collect()
}

/// The files the index of a folder names.
fn shards(dir: &Path) -> Result<BTreeSet<String>> {
    let invalid = |what: String| Error::new(Code::InvalidBundle, format!("`{INDEX_FILE}` {what}"));
    let index = resolved(&dir.join(INDEX_FILE))?;
    let index = folder::read_file(&index, INDEX_BYTES_MAX)?;
    let index = Json::parse(&index).map_err(|e| invalid(format!("is malformed: {e}")).because(e))?;
    let map = index.get("weight_map").map(Json::members).unwrap_or_default();
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let Json::Text(shard) = shard else {
            return Err(invalid(format!("does not say in which file {tensor:?} is")));
        };
        path::check_path(shard)?;
        shards.insert(shard.clone());
    }
    match shards.is_empty() {
        true => Err(invalid("names no files".to_owned())),
        false => Ok(shards),
    }
}

fn resolved(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::io("open", path, e))
}

fn no_model(path: &Path) -> Error {
    let what = format!(
        "`{}` is neither a GGUF file nor a folder with `{CONFIG_FILE}` and safetensors",
        path.display()
    );
    Error::new(Code::InvalidInput, what).hint("`bms package` makes a bundle of an ONNX file.")
}

fn modified_ms(metadata: &Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests;
