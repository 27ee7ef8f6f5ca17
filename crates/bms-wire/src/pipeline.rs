//! Declarative pre- and postprocessing: how raw input becomes the model's tensor and how its
//! output becomes an answer. Stored in a bundle's manifest; the same on every path.

mod answer;
mod check;
mod input;
mod picture;

use serde::{Deserialize, Serialize};

pub use answer::{
    Activation, BoxLayout, BoxesOutput, LabelsOutput, LineOutput, LinesOutput, Pooled, Recogniser,
    SpeechOutput, VectorOutput,
};
pub use input::{AudioInput, BytesInput, StateTensor, TextInput};
pub use picture::{Colour, Layout, PictureInput, PictureStep, Resampler};

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
    /// A picture goes through named steps and becomes an f32 tensor.
    Picture(PictureInput),
    /// A text becomes tokens.
    Text(TextInput),
    /// The bytes at both ends of a file become an i32 tensor `[batch, head + tail]`.
    Bytes(BytesInput),
    /// A recording becomes windows, which the graph hears one after the other while it carries its state.
    Audio(AudioInput),
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
    /// Scores `[batch, labels]` to the best labels.
    Labels(LabelsOutput),
    /// Hidden states `[batch, tokens, width]` or vectors `[batch, width]` to one vector.
    Vector(VectorOutput),
    /// A detector's candidates to boxes that do not overlap.
    Boxes(BoxesOutput),
    /// Probabilities of characters `[batch, steps, characters + 1]` to one line of text.
    Line(LineOutput),
    /// A map of where text is to lines, each read by a second graph.
    Lines(LinesOutput),
    /// Probabilities of speech, one a window, to the times of speech.
    Speech(SpeechOutput),
}

impl Pipeline {
    /// What the pipeline makes of its model, as tasks are called in manifests.
    pub fn task(&self) -> &'static str {
        use Postprocess as Post;
        use Preprocess as Pre;
        match (&self.preprocess, &self.postprocess) {
            (Pre::Image(_) | Pre::Picture(_), Post::Classify { .. } | Post::Labels(_)) => {
                "image-classification"
            }
            (Pre::Table(_), Post::Classify { .. } | Post::Labels(_)) => "tabular-classification",
            (Pre::Text(_), Post::Labels(_)) => "text-classification",
            (Pre::Bytes(_), Post::Labels(_)) => "file-classification",
            (Pre::Text(_) | Pre::Picture(_), Post::Vector(_)) => "feature-extraction",
            (Pre::Picture(_), Post::Boxes(_)) => "object-detection",
            (Pre::Picture(_), Post::Line(_) | Post::Lines(_)) => "image-to-text",
            (Pre::Audio(_), Post::Speech(_)) => "voice-activity-detection",
            _ => "tensor",
        }
    }

    /// Class names in the order of the graph's scores; empty when the model does not classify.
    pub fn labels(&self) -> &[String] {
        match &self.postprocess {
            Postprocess::Classify { labels } => labels,
            Postprocess::Labels(output) => &output.labels,
            _ => &[],
        }
    }

    /// The bundle's files besides the graph that the pipeline needs.
    pub fn files(&self) -> Vec<&str> {
        let tokenizer = match &self.preprocess {
            Preprocess::Text(text) => Some(text.tokenizer.as_str()),
            _ => None,
        };
        let recogniser = match &self.postprocess {
            Postprocess::Lines(lines) => Some(lines.recognise.model.as_str()),
            _ => None,
        };
        tokenizer.into_iter().chain(recogniser).collect()
    }
}

impl ImageInput {
    /// Number of channels: 1 (grey) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.mean.len()
    }
}
