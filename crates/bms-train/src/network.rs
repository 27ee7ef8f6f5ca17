//! The trained network: burn modules built from a list of layers.

use bms_wire::{Code, Error, Result};
use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::store::ModuleRecord;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Bytes, Device, Tensor, TensorData, activation, module};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::random::{Purpose, stream};

pub(crate) mod design;

use design::{InputShape, Layer};

/// A feed-forward network. Parameters lie in the order of `layers`.
#[derive(Module, Debug)]
pub(crate) struct Network {
    convs: Vec<Conv2d>,
    linears: Vec<Linear>,
    #[module(skip)]
    layers: Vec<Layer>,
    #[module(skip)]
    input: InputShape,
}

/// A parameter's values with its shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

/// Weight and bias of one convolution or fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerValues {
    pub(crate) weight: Values,
    pub(crate) bias: Values,
}

impl Network {
    /// A network with weights drawn from `seed`.
    ///
    /// Weights: uniform in ±√(6 / fan-in) (He et al. 2015, arXiv 1502.01852), the last layer's in
    /// ±√(1 / fan-in) so that the first logits are small; biases zero.
    pub(crate) fn new(layers: Vec<Layer>, input: InputShape, seed: u64, device: &Device) -> Network {
        let (mut convs, mut linears) = (Vec::new(), Vec::new());
        let last = layers.iter().rposition(|layer| matches!(layer, Layer::Linear { .. }));
        for (idx, layer) in layers.iter().enumerate() {
            let mut rng = stream(seed, Purpose::Init, idx as u64, 0);
            // Fixed identifiers, so that an optimiser's record fits a network built anew.
            let id = |part: u64| ParamId::from(1 + 2 * idx as u64 + part);
            let gain = if Some(idx) == last { 1.0 } else { 6.0_f32 };
            match *layer {
                Layer::Conv { from, to } => {
                    let bound = (gain / (from * 9) as f32).sqrt();
                    let weight = Tensor::from_data(uniform(&[to, from, 3, 3], bound, &mut rng), device);
                    let bias = Tensor::zeros([to], device);
                    convs.push(convolution(parameter(id(0), weight), parameter(id(1), bias)));
                }
                Layer::Linear { from, to } => {
                    let bound = (gain / from as f32).sqrt();
                    let weight = Tensor::from_data(uniform(&[from, to], bound, &mut rng), device);
                    let bias = Tensor::zeros([to], device);
                    linears.push(Linear {
                        weight: parameter(id(0), weight),
                        bias: Some(parameter(id(1), bias)),
                    });
                }
                Layer::Relu | Layer::MaxPool | Layer::Flatten | Layer::Dropout { .. } => {}
            }
        }
        Network { convs, linears, layers, input }
    }

    /// Logits `[batch, labels]` for flat samples `[batch, values]`. Dropout happens when `dropout` is given.
    pub(crate) fn forward(&self, input: Tensor<2>, mut dropout: Option<&mut ChaCha8Rng>) -> Tensor<2> {
        let (mut convs, mut linears) = (self.convs.iter(), self.linears.iter());
        let mut flow = match self.input {
            InputShape::Picture { channels, height, width } => {
                let [batch, _] = input.dims();
                Flow::Picture(input.reshape([batch, channels, height, width]))
            }
            InputShape::Row { .. } => Flow::Row(input),
        };
        for layer in &self.layers {
            flow = match (layer, flow) {
                (Layer::Conv { .. }, Flow::Picture(x)) => Flow::Picture(match convs.next() {
                    Some(conv) => conv.forward(x),
                    None => x,
                }),
                (Layer::Linear { .. }, Flow::Row(x)) => Flow::Row(match linears.next() {
                    Some(linear) => linear.forward(x),
                    None => x,
                }),
                (Layer::Relu, Flow::Picture(x)) => Flow::Picture(activation::relu(x)),
                (Layer::Relu, Flow::Row(x)) => Flow::Row(activation::relu(x)),
                (Layer::MaxPool, Flow::Picture(x)) => {
                    let options = MaxPoolOptions::new([2, 2]).with_stride([2, 2]);
                    Flow::Picture(module::max_pool2d(x, options))
                }
                (Layer::Flatten, Flow::Picture(x)) => Flow::Row(x.flatten(1, 3)),
                (Layer::Dropout { share }, Flow::Row(x)) => Flow::Row(match dropout.as_deref_mut() {
                    Some(rng) => drop_values(x, *share, rng),
                    None => x,
                }),
                // `design::layers` flattens before the first fully connected layer and never after.
                (_, flow) => flow,
            };
        }
        match flow {
            Flow::Row(logits) => logits,
            Flow::Picture(x) => x.flatten(1, 3),
        }
    }

    /// The layers.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Shape of one sample.
    pub(crate) fn input(&self) -> InputShape {
        self.input
    }

    /// Number of weights and biases.
    pub(crate) fn parameters(&self) -> u64 {
        self.num_params() as u64
    }

    /// The parameters of each layer that has some, in the order of the layers.
    pub(crate) fn values(&self) -> Result<Vec<LayerValues>> {
        let (mut convs, mut linears) = (self.convs.iter(), self.linears.iter());
        let mut all = Vec::new();
        for layer in &self.layers {
            let found = match layer {
                Layer::Conv { .. } => convs.next().map(|l| (read(l.weight.val()), l.bias.as_ref())),
                Layer::Linear { .. } => linears.next().map(|l| (read(l.weight.val()), l.bias.as_ref())),
                Layer::Relu | Layer::MaxPool | Layer::Flatten | Layer::Dropout { .. } => continue,
            };
            if let Some((weight, Some(bias))) = found {
                all.push(LayerValues { weight: weight?, bias: read(bias.val())? });
            }
        }
        Ok(all)
    }

    /// The parameters as bytes, bit for bit.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = self.clone().into_record().into_bytes();
        bytes
            .map(|bytes| bytes.to_vec())
            .map_err(|e| Error::new(Code::Internal, format!("failed to pack weights: {e:?}")))
    }

    /// This network with the parameters of [`Network::to_bytes`].
    pub(crate) fn with_bytes(self, bytes: &[u8]) -> Result<Network> {
        ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()))
            .and_then(|record| self.try_load_record(record))
            .map_err(|e| Error::new(Code::InvalidInput, format!("failed to unpack weights: {e:?}")))
    }
}

/// What flows between layers.
enum Flow {
    Picture(Tensor<4>),
    Row(Tensor<2>),
}

fn parameter<const D: usize>(id: ParamId, tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(id, tensor.require_grad())
}

fn convolution(weight: Param<Tensor<4>>, bias: Param<Tensor<1>>) -> Conv2d {
    Conv2d {
        weight,
        bias: Some(bias),
        stride: [1, 1],
        kernel_size: [3, 3],
        dilation: [1, 1],
        groups: 1,
        padding: PaddingConfig2d::Explicit(1, 1, 1, 1),
    }
}

fn uniform(shape: &[usize], bound: f32, rng: &mut ChaCha8Rng) -> TensorData {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
    TensorData::new(values, shape.to_vec())
}

/// Zeroes each value with probability `share` and scales the others, so that the mean stays.
fn drop_values(x: Tensor<2>, share: f32, rng: &mut ChaCha8Rng) -> Tensor<2> {
    let shape = x.dims();
    let kept = 1.0 / (1.0 - share);
    let mask: Vec<f32> =
        (0..shape[0] * shape[1]).map(|_| if rng.random::<f32>() < share { 0.0 } else { kept }).collect();
    let device = x.device();
    x * Tensor::from_data(TensorData::new(mask, shape), &device)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Values> {
    let shape = tensor.dims().to_vec();
    Ok(Values { shape, data: to_vec(tensor)? })
}

/// The values of a tensor, row-major.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .into_data()
        .try_into_vec::<f32>()
        .map_err(|e| Error::new(Code::Internal, format!("failed to read a tensor: {e:?}")))
}

#[cfg(test)]
mod tests;
