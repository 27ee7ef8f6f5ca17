//! Data sets, splits, deterministic augmentation, and the preprocessing that training and
//! serving share.
//!
//! ```text
//! class folders ─┐
//! CSV ───────────┼─open─▶ Dataset ──split──▶ parts ──augment_set──▶ more pictures ──save──▶ class folders
//! digits() ──────┘            │
//!                             └─ preprocess_image / preprocess_row ─▶ f32 tensors
//! ```
//!
//! Everything here is a function of its arguments: no clock, no operating-system randomness, no
//! dependence on the number of threads or on the order in which a file system lists files.

mod dataset;
mod digits;
mod folder;
mod image;
mod image_set;
mod labels;
mod preprocess;
mod resize;
mod split;
mod stream;
mod table_set;

pub mod augment;
pub mod limits;

pub use dataset::{Dataset, OpenOptions};
pub use digits::digits;
pub use image::Image;
pub use image_set::{ImageSample, ImageSet};
pub use preprocess::{preprocess_image, preprocess_row};
pub use stream::Stream;
pub use table_set::TableSet;
