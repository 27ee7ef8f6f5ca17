//! One loaded model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_bundle::Verified;
use bms_nn::Tensor;
use bms_nn::onnx::{self, LoadOptions, RuntimeChoice, RuntimeKind, ValueSpec};
use bms_wire::oip::about::ModelStatistics;
use bms_wire::{Code, Error, Pipeline, Postprocess, Preprocess, Result, limits};

use crate::answer::Answer;
use crate::batch::{Batcher, Bounds, Job, Run};
use crate::independence::rows_are_independent;
use crate::input::{self, Input, Ready};
use crate::parts::Parts;
use crate::{Priority, Progress, fit, post, runs};

/// How a model is loaded and batched.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Which run-time executes the graph.
    pub runtime: RuntimeChoice,
    /// Threads one run may use.
    pub threads: usize,
    /// Rows joined into one run, at most [`limits::BATCH_ROWS_MAX`].
    pub batch_rows_max: usize,
    /// How long the first waiting row waits for others. Zero joins what waits already, and costs no latency.
    pub batch_wait: Duration,
    /// Rows that may wait; one more is refused with `QueueFull`. At most [`limits::QUEUE_ROWS_MAX`].
    pub queue_rows_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            runtime: RuntimeChoice::Auto,
            threads: 1,
            batch_rows_max: limits::BATCH_ROWS_MAX,
            batch_wait: Duration::ZERO,
            queue_rows_max: limits::QUEUE_ROWS_MAX,
        }
    }
}

/// What a loaded model is.
#[derive(Clone, Debug)]
pub struct Description {
    /// Model name.
    pub name: String,
    /// Hex BLAKE3 of the bundle's manifest.
    pub digest: String,
    /// The task, as the manifest names it.
    pub task: String,
    /// `fp32` or `int8`.
    pub precision: String,
    /// The run-time that executes the graph.
    pub runtime: RuntimeKind,
    /// Time of one run on each run-time, when the choice was made by measurement.
    pub measured: Vec<(RuntimeKind, Duration)>,
    /// The graph's inputs.
    pub inputs: Vec<ValueSpec>,
    /// The graph's outputs.
    pub outputs: Vec<ValueSpec>,
    /// What happens around the graph.
    pub pipeline: Pipeline,
    /// Bytes of the bundle.
    pub size_bytes: u64,
}

impl Description {
    /// Class names in the order of the logits; empty when the model does not classify.
    pub fn labels(&self) -> &[String] {
        self.pipeline.labels()
    }

    /// Lengths of one row as the pipeline makes it; `None` when requests bring the graph's own tensors.
    fn row_shape(&self) -> Option<Vec<usize>> {
        fit::row_shape(&self.pipeline)
    }

    /// Rows that fit in one run: no more than the limit, and no more than make the largest tensor.
    fn rows_max(&self) -> usize {
        let values = self.row_shape().map_or(1, |row| row.iter().product::<usize>().max(1));
        (limits::TENSOR_VALUES_MAX / values).clamp(1, limits::BATCH_ROWS_MAX)
    }

    /// Whether requests may be joined along the first axis: it is free in every input and output, the pipeline says
    /// that it counts samples, and a trial shows that a row's answer does not depend on its neighbours. A bare
    /// graph's first axis may mean anything, so its requests run alone.
    fn joins_rows(&self, session: &mut impl Run) -> bool {
        let free = |specs: &[ValueSpec]| specs.iter().all(|s| s.ranked && s.shape.first() == Some(&None));
        let ([input], Some(row)) = (&self.inputs[..], self.row_shape()) else { return false };
        free(&self.inputs) && free(&self.outputs) && rows_are_independent(session, &input.name, &row)
    }
}

/// A loaded model. Share it between threads by reference; dropping it ends its thread after the waiting work.
#[derive(Debug)]
pub struct Engine {
    pub(crate) description: Arc<Description>,
    pub(crate) batcher: Batcher,
    pub(crate) parts: Parts,
}

impl Engine {
    /// Loads a verified bundle.
    ///
    /// # Errors
    /// [`Code::UnsupportedModel`] when no run-time here computes the graph exactly, [`Code::InvalidBundle`] when the
    /// graph does not fit the manifest, [`Code::Unavailable`] when the run-time asked for is not there,
    /// [`Code::Tampered`] when the files were written to meanwhile.
    pub fn load(bundle: Verified, options: &EngineOptions) -> Result<Engine> {
        let manifest = bundle.manifest();
        if manifest.is_language_model() {
            let what = format!("`{}` is a language model and takes text, not tensors", manifest.name);
            return Err(Error::new(Code::UnsupportedModel, what)
                .hint("Serve it with `bms serve` or `bms up`, or talk to it with `bms chat`."));
        }
        let load = LoadOptions { runtime: options.runtime, threads: options.threads };
        let mut session = onnx::load(bundle.model_bytes().to_shared(), &load)
            .map_err(|e| e.while_doing(format!("load `{}` of `{}`", manifest.model, manifest.name)))?;
        let description = Description {
            name: manifest.name.clone(),
            digest: bundle.digest().to_owned(),
            task: manifest.task.clone(),
            precision: manifest.precision.clone(),
            runtime: session.runtime(),
            measured: session.measured().to_vec(),
            inputs: session.inputs().to_vec(),
            outputs: session.outputs().to_vec(),
            pipeline: manifest.pipeline.clone(),
            size_bytes: bundle.size_bytes(),
        };
        fit::check(&description.pipeline, &description.inputs, &description.outputs)?;
        let parts = Parts::load(&bundle, &description, &load)?;
        let bounds = Bounds {
            rows_max: options.batch_rows_max.clamp(1, description.rows_max()),
            wait: options.batch_wait.min(Duration::from_millis(limits::INFER_DEADLINE_MS)),
            queue_rows_max: options.queue_rows_max.clamp(1, limits::QUEUE_ROWS_MAX),
            joins_rows: description.joins_rows(&mut session),
        };
        let batcher = Batcher::start(session, bounds)?;
        // What was loaded is what was checked.
        bundle.recheck()?;
        Ok(Engine { description: Arc::new(description), batcher, parts })
    }

    /// What was loaded.
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// Rows of separate requests that are joined into one run; 0 when each request runs alone.
    pub fn joined_rows_max(&self) -> usize {
        self.batcher.joined_rows_max()
    }

    /// What the model has done since it was loaded; the name and version are left to the caller.
    pub fn statistics(&self) -> ModelStatistics {
        self.batcher.statistics().now()
    }

    /// Takes work; `reply` is called once, on the engine's thread, so it must be quick; or on this one before this returns,
    /// when nothing waits and the model is known to be quick. Preprocessing happens here, on the caller's thread. So does all
    /// of a pipeline that runs graphs several times for one input (regions of text, a recording): it returns when that is done.
    ///
    /// # Errors
    /// [`Code::QueueFull`] at once when too much waits, [`Code::InvalidInput`] when the input does not fit the model.
    /// `reply` is not called then.
    pub fn submit(&self, input: Input, reply: impl FnOnce(Result<Answer>) + Send + 'static) -> Result<()> {
        self.submit_while(input, Priority::default(), || true, reply)
    }

    /// As [`Engine::submit`], at this priority, but skipped, without a reply, when `wanted` says no before it runs: the caller has left.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit_while(
        &self,
        input: Input,
        priority: Priority,
        wanted: impl Fn() -> bool + Send + 'static,
        reply: impl FnOnce(Result<Answer>) + Send + 'static,
    ) -> Result<()> {
        if self.takes_several_runs(&input) {
            if let Some(answer) = runs::answer(self, input, priority, &wanted)? {
                reply(Ok(answer));
            }
            return Ok(());
        }
        let (rows, since) = (input.rows(), Instant::now());
        let seat = self.batcher.admit(rows)?;
        let Ready { tensors: inputs, context } = input::prepare(&self.description, &self.parts, input)?;
        let description = self.description.clone();
        let finish = move |outputs: Result<Vec<(String, Tensor)>>| {
            reply(outputs.and_then(|outputs| post::finish(&description, context, outputs)));
        };
        self.batcher.submit(Job {
            inputs,
            rows,
            priority,
            since,
            wanted: Box::new(wanted),
            reply: Box::new(finish),
            _seat: seat,
        })
    }

    /// Whether an input takes several runs, so that handing it in blocks.
    pub fn takes_several_runs(&self, input: &Input) -> bool {
        let pipeline = &self.description.pipeline;
        match input {
            Input::Images(_) => matches!(pipeline.postprocess, Postprocess::Lines(_)),
            Input::Files(_) => matches!(pipeline.preprocess, Preprocess::Audio(_)),
            Input::Tensors(_) | Input::Rows(_) | Input::Texts(_) => false,
        }
    }

    /// Answers and waits for it.
    ///
    /// # Errors
    /// As [`Engine::submit`], and what the run-time reports.
    pub fn predict(&self, input: Input) -> Result<Answer> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.submit(input, move |answer| {
            // The receiver waits below; it cannot be gone.
            let _ = sender.send(answer);
        })?;
        receiver.recv().unwrap_or_else(|_| {
            Err(Error::new(Code::Internal, "the engine's thread ended before it answered"))
        })
    }

    /// What it has done and has to do.
    pub fn progress(&self) -> Progress {
        self.batcher.progress()
    }

    /// Rows that wait or run now.
    pub fn waiting_rows(&self) -> usize {
        self.batcher.waiting_rows()
    }
}

#[cfg(test)]
mod tests;
