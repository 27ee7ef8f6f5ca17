//! A pipeline somebody wrote, completed by files: names of classes, characters, a tokenizer, a second graph.

use std::path::Path;
use std::sync::Arc;

use bms_nn::onnx;
use bms_wire::{Code, Error, LineOutput, Pipeline, Postprocess, Preprocess, Result};

use super::Package;

/// Where graphs that read text carry their characters, one a line.
const CHARACTERS_KEY: &str = "character";

/// Files of the bundle, by their path in it.
type Files = Vec<(String, Vec<u8>)>;

impl Package {
    /// The pipeline of the file at `path` for a graph, and the files it needs.
    pub(super) fn asked_pipeline(&self, path: &Path, graph: &Arc<[u8]>) -> Result<(Pipeline, Files)> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let mut pipeline = bms_bundle::read_pipeline(&bytes)
            .map_err(|e| e.while_doing(format!("read the pipeline `{}`", path.display())))?;
        let files = self.files()?;
        self.name_labels(&mut pipeline.postprocess)?;
        match &mut pipeline.postprocess {
            Postprocess::Line(line) => self.name_characters(line, graph)?,
            Postprocess::Lines(lines) => {
                let second = find(&files, &lines.recognise.model)?;
                self.name_characters(&mut lines.recognise.line, &second)?;
                let (inputs, outputs) = onnx::signature(&second)
                    .map_err(|e| e.while_doing(format!("read `{}`", lines.recognise.model)))?;
                bms_engine::fit::check_recogniser(&lines.recognise, &inputs, &outputs)?;
            }
            _ if self.characters.is_some() => {
                return Err(Error::new(Code::InvalidRequest, "the pipeline reads no characters"));
            }
            _ => {}
        }
        if let Preprocess::Text(text) = &pipeline.preprocess {
            find(&files, &text.tokenizer)?;
        }
        if let Some((path, _)) = files.iter().find(|(path, _)| !pipeline.files().contains(&path.as_str())) {
            return Err(Error::new(Code::InvalidRequest, format!("the pipeline does not name {path:?}"))
                .hint("Leave the file out, or name it in the pipeline."));
        }
        pipeline.check()?;
        Ok((pipeline, files))
    }

    fn files(&self) -> Result<Files> {
        let read = |(inside, file): &(String, std::path::PathBuf)| {
            let bytes = std::fs::read(file).map_err(|e| Error::io("read", file, e))?;
            Ok((inside.clone(), bytes))
        };
        self.add.iter().map(read).collect()
    }

    fn name_labels(&self, post: &mut Postprocess) -> Result<()> {
        let Some(names) = self.labels()? else { return Ok(()) };
        match post {
            Postprocess::Classify { labels } => *labels = names,
            Postprocess::Labels(output) => output.labels = names,
            Postprocess::Boxes(output) => output.labels = names,
            _ => return Err(Error::new(Code::InvalidRequest, "the pipeline has no labels")),
        }
        Ok(())
    }

    /// Characters from the option's file, or, when the pipeline names none, from the graph.
    fn name_characters(&self, line: &mut LineOutput, graph: &Arc<[u8]>) -> Result<()> {
        if let Some(path) = &self.characters {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
            line.characters = text.lines().map(str::to_owned).collect();
        } else if line.characters.is_empty() {
            let model = onnx::read(graph)?;
            let said = model.metadata_props.iter().find(|pair| pair.key.as_deref() == Some(CHARACTERS_KEY));
            let said = said.and_then(|pair| pair.value.as_deref()).ok_or_else(|| {
                Error::new(
                    Code::InvalidRequest,
                    "neither the pipeline nor the graph says what characters there are",
                )
                .hint("Give them with --characters, one a line.")
            })?;
            line.characters = said.lines().chain([" "]).map(str::to_owned).collect();
        }
        Ok(())
    }
}

fn find(files: &[(String, Vec<u8>)], path: &str) -> Result<Arc<[u8]>> {
    let found = files.iter().find(|(inside, _)| inside == path);
    found.map(|(_, bytes)| Arc::from(bytes.as_slice())).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("the pipeline's file {path:?} is not given"))
            .hint(format!("Add it with --add {path}=FILE."))
    })
}
