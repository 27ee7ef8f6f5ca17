//! Which layers a network has: a plain list that builds the weights, runs forward and writes ONNX.

use serde::{Deserialize, Serialize};

/// What kind of network is trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// Convolutions for pictures; depth follows the picture's size.
    Cnn {
        /// How wide and deep.
        size: CnnSize,
    },
    /// Fully connected layers; takes tables, and pictures as flat rows.
    Mlp {
        /// Width of each hidden layer; none makes a linear classifier.
        hidden: Vec<usize>,
    },
}

/// How large a CNN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CnnSize {
    /// For an edge node: 8 channels at first, thousands of weights.
    Tiny,
    /// 16 channels at first.
    Small,
    /// 24 channels at first, two convolutions a stage.
    Medium,
    /// 32 channels at first, two convolutions a stage, stronger dropout: a teacher.
    Large,
}

/// Shape of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InputShape {
    /// `[channels, height, width]`.
    Picture { channels: usize, height: usize, width: usize },
    /// `[columns]`.
    Row { columns: usize },
}

impl InputShape {
    /// Numbers in one sample.
    pub(crate) fn values(self) -> usize {
        match self {
            InputShape::Picture { channels, height, width } => channels * height * width,
            InputShape::Row { columns } => columns,
        }
    }

    /// The dimensions after the batch's.
    pub(crate) fn dims(self) -> Vec<usize> {
        match self {
            InputShape::Picture { channels, height, width } => vec![channels, height, width],
            InputShape::Row { columns } => vec![columns],
        }
    }
}

/// One layer. Every convolution has kernel 3, stride 1 and padding 1, so it keeps the picture's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layer {
    /// Convolution from `from` to `to` channels.
    Conv { from: usize, to: usize },
    /// max(x, 0).
    Relu,
    /// Maximum over 2×2, stride 2; an odd last row or column is dropped.
    MaxPool,
    /// `[batch, c, h, w]` to `[batch, c * h * w]`.
    Flatten,
    /// In training sets this share of the values to zero.
    Dropout { share: f32 },
    /// Fully connected, from `from` to `to` values.
    Linear { from: usize, to: usize },
}

/// Channels of a stage double up to this many times the first stage's.
const WIDENING_MAX: usize = 4;
/// A stage halves the picture as long as its shorter side is at least this long.
const HALVED_SIDE_MIN: usize = 8;

/// The layers for `architecture` on samples of shape `input` with `labels` classes.
pub(crate) fn layers(architecture: &Architecture, input: InputShape, labels: usize) -> Vec<Layer> {
    match (architecture, input) {
        (Architecture::Cnn { size }, InputShape::Picture { channels, height, width }) => {
            cnn(*size, [channels, height, width], labels)
        }
        (Architecture::Mlp { hidden }, InputShape::Picture { .. }) => {
            let mut layers = vec![Layer::Flatten];
            mlp(&mut layers, input.values(), hidden, labels);
            layers
        }
        (Architecture::Mlp { hidden }, InputShape::Row { columns }) => {
            let mut layers = Vec::new();
            mlp(&mut layers, columns, hidden, labels);
            layers
        }
        // A table has no neighbourhoods to convolve over; options are checked before this is reached.
        (Architecture::Cnn { .. }, InputShape::Row { columns }) => {
            vec![Layer::Linear { from: columns, to: labels }]
        }
    }
}

fn mlp(layers: &mut Vec<Layer>, mut from: usize, hidden: &[usize], labels: usize) {
    for &to in hidden {
        layers.extend([Layer::Linear { from, to }, Layer::Relu]);
        from = to;
    }
    layers.push(Layer::Linear { from, to: labels });
}

/// Stages of convolutions, each ending in a 2×2 maximum, then one hidden layer.
///
/// A picture that can be halved only once (8×8) still gets two stages: the first keeps its size.
fn cnn(size: CnnSize, [channels, mut height, mut width]: [usize; 3], labels: usize) -> Vec<Layer> {
    let (first, depth, hidden, dropout) = match size {
        CnnSize::Tiny => (8, 1, 32, 0.0),
        CnnSize::Small => (16, 1, 64, 0.0),
        CnnSize::Medium => (24, 2, 128, 0.2),
        CnnSize::Large => (32, 2, 256, 0.3),
    };
    let halvings = std::iter::successors(Some(height.min(width)), |side| Some(side / 2))
        .take_while(|side| HALVED_SIDE_MIN <= *side)
        .count();
    let stages = halvings.max(2);
    let (mut layers, mut from) = (Vec::new(), channels);
    for stage in 0..stages {
        let to = first * (1 << stage).min(WIDENING_MAX);
        for _ in 0..depth {
            layers.extend([Layer::Conv { from, to }, Layer::Relu]);
            from = to;
        }
        if stages - halvings <= stage {
            layers.push(Layer::MaxPool);
            (height, width) = (height / 2, width / 2);
        }
    }
    layers.push(Layer::Flatten);
    let drop = |layers: &mut Vec<Layer>| {
        if 0.0 < dropout {
            layers.push(Layer::Dropout { share: dropout });
        }
    };
    drop(&mut layers);
    layers.extend([Layer::Linear { from: from * height * width, to: hidden }, Layer::Relu]);
    drop(&mut layers);
    layers.push(Layer::Linear { from: hidden, to: labels });
    layers
}

#[cfg(test)]
mod tests;
