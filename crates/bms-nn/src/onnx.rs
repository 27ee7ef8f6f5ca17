//! ONNX graphs on the built-in run-time (rten) or on ONNX Runtime where its library is found.
//!
//! A graph is checked before a run-time sees it: damaged files are refused as such, and what a
//! run-time would accept but compute wrong is refused with the node and the reason. Run-times are
//! third-party code that may panic on a hostile graph; every call into them is fenced by
//! `catch_unwind`, and a panic becomes an error.

mod choose;
mod home;
mod integrity;
mod library;
mod onnxruntime;
mod refusals;
mod rten;
mod signature;
mod wide;

pub mod proto;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};
use prost::Message;

use crate::{DType, Tensor};

pub use home::Home;

/// Name, type and shape of an input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueSpec {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its dimensions; `None` is a free one. Empty also when `ranked` is false.
    pub shape: Vec<Option<usize>>,
    /// Whether the graph says how many dimensions it has.
    pub ranked: bool,
}

impl fmt::Display for ValueSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.dtype)?;
        if !self.ranked {
            return f.write_str(" of any shape");
        }
        let dims: Vec<String> = self
            .shape
            .iter()
            .map(|dim| dim.map_or_else(|| "?".to_owned(), |length| length.to_string()))
            .collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

/// A run-time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeKind {
    /// rten: pure Rust, built in.
    Rten,
    /// ONNX Runtime, loaded from its shared library.
    OnnxRuntime,
}

impl RuntimeKind {
    /// Both, built-in first.
    pub const ALL: [RuntimeKind; 2] = [RuntimeKind::Rten, RuntimeKind::OnnxRuntime];

    /// The name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeKind::Rten => "rten",
            RuntimeKind::OnnxRuntime => "onnxruntime",
        }
    }

    /// The run-time of this name.
    pub fn parse(name: &str) -> Option<RuntimeKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which run-time shall execute a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// The one that supports the graph; the faster one, by a short measurement, when both do.
    #[default]
    Auto,
    /// This one.
    Fixed(RuntimeKind),
}

impl RuntimeChoice {
    /// `auto` or the name of a run-time.
    pub fn parse(name: &str) -> Option<RuntimeChoice> {
        match name {
            "auto" => Some(RuntimeChoice::Auto),
            other => RuntimeKind::parse(other).map(RuntimeChoice::Fixed),
        }
    }
}

/// How a graph is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Which run-time.
    pub runtime: RuntimeChoice,
    /// Threads one run may use; 0 counts as 1.
    pub threads: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { runtime: RuntimeChoice::Auto, threads: 1 }
    }
}

/// Whether a run-time can be used here.
#[derive(Clone, Debug)]
pub struct RuntimeInfo {
    /// Which.
    pub kind: RuntimeKind,
    /// Whether it can be used.
    pub available: bool,
    /// Version and path, or why not and how to get it.
    pub detail: String,
}

/// The run-times and whether they can be used here.
pub fn runtimes() -> Vec<RuntimeInfo> {
    vec![rten::info(), onnxruntime::info()]
}

/// The variable, and its value, that keep ONNX Runtime from collecting data. Newer versions note their use and an
/// identifier of the machine in the user's cache folder and send them to their maker, before a setting of their
/// interface could say no. A program sets it before it has a second thread.
pub const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

/// Where the library of ONNX Runtime lies, if anywhere. What was found the first time holds for the life of the process, so
/// one that is about to be confined asks before.
pub fn library_file() -> Option<&'static std::path::Path> {
    onnxruntime::file()
}

/// One loaded graph, as a run-time sees it. Inputs were checked against the signature.
trait Backend: Send {
    /// Runs the graph; outputs in the graph's order.
    fn run(&mut self, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>>;

    /// See [`Session::home`].
    fn home(&self) -> Option<Home> {
        None
    }
}

/// A graph loaded on a run-time.
pub struct Session {
    inputs: Vec<ValueSpec>,
    outputs: Vec<ValueSpec>,
    kind: RuntimeKind,
    measured: Vec<(RuntimeKind, Duration)>,
    backend: Box<dyn Backend>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("runtime", &self.kind)
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// Loads a graph from the bytes of an `.onnx` file.
///
/// With [`RuntimeChoice::Auto`] and both run-times able to run it, both are run on a synthetic input
/// of the declared shape; the faster is kept, or ONNX Runtime when their answers differ, or the graph takes 64-bit integers,
/// of which the built-in run-time takes those of 32 bits.
///
/// # Errors
/// `InvalidBundle` when the bytes are no sound ONNX model (garbage, truncated, dangling names);
/// `UnsupportedModel` when no allowed run-time computes it exactly; `Unavailable` when ONNX Runtime is
/// asked for and its library cannot be loaded.
pub fn load(bytes: Arc<[u8]>, options: &LoadOptions) -> Result<Session> {
    let model = read(&bytes)?;
    let signature = signature::of(&model)?;
    choose::load(&bytes, &model, signature, options)
}

/// Decodes a model and checks that it is sound: tensors as long as their shapes say, names that
/// resolve, nothing outside the file.
///
/// # Errors
/// `InvalidBundle` when it is not; `UnsupportedModel` when weights lie in other files.
pub fn read(bytes: &Arc<[u8]>) -> Result<proto::ModelProto> {
    let buffer = proto::Bytes::from_owner(Arc::clone(bytes));
    let model = proto::ModelProto::decode(buffer).map_err(|cause| {
        Error::new(Code::InvalidBundle, format!("the model is not an ONNX file or is cut short: {cause}"))
    })?;
    integrity::check(&model)?;
    Ok(model)
}

/// Inputs and outputs of a graph, without loading it on a run-time.
///
/// # Errors
/// As [`load`], for what is wrong with the file or its signature.
pub fn signature(bytes: &Arc<[u8]>) -> Result<(Vec<ValueSpec>, Vec<ValueSpec>)> {
    let signature = signature::of(&read(bytes)?)?;
    Ok((signature.inputs, signature.outputs))
}

impl Session {
    /// The threads on which runs begin at once; `None` when that is any thread. Whoever runs a session often does so there, or on
    /// those of another home with a single thread like this one: two switches of threads a run are saved, and the run-time's
    /// thread does not look for work between runs.
    pub fn home(&self) -> Option<Home> {
        self.backend.home()
    }

    /// What the graph takes.
    pub fn inputs(&self) -> &[ValueSpec] {
        &self.inputs
    }

    /// What the graph gives.
    pub fn outputs(&self) -> &[ValueSpec] {
        &self.outputs
    }

    /// The run-time it is on.
    pub fn runtime(&self) -> RuntimeKind {
        self.kind
    }

    /// Time of one run on each run-time that was tried, when the choice was made by measurement.
    pub fn measured(&self) -> &[(RuntimeKind, Duration)] {
        &self.measured
    }

    /// Runs the graph. Inputs may come in any order; outputs come in the graph's order.
    ///
    /// # Errors
    /// `InvalidInput` when a name, type or shape does not fit, naming what was expected, or when the
    /// run-time refuses the values; `TooLarge` over [`limits::TENSOR_VALUES_MAX`] values; `Internal`
    /// when the run-time fails.
    pub fn run(&mut self, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        self.check_inputs(&inputs)?;
        self.backend.run(inputs)
    }

    fn check_inputs(&self, inputs: &[(String, Tensor)]) -> Result<()> {
        let invalid = |message: String| Err(Error::new(Code::InvalidInput, message));
        for (index, (name, tensor)) in inputs.iter().enumerate() {
            let Some(spec) = self.inputs.iter().find(|spec| spec.name == *name) else {
                return invalid(format!(
                    "there is no input `{name}`; the model takes {}",
                    list(&self.inputs)
                ));
            };
            if inputs[..index].iter().any(|(earlier, _)| earlier == name) {
                return invalid(format!("input `{name}` is given twice"));
            }
            check_tensor(spec, tensor)?;
        }
        if let Some(absent) =
            self.inputs.iter().find(|spec| inputs.iter().all(|(name, _)| *name != spec.name))
        {
            return invalid(format!("input {absent} is missing"));
        }
        Ok(())
    }
}

fn check_tensor(spec: &ValueSpec, tensor: &Tensor) -> Result<()> {
    if tensor.data().len() > limits::TENSOR_VALUES_MAX {
        let message = format!(
            "input `{}` has {} values, over {}",
            spec.name,
            tensor.data().len(),
            limits::TENSOR_VALUES_MAX
        );
        return Err(Error::new(Code::TooLarge, message));
    }
    let fits = !spec.ranked
        || (spec.shape.len() == tensor.shape().len()
            && spec
                .shape
                .iter()
                .zip(tensor.shape())
                .all(|(want, have)| want.is_none_or(|want| want == *have)));
    if spec.dtype != tensor.dtype() || !fits {
        let message = format!("input {spec} was given as {}{:?}", tensor.dtype(), tensor.shape());
        return Err(Error::new(Code::InvalidInput, message));
    }
    Ok(())
}

fn list(specs: &[ValueSpec]) -> String {
    specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Runs third-party code that may panic on a hostile graph or input and turns a panic into an error
/// with `code`. The panic message stays: it names the assertion that failed.
fn fenced<T>(code: Code, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // A backend whose run panicked is used again: rten keeps no state between runs, and ONNX Runtime
    // does not unwind through its C interface.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let cause = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown cause");
        Err(Error::new(code, format!("{what} gave up: {cause}")))
    })
}

#[cfg(test)]
mod tests;
