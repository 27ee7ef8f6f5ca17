//! Declarative pre- and postprocessing: how raw input becomes the model's tensor and how its
//! output becomes an answer. Stored in a bundle's manifest; the same on every path.

use serde::{Deserialize, Serialize};

/// What happens around the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Raw input to tensor.
    pub preprocess: Preprocess,
    /// Tensor to answer.
    pub postprocess: Postprocess,
}

/// Raw input to the model's input tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Preprocess {
    /// A picture becomes an f32 tensor `[batch, channels, height, width]`.
    Image(ImageInput),
    /// A row of numbers becomes an f32 tensor `[batch, columns]`.
    Table(TableInput),
    /// Tensors are passed through as they are.
    Tensor {},
}

/// How a picture is prepared: decode, convert to grey or RGB, resize (bilinear), then
/// `(pixel / 255 - mean) / std` per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    /// Columns of the input tensor, in pixels.
    pub width: u32,
    /// Rows of the input tensor, in pixels.
    pub height: u32,
    /// One mean per channel: one channel is grey, three are RGB.
    pub mean: Vec<f32>,
    /// One standard deviation per channel, above zero.
    pub std: Vec<f32>,
}

/// How a row of numbers is prepared: `(x - mean) / std` per column, in the columns' order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableInput {
    /// Column names, in the tensor's order.
    pub columns: Vec<String>,
    /// One mean per column.
    pub mean: Vec<f32>,
    /// One standard deviation per column, above zero.
    pub std: Vec<f32>,
}

/// The model's output tensor to an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Postprocess {
    /// Logits `[batch, labels]`: softmax, then the labels with their probabilities, best first.
    Classify {
        /// Class names, in the order of the logits.
        labels: Vec<String>,
    },
    /// The output tensors as they are.
    Tensor {},
}

impl ImageInput {
    /// Number of channels: 1 (grey) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.mean.len()
    }
}
