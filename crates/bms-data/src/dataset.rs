//! A data set of either kind, opened by what lies at a path.

use std::path::Path;

use bms_wire::{Code, Error, Result};

use crate::{ImageSet, TableSet};

/// Bytes of one CSV.
const CSV_BYTES_MAX: u64 = 8 << 30;

/// A labelled data set.
#[derive(Clone, Debug, PartialEq)]
pub enum Dataset {
    /// Pictures.
    Images(ImageSet),
    /// Rows of numbers.
    Table(TableSet),
}

/// How a data set is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The CSV column that holds the label, when it cannot be guessed by its name or place.
    pub label_column: Option<String>,
}

impl Dataset {
    /// Opens a folder of class folders of pictures, or a CSV.
    ///
    /// # Errors
    /// [`Code::NotFound`], or what is wrong with the data, naming file and line.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io("open the data set", path, e))?;
        if metadata.is_dir() {
            if options.label_column.is_some() {
                return Err(Error::new(
                    Code::InvalidRequest,
                    "a label column is named, but the data set is a folder",
                ));
            }
            return ImageSet::open(path).map(Dataset::Images);
        }
        if CSV_BYTES_MAX < metadata.len() {
            return Err(Error::new(
                Code::TooLarge,
                format!("`{}` has {} bytes", path.display(), metadata.len()),
            ));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        TableSet::read(path, &bytes, options.label_column.as_deref()).map(Dataset::Table)
    }

    /// Class names.
    pub fn labels(&self) -> &[String] {
        match self {
            Dataset::Images(set) => &set.labels,
            Dataset::Table(set) => &set.labels,
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Dataset::Images(set) => set.samples.len(),
            Dataset::Table(set) => set.targets.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label of sample `index`, as an index into [`Dataset::labels`].
    pub fn target(&self, index: usize) -> usize {
        match self {
            Dataset::Images(set) => set.samples[index].label,
            Dataset::Table(set) => set.targets[index],
        }
    }

    /// Hex BLAKE3 of the content.
    pub fn digest(&self) -> String {
        match self {
            Dataset::Images(set) => set.digest(),
            Dataset::Table(set) => set.digest(),
        }
    }

    /// Splits into two, the first with `share` of every class, by seed.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when `share` is not between 0 and 1.
    pub fn split(&self, share: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        match self {
            Dataset::Images(set) => {
                set.split(share, seed).map(|(a, b)| (Dataset::Images(a), Dataset::Images(b)))
            }
            Dataset::Table(set) => {
                set.split(share, seed).map(|(a, b)| (Dataset::Table(a), Dataset::Table(b)))
            }
        }
    }
}
