//! What a pipeline needs besides its graph.

use bms_bundle::Verified;
use bms_nn::lm::{Tokenizer, TokenizerFiles};
use bms_nn::onnx::{self, LoadOptions};
use bms_wire::{Code, Error, Postprocess, Preprocess, Result, limits};

use crate::batch::{Batcher, Bounds};
use crate::engine::Description;
use crate::fit;

/// What a pipeline needs besides its graph.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) recogniser: Option<Recogniser>,
}

/// The graph that reads lines of text.
#[derive(Debug)]
pub(crate) struct Recogniser {
    /// Name of its one input.
    pub(crate) input: String,
    pub(crate) batcher: Batcher,
}

impl Parts {
    /// Loads what the pipeline names from the bundle.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] when it is not there or does not fit, and as for the graph itself.
    pub(crate) fn load(bundle: &Verified, model: &Description, load: &LoadOptions) -> Result<Parts> {
        let pipeline = &model.pipeline;
        let file = |path: &str| {
            let missing =
                || Error::new(Code::InvalidBundle, format!("the pipeline's file {path:?} is missing"));
            bundle.file(path).ok_or_else(missing)
        };
        let mut parts = Parts::default();
        if let Preprocess::Text(text) = &pipeline.preprocess {
            let content = file(&text.tokenizer)?;
            let files = TokenizerFiles { tokenizer: &content, ..TokenizerFiles::default() };
            let tokenizer = Tokenizer::from_hf(&files);
            let tokenizer = tokenizer.map_err(|e| e.while_doing(format!("read `{}`", text.tokenizer)))?;
            let special = tokenizer.begin().len() + tokenizer.end().len();
            if text.tokens_max < special {
                let what = format!("{} tokens do not hold the {special} special ones", text.tokens_max);
                return Err(Error::new(Code::InvalidBundle, what));
            }
            parts.tokenizer = Some(tokenizer);
        }
        if let Postprocess::Lines(lines) = &pipeline.postprocess {
            let path = &lines.recognise.model;
            let session = onnx::load(file(path)?.to_shared(), load)
                .map_err(|e| e.while_doing(format!("load `{path}` of `{}`", model.name)))?;
            let (inputs, outputs) = (session.inputs().to_vec(), session.outputs().to_vec());
            fit::check_recogniser(&lines.recognise, &inputs, &outputs)?;
            let bounds = Bounds {
                rows_max: 1,
                wait: std::time::Duration::ZERO,
                queue_rows_max: limits::QUEUE_ROWS_MAX,
                joins_rows: false,
            };
            let input = inputs.into_iter().next().map(|spec| spec.name).unwrap_or_default();
            parts.recogniser = Some(Recogniser { input, batcher: Batcher::start(session, bounds)? });
        }
        Ok(parts)
    }
}
