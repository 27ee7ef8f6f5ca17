//! What a pipeline makes of one input, as it is told to those who bring a picture, a text or a recording and no tensors.

use serde::{Deserialize, Serialize};

/// The answer to a request in plain form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// The model.
    pub model_name: String,
    /// Its version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// One for each input.
    pub outcomes: Vec<Outcome>,
}

/// What a pipeline makes of one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The best labels, best first.
    Labels {
        /// With their probabilities.
        labels: Vec<Scored>,
    },
    /// A vector.
    Vector {
        /// Its numbers.
        vector: Vec<f32>,
    },
    /// What was seen where, best first.
    Boxes {
        /// Columns of the picture the coordinates are in.
        width: u32,
        /// Its rows.
        height: u32,
        /// What was seen.
        boxes: Vec<FoundBox>,
    },
    /// One line of text.
    Line {
        /// What it says.
        text: String,
        /// Mean probability of its characters.
        score: f32,
    },
    /// Lines of text, as one reads.
    Lines {
        /// Columns of the picture the coordinates are in.
        width: u32,
        /// Its rows.
        height: u32,
        /// All lines, one below the other.
        text: String,
        /// Each with its place.
        lines: Vec<FoundLine>,
    },
    /// When somebody speaks.
    Speech {
        /// Seconds of the recording.
        seconds: f64,
        /// Seconds between two probabilities.
        window_seconds: f64,
        /// When.
        segments: Vec<Segment>,
        /// Of speech, one a window.
        probabilities: Vec<f32>,
    },
}

/// A label with its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The label.
    pub label: String,
    /// 0 to 1.
    pub probability: f32,
}

/// A box in a picture, in its pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundBox {
    /// What is in it.
    pub label: String,
    /// 0 to 1.
    pub score: f32,
    /// Least x.
    pub left: f32,
    /// Least y.
    pub top: f32,
    /// Greatest x.
    pub right: f32,
    /// Greatest y.
    pub bottom: f32,
}

/// A line of text in a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundLine {
    /// What it says.
    pub text: String,
    /// Mean probability of its characters.
    pub score: f32,
    /// Its corners in pixels, from the upper left one clockwise: x and y.
    pub corners: [[f32; 2]; 4],
}

/// A time of speech, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// When it begins.
    pub start: f64,
    /// When it ends.
    pub end: f64,
}
