//! A labelled set of pictures.

use bms_wire::{Code, Error, Result};
use rand_chacha::ChaCha8Rng;

use crate::{Image, random};

/// One picture with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSample {
    /// Its name, unique within its label: the file's name without extension.
    pub name: String,
    /// Index into [`ImageSet::labels`].
    pub label: usize,
    /// The picture.
    pub image: Image,
}

/// Pictures with labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// Class names.
    pub labels: Vec<String>,
    /// The samples.
    pub samples: Vec<ImageSample>,
}

impl ImageSet {
    /// Hex BLAKE3 of the content: every picture with the name of its label. It does not depend on the
    /// order or names of the samples, nor on how a file system lists them.
    pub fn digest(&self) -> String {
        let mut entries: Vec<[u8; 32]> = self.samples.iter().map(|sample| self.entry(sample)).collect();
        entries.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"bms image set 1");
        for entry in &entries {
            hasher.update(entry);
        }
        hasher.finalize().to_hex().to_string()
    }

    fn entry(&self, sample: &ImageSample) -> [u8; 32] {
        let label = self.labels.get(sample.label).map_or("", String::as_str);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
        hasher.update(&sample.image.width.to_le_bytes());
        hasher.update(&sample.image.height.to_le_bytes());
        hasher.update(&[sample.image.channels]);
        hasher.update(&sample.image.pixels);
        hasher.finalize().into()
    }

    /// The first `n` samples.
    #[must_use]
    pub fn take(mut self, n: usize) -> ImageSet {
        self.samples.truncate(n);
        self
    }

    /// The samples of a range of positions, e.g. for a split by order of recording.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the range goes past the end.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<ImageSet> {
        let n = self.samples.len();
        let samples = self.samples.get(range.clone()).ok_or_else(|| {
            Error::new(
                Code::InvalidRequest,
                format!("samples {}..{} of a set of {n}", range.start, range.end),
            )
        })?;
        Ok(ImageSet { labels: self.labels.clone(), samples: samples.to_vec() })
    }

    /// Splits into two, the first with `share` of every class (rounded), by seed.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when `share` is not between 0 and 1.
    pub fn split(&self, share: f64, seed: u64) -> Result<(ImageSet, ImageSet)> {
        let targets: Vec<usize> = self.samples.iter().map(|s| s.label).collect();
        let (first, second) = split_positions(&targets, self.labels.len(), share, seed)?;
        let pick = |positions: Vec<usize>| ImageSet {
            labels: self.labels.clone(),
            samples: positions.into_iter().map(|i| self.samples[i].clone()).collect(),
        };
        Ok((pick(first), pick(second)))
    }

    /// Adds the samples of another set, whose labels must be among this one's.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] when a label is not known here.
    pub fn merge(&mut self, other: &ImageSet) -> Result<()> {
        let map: Vec<Option<usize>> =
            other.labels.iter().map(|label| self.labels.iter().position(|l| l == label)).collect();
        let known = self.samples.len();
        for sample in &other.samples {
            let Some(label) = map.get(sample.label).copied().flatten() else {
                let label = other.labels.get(sample.label).map_or("?", String::as_str);
                self.samples.truncate(known);
                return Err(Error::new(
                    Code::InvalidInput,
                    format!("label `{label}` is not one of this data set"),
                ));
            };
            self.samples.push(ImageSample { label, ..sample.clone() });
        }
        Ok(())
    }
}

/// Positions of a stratified split: class by class, `share` (rounded) of each to the first, drawn by seed.
pub(crate) fn split_positions(
    targets: &[usize],
    labels: usize,
    share: f64,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::new(Code::InvalidRequest, format!("a split of {share}, not between 0 and 1")));
    }
    let mut rng = random::rng(seed, "split", 0);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for label in 0..labels {
        let mut members: Vec<usize> = (0..targets.len()).filter(|&i| targets[i] == label).collect();
        shuffle(&mut members, &mut rng);
        let rest = members.split_off((members.len() as f64 * share).round() as usize);
        first.extend(members);
        second.extend(rest);
    }
    Ok((first, second))
}

/// Fisher–Yates.
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, random::below(rng, last + 1));
    }
}

#[cfg(test)]
mod tests;
