//! Which interval of an activation the 256 steps of a byte cover.

use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// How the interval is chosen from what the calibration data shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Calibration {
    /// From the smallest to the largest value seen: nothing is clipped.
    MinMax {},
    /// The share of values, e.g. 0.001, that may be clipped at each end.
    Percentile {
        /// Above 0 and below 0.5.
        clipped: f64,
    },
    /// The interval with the least mean squared rounding and clipping error.
    LeastError {},
}

/// Bins of a histogram between the smallest and the largest value.
const BINS: usize = 2048;
/// Steps of an unsigned byte.
const STEPS: f32 = 255.0;
/// Candidates of the search for the least error, at each end.
const CANDIDATES: usize = 32;

/// Scale and zero point: `real = (byte - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) zero: u8,
}

impl Default for Affine {
    /// For an activation in which only zeros were seen: any scale keeps them.
    fn default() -> Self {
        Affine { scale: 1.0, zero: 0 }
    }
}

/// What was seen of one activation.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    low: f32,
    high: f32,
    bins: Vec<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        // Zero always belongs to the interval: padding and ReLU must hit it exactly.
        Seen { low: 0.0, high: 0.0, bins: Vec::new() }
    }
}

impl Calibration {
    /// Whether a second pass is needed, for histograms.
    pub(crate) fn needs_histogram(self) -> bool {
        !matches!(self, Calibration::MinMax {})
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Calibration::Percentile { clipped } if !(0.0 < clipped && clipped < 0.5) => {
                Err(Error::new(Code::InvalidRequest, "the clipped share must lie above 0 and below 0.5"))
            }
            _ => Ok(()),
        }
    }
}

impl Seen {
    /// First pass: the extremes.
    pub(crate) fn widen(&mut self, values: &[f32]) {
        for &value in values {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
        }
    }

    /// Second pass: the histogram between the extremes.
    pub(crate) fn count(&mut self, values: &[f32]) {
        self.bins.resize(BINS, 0);
        let width = self.width();
        for &value in values {
            self.bins[(((value - self.low) / width) as usize).min(BINS - 1)] += 1;
        }
    }

    fn width(&self) -> f32 {
        ((self.high - self.low) / BINS as f32).max(f32::MIN_POSITIVE)
    }

    /// The interval as scale and zero point.
    pub(crate) fn affine(&self, method: Calibration) -> Affine {
        let (low, high) = match method {
            Calibration::MinMax {} => (self.low, self.high),
            Calibration::Percentile { clipped } => self.percentiles(clipped),
            Calibration::LeastError {} => self.least_error(),
        };
        affine(low, high)
    }

    fn percentiles(&self, clipped: f64) -> (f32, f32) {
        let allowed = (self.bins.iter().sum::<u64>() as f64 * clipped) as u64;
        let below = bins_within(self.bins.iter(), allowed);
        let above = bins_within(self.bins.iter().rev(), allowed);
        let low = self.low + below as f32 * self.width();
        let high = self.high - above as f32 * self.width();
        (low.min(0.0), high.max(0.0))
    }

    /// Tries shrinking each end in turn, keeping the best.
    fn least_error(&self) -> (f32, f32) {
        let share = |candidate: usize| candidate as f32 / CANDIDATES as f32;
        let mut best = (self.low, self.high);
        let mut least = self.error(best.0, best.1);
        for end in 0..2 {
            for candidate in 1..=CANDIDATES {
                let (low, high) = match end {
                    0 => (best.0, self.high * share(candidate)),
                    _ => (self.low * share(candidate), best.1),
                };
                let error = self.error(low, high);
                if error < least {
                    (best, least) = ((low, high), error);
                }
            }
        }
        best
    }

    /// Sum of squared distances between the bins' centres and their quantised values.
    fn error(&self, low: f32, high: f32) -> f64 {
        let affine = affine(low, high);
        let width = self.width();
        let bins = self.bins.iter().enumerate().filter(|(_, count)| **count != 0);
        bins.map(|(bin, &count)| {
            let value = self.low + (bin as f32 + 0.5) * width;
            let byte = (value / affine.scale).round_ties_even() + f32::from(affine.zero);
            let back = (byte.clamp(0.0, STEPS) - f32::from(affine.zero)) * affine.scale;
            f64::from(value - back).powi(2) * count as f64
        })
        .sum()
    }
}

/// How many bins, from the first, hold together no more than `allowed` values.
fn bins_within<'a>(bins: impl Iterator<Item = &'a u64>, allowed: u64) -> usize {
    let sums = bins.scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= allowed).count()
}

/// The bytes 0 to 255 over `[low, high]`, which holds zero, shifted so that zero is a byte exactly.
fn affine(low: f32, high: f32) -> Affine {
    let scale = (high - low) / STEPS;
    if !(f32::MIN_POSITIVE..=f32::MAX).contains(&scale) {
        return Affine::default();
    }
    Affine { scale, zero: (-low / scale).round_ties_even().clamp(0.0, STEPS) as u8 }
}

#[cfg(test)]
mod tests;
