//! What a step costs, learned from the steps before: how many prompt tokens fit beside the running answers.

use std::time::Duration;

/// Weight of the past at each new measurement.
const MEMORY: f64 = 0.95;

/// A line fitted to pairs that fade with age.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        let keep = |sum: &mut f64, new: f64| *sum = *sum * MEMORY + new;
        keep(&mut self.weight, 1.0);
        keep(&mut self.x, x);
        keep(&mut self.y, y);
        keep(&mut self.xx, x * x);
        keep(&mut self.xy, x * y);
    }

    /// Offset and slope, neither negative; where all pairs have one x, `share` of the y at x = 1 is taken for slope.
    fn fit(&self, share: f64) -> Option<(f64, f64)> {
        if self.weight == 0.0 {
            return None;
        }
        let (mean_x, mean_y) = (self.x / self.weight, self.y / self.weight);
        let spread = self.xx / self.weight - mean_x * mean_x;
        let slope = match 1e-3 < spread {
            true => (self.xy / self.weight - mean_x * mean_y) / spread,
            false => mean_y * share / (1.0 - share + share * mean_x),
        };
        let slope = slope.clamp(0.0, mean_y / mean_x.max(1.0));
        Some((mean_y - slope * mean_x, slope))
    }
}

/// The model of a step's time: a part for the pass itself, one for each decoded row, one for each prompt token.
#[derive(Debug)]
pub(crate) struct Cost {
    target: f64,
    chunk_min: usize,
    chunk_max: usize,
    decode: Line,
    prefill: Option<f64>,
}

/// Before anything is measured: a row more costs this share of a step of one row.
const ROW_SHARE: f64 = 0.15;

impl Cost {
    /// Steps are to take `target` while answers run; `chunk_max` prompt tokens are computed at once otherwise.
    pub(crate) fn new(target: Duration, chunk_min: usize, chunk_max: usize) -> Cost {
        Cost { target: target.as_secs_f64(), chunk_min, chunk_max, decode: Line::default(), prefill: None }
    }

    /// Notes how long a step took.
    pub(crate) fn learn(&mut self, decoded: usize, prefilled: usize, took: Duration) {
        let took = took.as_secs_f64();
        if prefilled == 0 {
            if 0 < decoded {
                self.decode.add(decoded as f64, took);
            }
            return;
        }
        let (offset, slope) = self.decode.fit(ROW_SHARE).unwrap_or_default();
        // The pass itself is paid by the decoded rows when there are any.
        let rest = if 0 < decoded { took - offset - slope * decoded as f64 } else { took };
        let each = (rest / prefilled as f64).max(took * 0.1 / prefilled as f64);
        // A long piece says more than a short one.
        let weight = (prefilled as f64 / 256.0).clamp(0.05, 0.5);
        self.prefill = Some(self.prefill.map_or(each, |known| known + weight * (each - known)));
    }

    /// Prompt tokens for a step that decodes so many rows.
    pub(crate) fn budget(&self, decoded: usize) -> usize {
        if decoded == 0 {
            return self.chunk_max;
        }
        let Some(each) = self.prefill else { return (4 * self.chunk_min).min(self.chunk_max) };
        let (offset, slope) = self.decode.fit(ROW_SHARE).unwrap_or_default();
        let room = self.target - offset - slope * decoded as f64;
        ((room / each.max(1e-9)).max(0.0) as usize).clamp(self.chunk_min, self.chunk_max)
    }

    /// How many drafted tokens pay for one sequence in a step of `rows` rows, when each is accepted with probability
    /// `acceptance` if those before it were, and takes `guess` seconds to make: the number that makes the most tokens a
    /// second.
    pub(crate) fn drafts(&self, rows: usize, acceptance: f64, most: usize, guess: f64) -> usize {
        let (offset, slope) = self.decode.fit(ROW_SHARE).unwrap_or((1.0 - ROW_SHARE, ROW_SHARE));
        let (rows, mut expected, mut power) = (rows.max(1) as f64, 0.0, 1.0);
        let mut best = (rows / (offset + slope * rows), 0);
        for k in 1..=most {
            power *= acceptance;
            expected += power;
            let speed = (rows + expected) / (offset + slope * rows + (slope + guess) * k as f64);
            // A gain that small is not worth the trouble.
            if best.0 * 1.02 < speed {
                best = (speed, k);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests;
