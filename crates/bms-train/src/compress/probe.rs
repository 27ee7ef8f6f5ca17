//! Running a graph with its inner values exposed.

use std::collections::HashMap;
use std::sync::Arc;

use bms_data::Dataset;
use bms_nn::Tensor;
use bms_nn::onnx::proto::{
    DataType, GraphProto, Message, ModelProto, TensorType, TypeProto, TypeValue, ValueInfoProto,
};
use bms_nn::onnx::{LoadOptions, RuntimeChoice, RuntimeKind, Session, load};
use bms_wire::{Code, Error, Pipeline, Result};
use serde::{Deserialize, Serialize};

use super::emit::Emitter;
use super::flow::Flow;
use super::layer::{Kind, Layer};
use super::range::{Affine, Calibration, Seen};
use crate::predict::Scorer;

/// Rows of one run: inner values of a large graph take memory.
const ROWS_MAX: usize = 16;

/// How far a layer's integer form is from its float form on the same float input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerError {
    /// Name of the node.
    pub name: String,
    /// Root of the squared error over the squared signal, on the calibration data, after bias correction.
    pub relative_error: f64,
}

/// A model to probe and the samples to probe it with.
pub(crate) struct Probe<'a> {
    pub(crate) model: &'a ModelProto,
    pub(crate) graph: &'a GraphProto,
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) data: &'a Dataset,
    pub(crate) samples_max: usize,
    pub(crate) threads: usize,
}

/// What the calibration run of the integer form gives.
pub(crate) struct Corrected {
    /// Bias of each layer, with its mean error taken off.
    pub(crate) biases: Vec<Vec<f32>>,
    pub(crate) errors: Vec<LayerError>,
}

impl Probe<'_> {
    /// Scale and zero point of each activation that becomes bytes.
    pub(crate) fn ranges(&self, layers: &[Layer], method: Calibration) -> Result<HashMap<String, Affine>> {
        let flow = Flow::new(self.graph);
        let names = flow.quantised(layers);
        let mut seen = vec![Seen::default(); names.len()];
        let passes: &[fn(&mut Seen, &[f32])] =
            if method.needs_histogram() { &[Seen::widen, Seen::count] } else { &[Seen::widen] };
        for pass in passes {
            self.run(self.graph.clone(), &names, &mut |values| {
                for (seen, tensor) in seen.iter_mut().zip(values) {
                    pass(seen, finite(tensor)?);
                }
                Ok(())
            })?;
        }
        Ok(names.into_iter().zip(&seen).map(|(name, seen)| (name.to_owned(), seen.affine(method))).collect())
    }

    /// Runs each layer's float and integer form side by side on the float graph's values, takes the mean
    /// difference of each channel off its bias (Nagel et al. 2019, arXiv 1906.04721, measured instead of
    /// derived), and tells what error is left.
    pub(crate) fn correct(&self, layers: &[Layer], ranges: &HashMap<String, Affine>) -> Result<Corrected> {
        let flow = Flow::new(self.graph);
        let mut emitter = Emitter::new(self.graph);
        let mut names = Vec::new();
        for layer in layers {
            let input = ranges.get(flow.root(&layer.input)).copied().unwrap_or_default();
            let output = emitter.name(&layer.output, "probe");
            emitter.layer(layer, &self.graph.node[layer.node_idx], input, &layer.bias, &output);
            names.push((layer.output.clone(), output));
        }
        // The branches read values of the float graph, so they come after it.
        let mut graph = self.graph.clone();
        graph.node.extend(emitter.nodes);
        graph.initializer.extend(emitter.constants);
        let flat: Vec<&str> = names.iter().flat_map(|(float, integer)| [float.as_str(), integer]).collect();
        let mut gaps: Vec<Gap> = layers.iter().map(Gap::new).collect();
        self.run(graph, &flat, &mut |values| {
            for ((gap, layer), pair) in gaps.iter_mut().zip(layers).zip(values.chunks_exact(2)) {
                gap.add(layer.kind, pair[0], pair[1])?;
            }
            Ok(())
        })?;
        let biases = layers.iter().zip(&gaps).map(|(layer, gap)| gap.corrected(&layer.bias)).collect();
        let error = |(layer, gap): (&Layer, &Gap)| LayerError {
            name: layer.name.clone(),
            relative_error: gap.relative(),
        };
        Ok(Corrected { biases, errors: layers.iter().zip(&gaps).map(error).collect() })
    }

    /// Runs `graph` over the samples; `each` gets the values called `names`, in this order, batch by batch.
    fn run(
        &self,
        graph: GraphProto,
        names: &[&str],
        each: &mut dyn FnMut(&[&Tensor]) -> Result<()>,
    ) -> Result<()> {
        let fed: Vec<String> = self.graph.input.iter().map(|input| input.name().to_owned()).collect();
        let mut model = ModelProto { graph: None, ..self.model.clone() };
        let exposed = names.iter().filter(|name| !fed.iter().any(|input| input == *name));
        let mut graph = graph;
        graph.output = exposed.map(|name| float_value(name)).collect();
        if graph.output.is_empty() {
            // Only the graph's own input is asked for; a graph needs some output all the same.
            graph.output.clone_from(&self.graph.output);
        }
        model.graph = Some(graph);
        let mut session = open(&model.encode_to_vec(), self.threads)?;
        let mut scorer = Scorer::new(&mut session, self.pipeline, self.data)?;
        for rows in scorer.batches(self.data.len(), self.samples_max, ROWS_MAX) {
            let input = scorer.tensor(&rows)?;
            let outputs = scorer.run(input.clone())?;
            let find = |name: &&str| match outputs.iter().find(|(found, _)| found == name) {
                Some((_, tensor)) => Ok(tensor),
                None if fed.iter().any(|fed| fed == name) => Ok(&input),
                None => Err(Error::new(Code::Internal, format!("the run-time did not give `{name}`"))),
            };
            each(&names.iter().map(find).collect::<Result<Vec<_>>>()?)?;
        }
        Ok(())
    }
}

/// Loads on rten, so that the same file comes out wherever it is made; on ONNX Runtime what rten lacks.
fn open(bytes: &[u8], threads: usize) -> Result<Session> {
    let bytes: Arc<[u8]> = Arc::from(bytes);
    let options = |kind| LoadOptions { runtime: RuntimeChoice::Fixed(kind), threads };
    match load(Arc::clone(&bytes), &options(RuntimeKind::Rten)) {
        Err(error) if error.code() == Code::UnsupportedModel => {
            load(bytes, &options(RuntimeKind::OnnxRuntime)).map_err(|_| error)
        }
        other => other,
    }
}

fn float_value(name: &str) -> ValueInfoProto {
    let tensor = TensorType { elem_type: Some(DataType::Float as i32), shape: None };
    let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn finite(tensor: &Tensor) -> Result<&[f32]> {
    match tensor.as_f32() {
        Some(values) if values.iter().all(|value| value.is_finite()) => Ok(values),
        Some(_) => Err(Error::new(
            Code::InvalidInput,
            "the model gives values that are not finite on the calibration data",
        )),
        None => Err(Error::new(Code::UnsupportedModel, "an activation to be quantised is not f32")),
    }
}

/// Differences between the two forms of one layer, by channel.
struct Gap {
    sums: Vec<f64>,
    per_channel: u64,
    squares: f64,
    signal: f64,
}

impl Gap {
    fn new(layer: &Layer) -> Gap {
        Gap { sums: vec![0.0; layer.channels()], per_channel: 0, squares: 0.0, signal: 0.0 }
    }

    fn add(&mut self, kind: Kind, float: &Tensor, integer: &Tensor) -> Result<()> {
        let (a, b) = (finite(float)?, finite(integer)?);
        let channels = self.sums.len();
        let plane = match kind {
            Kind::Conv => float.shape().iter().skip(2).product::<usize>(),
            Kind::Matrix => 1,
        };
        if a.len() != b.len() || plane == 0 || a.len() % (plane * channels) != 0 {
            return Err(Error::new(Code::Internal, "the integer form of a layer has another shape"));
        }
        for (idx, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, gap) = (f64::from(*a), f64::from(*b) - f64::from(*a));
            self.sums[idx / plane % channels] += gap;
            self.squares += gap * gap;
            self.signal += a * a;
        }
        self.per_channel += (a.len() / channels) as u64;
        Ok(())
    }

    fn mean(&self, channel: usize) -> f64 {
        self.sums[channel] / self.per_channel.max(1) as f64
    }

    fn corrected(&self, bias: &[f32]) -> Vec<f32> {
        bias.iter().enumerate().map(|(channel, bias)| bias - self.mean(channel) as f32).collect()
    }

    /// Taking the mean off lowers the squared error of a channel by its square, each time.
    fn relative(&self) -> f64 {
        let taken: f64 = (0..self.sums.len()).map(|channel| self.mean(channel).powi(2)).sum::<f64>();
        let left = (self.squares - taken * self.per_channel as f64).max(0.0);
        if self.signal == 0.0 { 0.0 } else { (left / self.signal).sqrt() }
    }
}
