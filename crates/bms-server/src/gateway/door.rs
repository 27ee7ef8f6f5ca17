//! The door of one model: who gets in, counted.

use std::sync::Arc;

use bms_wire::{Code, Error, Result, limits};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Budget;
use crate::metrics::Metrics;

/// Admits a bounded number of requests to one model. A request is at least one row, or one conversation.
#[derive(Debug)]
pub(crate) struct Door {
    model: String,
    places: Arc<Semaphore>,
    conversations: Arc<Semaphore>,
    repetitions: Budget,
    in_flight: IntGauge,
    queue_depth: IntGauge,
}

/// A request that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
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
            in_flight: metrics.in_flight.with_label_values(&[model]),
            queue_depth: metrics.queue_depth.with_label_values(&[model]),
        }
    }

    /// Lets a request in, or says that the queue is full: an answer now is better than a timeout later.
    pub(crate) fn enter(&self) -> Result<Place> {
        self.enter_by(&self.places, limits::QUEUE_ROWS_MAX)
    }

    /// Lets a request to a language model in. It stays until the last token of its answer.
    pub(crate) fn enter_language(&self) -> Result<Place> {
        self.enter_by(&self.conversations, limits::LANGUAGE_REQUESTS_MAX)
    }

    fn enter_by(&self, places: &Arc<Semaphore>, limit: usize) -> Result<Place> {
        let permit = places.clone().try_acquire_owned().map_err(|_| {
            let what = format!("{limit} requests for `{}` are open already", self.model);
            Error::new(Code::QueueFull, what).hint("Send the request again after a pause.")
        })?;
        self.repetitions.earn();
        Ok(Place { _permit: permit, _counted: Counted::in_gauge(&self.in_flight) })
    }

    /// How many of its requests may be sent again.
    pub(crate) fn repetitions(&self) -> &Budget {
        &self.repetitions
    }

    /// Counts a request as waiting for its slot while the result lives.
    pub(crate) fn waiting(&self) -> Counted {
        Counted::in_gauge(&self.queue_depth)
    }
}

#[cfg(test)]
mod tests;
