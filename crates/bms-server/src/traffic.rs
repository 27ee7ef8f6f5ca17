//! What the dashboard shows of the last minute: requests a second and how long they took.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Whole seconds the window covers.
const WINDOW_SECONDS: usize = 60;
/// One more than the window: the second now running is counted but not shown yet.
const RING: usize = WINDOW_SECONDS + 1;
/// Steps per doubling of the latency: neighbouring steps differ by 9 %, which is the precision of the
/// percentiles.
const STEPS_PER_OCTAVE: usize = 8;
/// From one microsecond to 67 seconds, more than any request may take.
const STEPS: usize = 26 * STEPS_PER_OCTAVE;

/// Requests of the last minute.
#[derive(Debug)]
pub(crate) struct Traffic {
    started: Instant,
    window: Mutex<Window>,
}

/// The window as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Requests in each of the last 60 whole seconds, oldest first.
    pub(crate) requests_per_second: Vec<u32>,
    /// Milliseconds half of the last minute's requests took at most; 0 without requests.
    pub(crate) p50_ms: f64,
    /// Milliseconds 99 of 100 of the last minute's requests took at most; 0 without requests.
    pub(crate) p99_ms: f64,
    /// Requests since the start.
    pub(crate) total: u64,
    /// Those of them answered with a status of 400 or above.
    pub(crate) errors: u64,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Traffic { started: Instant::now(), window: Mutex::new(Window::default()) }
    }

    /// Counts one answered request.
    pub(crate) fn record(&self, took: Duration, failed: bool) {
        self.window().record(self.second(), took, failed);
    }

    pub(crate) fn summary(&self) -> Summary {
        self.window().summary(self.second())
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn second(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        // The counters stay meaningful whatever a panicking thread did between two additions.
        self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Window {
    /// By second modulo the ring's length; empty until the first request.
    seconds: Vec<Second>,
    total: u64,
    errors: u64,
}

#[derive(Clone, Debug)]
struct Second {
    number: u64,
    requests: u32,
    steps: [u32; STEPS],
}

impl Window {
    fn record(&mut self, number: u64, took: Duration, failed: bool) {
        if self.seconds.is_empty() {
            self.seconds = vec![Second { number: u64::MAX, requests: 0, steps: [0; STEPS] }; RING];
        }
        let second = &mut self.seconds[(number % RING as u64) as usize];
        if second.number != number {
            *second = Second { number, requests: 0, steps: [0; STEPS] };
        }
        second.requests += 1;
        second.steps[step(took)] += 1;
        self.total += 1;
        self.errors += u64::from(failed);
    }

    fn summary(&self, now: u64) -> Summary {
        let mut requests_per_second = vec![0; WINDOW_SECONDS];
        let mut steps = [0u64; STEPS];
        let oldest = now.saturating_sub(WINDOW_SECONDS as u64);
        for second in self.seconds.iter().filter(|s| (oldest..=now).contains(&s.number)) {
            // The last place is the second before the one now running.
            if let Some(age) = now.checked_sub(second.number + 1) {
                requests_per_second[WINDOW_SECONDS - 1 - age as usize] = second.requests;
            }
            for (sum, count) in steps.iter_mut().zip(second.steps) {
                *sum += u64::from(count);
            }
        }
        Summary {
            requests_per_second,
            p50_ms: percentile_ms(&steps, 0.50),
            p99_ms: percentile_ms(&steps, 0.99),
            total: self.total,
            errors: self.errors,
        }
    }
}

/// The step a latency falls into: `floor(steps_per_octave * log2(microseconds))`.
fn step(took: Duration) -> usize {
    let microseconds = (took.as_secs_f64() * 1e6).max(1.0);
    ((microseconds.log2() * STEPS_PER_OCTAVE as f64) as usize).min(STEPS - 1)
}

/// The upper edge of the step in which the share `q` of all requests is reached, in milliseconds.
fn percentile_ms(steps: &[u64; STEPS], q: f64) -> f64 {
    let total: u64 = steps.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let rank = (q * total as f64).ceil() as u64;
    let mut seen = 0;
    let index = steps.iter().position(|count| {
        seen += count;
        rank <= seen
    });
    // Rounded to whole microseconds: the steps are coarser than that.
    let edge = ((index.unwrap_or(STEPS - 1) + 1) as f64 / STEPS_PER_OCTAVE as f64).exp2();
    edge.round() / 1e3
}

#[cfg(test)]
mod tests;
