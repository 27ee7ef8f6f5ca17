//! The thread that sends queued samples to the centre.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bms_wire::api::{HardSample, SampleDelivery};
use bms_wire::{Code, Error, Result, limits};

use crate::backoff::Backoff;
use crate::node::Node;
use crate::outbox::Sample;

/// Bytes of pictures in one delivery, so that one gets through a slow line before it times out.
const DELIVERY_BYTES_MAX: usize = 2 << 20;
/// Nothing to do until the bell rings.
const IDLE: Duration = Duration::from_secs(60);

/// Delivers until the node is stopped.
pub(crate) fn run(node: &Node) {
    let mut backoff = Backoff::new(node.settings.report_every, node.settings.backoff_max);
    while !node.is_stopped() {
        let pause = match deliver(node) {
            Ok(true) => {
                backoff.succeeded();
                continue;
            }
            Ok(false) => IDLE,
            Err(error) => {
                tracing::warn!("samples wait: {error}");
                backoff.failed()
            }
        };
        if !node.is_stopped() {
            node.bells.deliver.wait(pause);
        }
    }
}

/// Delivers the oldest samples. False when there is nothing to do, or no centre to do it with.
fn deliver(node: &Node) -> Result<bool> {
    if !node.link.is_up() {
        return Ok(false);
    }
    let oldest = node.outbox.oldest(limits::EDGE_DELIVERY_SAMPLES_MAX, DELIVERY_BYTES_MAX)?;
    if oldest.through == 0 {
        return Ok(false);
    }
    let samples: Vec<HardSample> = oldest.samples.into_iter().map(|(id, sample)| wire(id, sample)).collect();
    match send(node, samples.clone()) {
        Err(error) if is_about_content(&error) => {
            // One by one: what is wrong with one must not hold up the others.
            for sample in samples {
                let id = sample.id.clone();
                match send(node, vec![sample]) {
                    Err(error) if is_about_content(&error) => {
                        node.metrics.samples_refused.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(id, "the centre refuses a sample, which is dropped: {error}");
                    }
                    sent => sent?,
                }
            }
        }
        sent => sent?,
    }
    node.outbox.acknowledge(oldest.through)?;
    Ok(true)
}

/// Sends one delivery and counts it.
fn send(node: &Node, samples: Vec<HardSample>) -> Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    let count = samples.len() as u64;
    let sent = node.client.deliver_samples(&node.settings.node, &SampleDelivery { samples });
    match &sent {
        Ok(()) => {
            node.metrics.samples_delivered.fetch_add(count, Ordering::Relaxed);
        }
        Err(error)
            if matches!(
                error.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Unauthenticated | Code::PermissionDenied
            ) =>
        {
            node.link.lost(error)
        }
        Err(_) => {}
    }
    sent
}

/// Whether the same samples would be refused again, as opposed to a centre that is busy, full, or does
/// not know this node yet.
fn is_about_content(error: &Error) -> bool {
    matches!(error.code(), Code::InvalidRequest | Code::InvalidInput | Code::TooLarge | Code::Conflict)
}

fn wire(id: String, sample: Sample) -> HardSample {
    let Sample { image, label, confidence, version, at_ms } = sample;
    HardSample { id, image: STANDARD.encode(image), label, confidence, version, at_ms }
}
