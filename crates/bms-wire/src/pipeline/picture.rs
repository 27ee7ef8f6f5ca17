//! Pictures: steps to the size a graph takes, then numbers.

use serde::{Deserialize, Serialize};

/// How a picture is prepared: decode, each step in its order on 8-bit pixels, then `(pixel / divisor - mean) / std` per
/// channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureInput {
    /// What happens to the pixels.
    pub steps: Vec<PictureStep>,
    /// Which channels the graph takes, in which order.
    #[serde(default)]
    pub colour: Colour,
    /// Whether channels come before or after the pixels.
    #[serde(default)]
    pub layout: Layout,
    /// What pixels, 0 to 255, are divided by first.
    #[serde(default = "full_scale")]
    pub divisor: f32,
    /// One mean per channel, in the order of `colour`; none is zero.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// One standard deviation per channel, above zero; none is one.
    #[serde(default)]
    pub std: Vec<f32>,
}

fn full_scale() -> f32 {
    255.0
}

/// Channels and their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as OpenCV reads pictures.
    Bgr,
    /// One channel, ITU-R 601-2 luma.
    Grey,
}

impl Colour {
    /// Number of channels.
    pub fn channels(self) -> usize {
        match self {
            Colour::Rgb | Colour::Bgr => 3,
            Colour::Grey => 1,
        }
    }
}

/// Order of a picture tensor's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[batch, channels, height, width]`.
    #[default]
    Nchw,
    /// `[batch, height, width, channels]`.
    Nhwc,
}

/// Whose resizing. They differ in more than their last digit, and a model expects the one it was trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampler {
    /// Pillow's `BILINEAR`: a triangle, widened when it shrinks (antialias); equal to the bit.
    PillowBilinear,
    /// Pillow's `BICUBIC`: a = −0.5, widened when it shrinks; equal to the bit.
    PillowBicubic,
    /// Pillow's `LANCZOS`: three lobes, widened when it shrinks; equal to the bit.
    PillowLanczos,
    /// OpenCV's `INTER_LINEAR`: two taps an axis, never widened, 11-bit weights.
    OpencvLinear,
}

/// One step of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum PictureStep {
    /// To exactly this size, whatever becomes of the proportions.
    Resize {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Whose resizing.
        resampler: Resampler,
    },
    /// The shorter side to so many pixels, the longer in proportion, rounded down: torchvision's `Resize(pixels)`.
    ResizeShorter {
        /// Of the shorter side.
        pixels: u32,
        /// Whose resizing.
        resampler: Resampler,
    },
    /// No side over a limit, in proportion, then each side to the nearest multiple, at least one: what PP-OCR does before it
    /// detects text.
    ResizeWithin {
        /// Pixels of the longer side, at most.
        longest: u32,
        /// What sides are multiples of.
        multiple: u32,
        /// Whose resizing.
        resampler: Resampler,
    },
    /// The height to so many pixels, the width in proportion, rounded up and no more than `width_max`; then zeros (after
    /// the normalisation) on the right up to `width_min`: what PP-OCR does before it reads a line.
    ResizeLine {
        /// Rows.
        height: u32,
        /// Columns, at least.
        width_min: u32,
        /// Columns, at most.
        width_max: u32,
        /// Whose resizing.
        resampler: Resampler,
    },
    /// The middle: torchvision's `CenterCrop`. The picture must not be smaller.
    CenterCrop {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// In proportion into this size, centred, the rest filled: what YOLO detectors take.
    Letterbox {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Grey level of the rest.
        #[serde(default = "yolo_grey")]
        fill: u8,
        /// Whose resizing.
        resampler: Resampler,
    },
}

fn yolo_grey() -> u8 {
    114
}

impl PictureInput {
    /// Columns and rows of the tensor, when they are the same for every picture.
    pub fn size(&self) -> Option<(u32, u32)> {
        let after = |step: &PictureStep| match *step {
            PictureStep::Resize { width, height, .. }
            | PictureStep::CenterCrop { width, height }
            | PictureStep::Letterbox { width, height, .. } => Some((width, height)),
            PictureStep::ResizeLine { height, width_min, width_max, .. } if width_min == width_max => {
                Some((width_max, height))
            }
            PictureStep::ResizeLine { .. }
            | PictureStep::ResizeShorter { .. }
            | PictureStep::ResizeWithin { .. } => None,
        };
        self.steps.last().and_then(after)
    }

    /// Lengths of one picture's tensor, when they are the same for every picture.
    pub fn row_shape(&self) -> Option<Vec<usize>> {
        self.size().map(|(width, height)| self.shape(width as usize, height as usize))
    }

    /// Lengths of the tensor of a picture of this size.
    pub fn shape(&self, width: usize, height: usize) -> Vec<usize> {
        match self.layout {
            Layout::Nchw => vec![self.colour.channels(), height, width],
            Layout::Nhwc => vec![height, width, self.colour.channels()],
        }
    }
}
