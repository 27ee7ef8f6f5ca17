//! `bms package`: a signed bundle of a model made elsewhere: an ONNX file, a GGUF file, or a Hugging Face folder.

mod pipeline;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bms_bundle::{Draft, Lineage, Manifest, TensorInfo};
use bms_nn::onnx::{self, ValueSpec};
use bms_wire::{Code, Error, ImageInput, Pipeline, Postprocess, Preprocess, Result};
use clap::Args;
use serde_json::json;

use crate::cmd::train::free;
use crate::home::Home;
use crate::output::Output;

/// Options of `bms package`.
#[derive(Debug, Args)]
pub(crate) struct Package {
    /// The model: an ONNX file, a GGUF file, or a folder with `config.json` and safetensors. The files of a language
    /// model are linked into the bundle where the file system allows it, not copied.
    model: PathBuf,
    /// The bundle to write; must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the model.
    #[arg(long)]
    name: String,
    /// Of an ONNX file: class names, one a line (or, in a file `.json`, a list), in the order of the logits. Without a
    /// pipeline: the model classifies.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Of an ONNX file: what happens before and after it, in TOML or JSON; see the guide `pipelines`.
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    pipeline: Option<PathBuf>,
    /// Of an ONNX file that reads text: its characters, one a line. Without it they are taken from the file's metadata,
    /// key `character`, and a space is added, as RapidOCR does.
    #[arg(long, value_name = "FILE", requires = "pipeline")]
    characters: Option<PathBuf>,
    /// A further file of the bundle that the pipeline names, such as `tokenizer.json=path/to/tokenizer.json`. May be given
    /// several times.
    #[arg(long, value_name = "PATH=FILE", value_parser = file_to_add, requires = "pipeline")]
    add: Vec<(String, PathBuf)>,
    /// Of an ONNX file: the model takes pictures of this size, as WIDTHxHEIGHT.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    image: Option<(u32, u32)>,
    /// Means of the channels (one: grey, three: RGB), on a scale of 0 to 1.
    #[arg(long, value_name = "MEANS", value_delimiter = ',', default_values_t = [0.0, 0.0, 0.0], requires = "image")]
    mean: Vec<f32>,
    /// Standard deviations of the channels.
    #[arg(long, value_name = "DEVIATIONS", value_delimiter = ',', default_values_t = [1.0, 1.0, 1.0], requires = "image")]
    std: Vec<f32>,
    /// SPDX licence expression of the model.
    #[arg(long)]
    licence: Option<String>,
}

/// A bundle of the model at `path`, which says itself what one has to know, still to be written.
pub(crate) fn draft_of(path: &Path, name: &str, licence: Option<String>) -> Result<Draft> {
    let package = Package {
        model: path.to_owned(),
        out: PathBuf::new(),
        name: name.to_owned(),
        labels: None,
        pipeline: None,
        characters: None,
        add: Vec::new(),
        image: None,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        licence,
    };
    match is_language_model(path)? {
        true => package.language_model(),
        false => package.graph(),
    }
}

fn file_to_add(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (path, file) =
        text.split_once('=').ok_or("expected PATH=FILE, for example tokenizer.json=tokenizer.json")?;
    Ok((path.to_owned(), file.into()))
}

fn size(text: &str) -> std::result::Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').ok_or("expected WIDTHxHEIGHT, for example 224x224")?;
    let side = |s: &str| s.parse::<u32>().ok().filter(|n| 0 < *n).ok_or("a side is not a positive number");
    Ok((side(width)?, side(height)?))
}

impl Package {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        free(&self.out)?;
        let draft = match is_language_model(&self.model)? {
            true => self.language_model()?,
            false => self.graph()?,
        };
        let manifest = draft.write_signed(&self.out, &home.signing_key()?)?;
        output.result(
            format_args!("the signed bundle of `{}` lies in `{}`", self.name, self.out.display()),
            &json!({"out": self.out, "manifest": manifest}),
        );
        Ok(())
    }

    /// A bundle of a language model, which says itself what one has to know.
    fn language_model(&self) -> Result<Draft> {
        if self.labels.is_some() || self.image.is_some() || self.pipeline.is_some() {
            let what = "a language model takes no --labels, --image or --pipeline";
            return Err(Error::new(Code::InvalidRequest, what));
        }
        let mut draft = Draft::of_model(&self.model, Some(&self.name))?;
        if self.licence.is_some() {
            draft.manifest_mut().licence.clone_from(&self.licence);
        }
        Ok(draft)
    }

    /// A bundle of an ONNX file.
    fn graph(&self) -> Result<Draft> {
        let bytes = std::fs::read(&self.model).map_err(|e| Error::io("read", &self.model, e))?;
        let bytes: Arc<[u8]> = bytes.into();
        let (inputs, outputs) =
            onnx::signature(&bytes).map_err(|e| e.while_doing(format!("read `{}`", self.model.display())))?;
        let (pipeline, files) = match &self.pipeline {
            Some(path) => self.asked_pipeline(path, &bytes)?,
            None => (self.plain_pipeline()?, Vec::new()),
        };
        bms_engine::fit::check(&pipeline, &inputs, &outputs)?;
        let manifest = self.manifest(&inputs, &outputs, pipeline)?;
        let mut draft = Draft::new(manifest);
        draft.add("model.onnx", bytes.to_vec())?;
        for (path, bytes) in files {
            draft.add(path, bytes)?;
        }
        Ok(draft)
    }

    /// The pipeline that the options make.
    fn plain_pipeline(&self) -> Result<Pipeline> {
        let preprocess = match self.image {
            Some((width, height)) => Preprocess::Image(ImageInput {
                width,
                height,
                mean: self.mean.clone(),
                std: self.std.clone(),
            }),
            None => Preprocess::Tensor {},
        };
        let postprocess = match self.labels()? {
            Some(labels) => Postprocess::Classify { labels },
            None => Postprocess::Tensor {},
        };
        Ok(Pipeline { preprocess, postprocess })
    }

    fn manifest(&self, inputs: &[ValueSpec], outputs: &[ValueSpec], pipeline: Pipeline) -> Result<Manifest> {
        let manifest = Manifest {
            schema: 1,
            name: self.name.clone(),
            task: pipeline.task().to_owned(),
            model: "model.onnx".to_owned(),
            inputs: inputs.iter().map(tensor_info).collect(),
            outputs: outputs.iter().map(tensor_info).collect(),
            pipeline,
            metrics: Vec::new(),
            lineage: Lineage::default(),
            precision: "fp32".to_owned(),
            licence: self.licence.clone(),
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
            sealed: None,
            files: Vec::new(),
        };
        manifest.validate()?;
        Ok(manifest)
    }

    fn labels(&self) -> Result<Option<Vec<String>>> {
        let Some(path) = &self.labels else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let labels: Vec<String> = match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            true => serde_json::from_str(&text).map_err(|e| {
                Error::new(Code::InvalidInput, format!("`{}` is no list of names: {e}", path.display()))
                    .because(e)
            })?,
            false => text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect(),
        };
        if labels.is_empty() {
            return Err(Error::new(Code::InvalidInput, format!("`{}` holds no labels", path.display())));
        }
        Ok(Some(labels))
    }
}

/// Whether the model is one that takes text: a folder, or a file that says that it is GGUF.
fn is_language_model(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(true);
    }
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read(&mut magic));
    Ok(read.map_err(|e| Error::io("read", path, e))? == magic.len() && &magic == b"GGUF")
}

fn tensor_info(spec: &ValueSpec) -> TensorInfo {
    TensorInfo { name: spec.name.clone(), dtype: spec.dtype.as_str().to_owned(), shape: spec.shape.clone() }
}
