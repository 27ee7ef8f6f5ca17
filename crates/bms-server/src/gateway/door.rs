//! The door of one model: who gets in, counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result, limits};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Budget;
use super::pace::Pace;
use crate::metrics::Metrics;

/// Admits a bounded number of requests to one model. A request is at least one row, or one conversation.
#[derive(Debug)]
pub(crate) struct Door {
    model: String,
    places: Arc<Semaphore>,
    conversations: Arc<Semaphore>,
    repetitions: Budget,
    pace: Arc<Pace>,
    /// Of its conversations.
    beginnings: Arc<Pace>,
    in_flight: IntGauge,
    queue_depth: IntGauge,
}

/// A request that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
    open: Option<Open>,
}

/// A request of which the pace is measured.
#[derive(Debug)]
struct Open {
    pace: Arc<Pace>,
    state: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Its answer, which counts whatever it is.
    Answer,
    /// Its answer to begin, which counts if it does.
    Beginning,
    Nothing,
}

impl Drop for Open {
    fn drop(&mut self) {
        match self.state {
            Waits::Answer => self.pace.left(Instant::now()),
            Waits::Beginning => self.pace.gave_up(),
            Waits::Nothing => {}
        }
    }
}

impl Place {
    /// A conversation's answer begins.
    pub(crate) fn begins(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| open.state == Waits::Beginning) {
            open.state = Waits::Nothing;
            open.pace.left(Instant::now());
        }
    }

    /// A piece of a conversation's answer has come.
    pub(crate) fn moves(&self) {
        if let Some(open) = &self.open {
            open.pace.moved(Instant::now());
        }
    }
}

/// Raises a gauge while it lives.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl Counted {
    fn in_gauge(gauge: &IntGauge) -> Self {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Door {
    pub(crate) fn new(model: &str, metrics: &Metrics) -> Self {
        Door {
            model: model.to_owned(),
            places: Arc::new(Semaphore::new(limits::QUEUE_ROWS_MAX)),
            conversations: Arc::new(Semaphore::new(limits::LANGUAGE_REQUESTS_MAX)),
            repetitions: Budget::default(),
            pace: Arc::new(Pace::of_answers()),
            beginnings: Arc::new(Pace::of_beginnings()),
            in_flight: metrics.in_flight.with_label_values(&[model]),
            queue_depth: metrics.queue_depth.with_label_values(&[model]),
        }
    }

    /// Lets a request in that has so much time, or says that the queue is full or too long for it: an answer now is better
    /// than a timeout later.
    pub(crate) fn enter(&self, allowed: Duration) -> Result<Place> {
        self.check_wait(allowed)?;
        let mut place = self.enter_by(&self.places, limits::QUEUE_ROWS_MAX)?;
        self.repetitions.earn();
        self.pace.entered();
        place.open = Some(Open { pace: self.pace.clone(), state: Waits::Answer });
        Ok(place)
    }

    /// Whether a request that has so much time is likely to be answered in it.
    ///
    /// # Errors
    /// [`Code::QueueFull`] when those before it take too long.
    pub(crate) fn check_wait(&self, allowed: Duration) -> Result<()> {
        self.check_pace(&self.pace, allowed)
    }

    fn check_pace(&self, pace: &Pace, allowed: Duration) -> Result<()> {
        let Some(excess) = pace.excess(allowed) else { return Ok(()) };
        // What reading the request took is no matter.
        let seconds = (allowed.as_secs_f64() * 1e3).round() / 1e3;
        let what = format!("`{}` would not come to this request within {seconds} s", self.model);
        Err(Error::new(Code::QueueFull, what)
            .hint("Send the request again after the pause.")
            .retry_after(excess))
    }

    /// Lets a request to a language model in that has so much time, none when it is no matter of time. It stays until the last
    /// token of its answer.
    ///
    /// # Errors
    /// [`Code::QueueFull`] when the queue is full, or its answer would not begin in time.
    pub(crate) fn enter_language(&self, allowed: Option<Duration>) -> Result<Place> {
        if let Some(allowed) = allowed {
            self.check_pace(&self.beginnings, allowed)?;
        }
        let mut place = self.wait_language()?;
        self.repetitions.earn();
        place.open = allowed.map(|_| {
            self.beginnings.entered();
            Open { pace: self.beginnings.clone(), state: Waits::Beginning }
        });
        Ok(place)
    }

    /// Lets one in that waits for, or reads along, the answer to an equal request.
    ///
    /// # Errors
    /// [`Code::QueueFull`] when the queue is full.
    pub(crate) fn wait_language(&self) -> Result<Place> {
        self.enter_by(&self.conversations, limits::LANGUAGE_REQUESTS_MAX)
    }

    fn enter_by(&self, places: &Arc<Semaphore>, limit: usize) -> Result<Place> {
        let permit = places.clone().try_acquire_owned().map_err(|_| {
            let what = format!("{limit} requests for `{}` are open already", self.model);
            Error::new(Code::QueueFull, what).hint("Send the request again after a pause.")
        })?;
        Ok(Place { _permit: permit, _counted: Counted::in_gauge(&self.in_flight), open: None })
    }

    /// How many of its requests may be sent again.
    pub(crate) fn repetitions(&self) -> &Budget {
        &self.repetitions
    }

    /// A slot was lost under a request.
    pub(crate) fn slot_lost(&self) {
        self.pace.forget();
        self.beginnings.forget();
    }

    /// Counts a request as waiting for its slot while the result lives.
    pub(crate) fn waiting(&self) -> Counted {
        Counted::in_gauge(&self.queue_depth)
    }
}

#[cfg(test)]
mod tests;
