//! Data sets, splits, deterministic augmentation, and the preprocessing that training and serving share.
//!
//! ```text
//! class folders ─┐
//! CSV ───────────┼─open─▶ Dataset ──split──▶ parts ──augment_set──▶ more pictures ──save──▶ class folders
//! digits() ──────┘            │
//!                             └─ preprocess_image / preprocess_row ─▶ f32 values
//! ```
//!
//! Everything here is a function of its arguments: no clock, no operating-system randomness, no
//! dependence on the number of threads or on the order in which a file system lists files.
//!
//! ```
//! use bms_data::{augment::{Plan, augment_set}, digits};
//!
//! # fn main() -> bms_wire::Result<()> {
//! let digits = digits()?.take(20);
//! let more = augment_set(&digits, &Plan::digits(), 2, 7, 1, &|_, _| {})?;
//! assert_eq!(more.samples.len(), 40);
//! # Ok(())
//! # }
//! ```

mod dataset;
mod digits;
mod folder;
mod image;
mod images;
mod picture;
mod preprocess;
mod random;
mod region;
mod resample;
mod resize;
mod table;

pub mod augment;
pub mod draw;

pub use dataset::{Dataset, OpenOptions};
pub use digits::digits;
pub use image::Image;
pub use images::{ImageSample, ImageSet};
pub use picture::{Frame, Prepared, prepare_picture};
pub use preprocess::{preprocess_image, preprocess_row};
pub use region::cut_out;
pub use table::{TableSet, read_rows};
