//! Training, evaluation and compression of classifiers.
//!
//! [`train`] turns a data set into a bundle with an ONNX graph, [`evaluate`] says how good a classifier is,
//! [`compress`] makes an eight-bit graph of a 32-bit one and refuses when quality drops. burn, which does
//! the training, is seen nowhere outside.

mod checkpoint;
mod compress;
mod curves;
mod evaluate;
mod event;
mod export;
mod fit;
mod loss;
mod network;
mod options;
mod predict;
mod random;
mod samples;
mod schedule;
mod train;
mod workers;

pub use compress::{Calibration, CompressOptions, Compressed, LayerError, Measured, compress};
pub use curves::{Curves, Point};
pub use evaluate::{Bin, ClassReport, Report, evaluate};
pub use event::TrainEvent;
pub use export::{INPUT, OUTPUT};
pub use network::design::{Architecture, CnnSize};
pub use options::TrainOptions;
pub use predict::{Probabilities, predictor_from};
pub use train::{MODEL_FILE, Trained, train};
