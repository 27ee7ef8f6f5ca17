//! Training, resuming, evaluating and compressing on the digits that travel with the program.

mod compression;
mod resuming;
mod tables;
mod training;

use bms_data::augment::Plan;
use bms_data::{Dataset, digits};
use bms_train::{Architecture, CnnSize, TrainOptions};

/// Digits `range`, in the order of their recording.
fn some_digits(range: std::ops::Range<usize>) -> Dataset {
    Dataset::Images(digits().unwrap().slice(range).unwrap())
}

/// A small network that learns digits in a second or two.
fn quick() -> TrainOptions<'static> {
    TrainOptions {
        epochs: 4,
        learning_rate: 0.005,
        augment: Some(Plan::digits()),
        ..TrainOptions::new("digits", Architecture::Cnn { size: CnnSize::Tiny })
    }
}
