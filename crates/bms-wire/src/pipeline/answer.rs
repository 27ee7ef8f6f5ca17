//! What a graph's output becomes.

use serde::{Deserialize, Serialize};

use super::PictureInput;

/// Scores to labels, best first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsOutput {
    /// Names in the order of the scores. Two may be the same.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What makes probabilities of the scores.
    #[serde(default)]
    pub activation: Activation,
    /// So many of the best; none is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
}

/// What makes probabilities of scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// One label is right: `exp(x) / Σ exp`.
    #[default]
    Softmax,
    /// Each may be right: `1 / (1 + exp(−x))`.
    Sigmoid,
    /// The graph gives probabilities.
    None,
}

/// Hidden states to one vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorOutput {
    /// How tokens become one.
    #[serde(default)]
    pub pooling: Pooled,
    /// Whether it is divided by its length (L2).
    #[serde(default)]
    pub normalise: bool,
}

/// How the vectors of tokens become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooled {
    /// The mean of all that are not masked.
    #[default]
    Mean,
    /// The first token's.
    First,
    /// The graph gives one vector a row.
    None,
}

/// A detector's candidates to boxes: those over `score_min`, the best first, and of boxes of the same label that overlap
/// more than `overlap_max` only the best (greedy non-maximum suppression).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxesOutput {
    /// How the graph's first output is to be read.
    pub layout: BoxLayout,
    /// Names of the classes.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Scores from here on count.
    pub score_min: f32,
    /// Intersection over union from which two boxes are one.
    pub overlap_max: f32,
    /// Whether boxes of different labels suppress each other, too.
    #[serde(default)]
    pub across_labels: bool,
    /// Boxes of one picture, at most.
    pub boxes_max: usize,
}

/// How a detector gives its candidates. Coordinates are pixels of the prepared picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxLayout {
    /// `[batch, 4 + classes, candidates]`: centre x, centre y, width, height, scores of the classes (YOLOv8 and later).
    YoloV8,
    /// `[batch, candidates, 5 + classes]`: as before, with the probability of any object as the fifth, by which the
    /// classes' are multiplied (YOLOv5, YOLOX decoded).
    YoloV5,
    /// `[batch, candidates, 6]`: left, top, right, bottom, score, class (YOLOv10, exports with suppression inside).
    Corners,
}

/// Probabilities of characters to text: the best of each step, repetitions and blanks left out (greedy CTC).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineOutput {
    /// What the classes from 1 on stand for; class 0 is the blank.
    #[serde(default)]
    pub characters: Vec<String>,
}

/// A map of probabilities `[1, 1, height, width]` that a pixel belongs to text, to lines (differentiable binarisation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesOutput {
    /// Pixels over it are text.
    pub threshold: f32,
    /// A region's mean must be over it.
    pub region_min: f32,
    /// How far a region is widened: by its area times this, over its circumference.
    pub unclip: f32,
    /// Regions of one picture, at most.
    pub regions_max: usize,
    /// What reads them.
    pub recognise: Recogniser,
}

/// A second graph, which reads a region that was cut out and turned upright.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recogniser {
    /// The bundle's file with the graph.
    pub model: String,
    /// How a region is prepared.
    pub picture: PictureInput,
    /// What the graph's classes stand for.
    pub line: LineOutput,
    /// Lines whose mean probability is below are left out.
    pub score_min: f32,
}

/// Probabilities of speech to times: speech begins at `threshold` and ends when it was below `threshold - 0.15` for
/// `silence_ms`; what is no longer than `speech_ms` is left out and the rest widened by `pad_ms`. What
/// `get_speech_timestamps` of silero-vad does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeechOutput {
    /// Probability from which a window is speech.
    pub threshold: f32,
    /// Milliseconds of speech, more than.
    pub speech_ms: u32,
    /// Milliseconds of silence between two, at least.
    pub silence_ms: u32,
    /// Milliseconds added on both sides.
    pub pad_ms: u32,
}
