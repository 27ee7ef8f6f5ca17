//! Learning rate over the steps.

/// Linear warm-up, then half a cosine down to a hundredth of the peak
/// (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Highest rate.
    pub(crate) peak: f64,
    /// Steps until the peak.
    pub(crate) warmup_steps: usize,
    /// All steps.
    pub(crate) steps: usize,
}

/// What the rate ends at, as a share of the peak.
const FLOOR: f64 = 0.01;

impl Schedule {
    /// The rate of step `step`, counted from 0.
    pub(crate) fn rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.peak * (FLOOR + (1.0 - FLOOR) * cosine)
    }
}

#[cfg(test)]
mod tests;
