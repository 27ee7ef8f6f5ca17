//! What callers with keys did.

use http::StatusCode;
use prometheus::{IntCounterVec, Registry};

use super::counter;

/// Counts by the names of keys, which admins give, so that they are few.
#[derive(Debug)]
pub(crate) struct KeyMetrics {
    requests: IntCounterVec,
    tokens: IntCounterVec,
    refusals: IntCounterVec,
    pub(crate) denials: IntCounterVec,
}

impl KeyMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(KeyMetrics {
            requests: counter(
                registry,
                "bms_key_requests_total",
                "Requests to models by the key's name and the HTTP status code of the answer.",
                &["key", "code"],
            )?,
            tokens: counter(
                registry,
                "bms_key_tokens_total",
                "Tokens of prompts and answers by the key's name.",
                &["key"],
            )?,
            refusals: counter(
                registry,
                "bms_key_refusals_total",
                "Requests that were over a limit of their key, by the key's name and the limit.",
                &["key", "limit"],
            )?,
            denials: counter(
                registry,
                "bms_key_denials_total",
                "Requests without a key that may make them, by error code.",
                &["code"],
            )?,
        })
    }

    pub(crate) fn answered(&self, key: &str, status: StatusCode) {
        self.requests.with_label_values(&[key, status.as_str()]).inc();
    }

    pub(crate) fn refused(&self, key: &str, limit: &str) {
        self.refusals.with_label_values(&[key, limit]).inc();
    }

    pub(crate) fn used(&self, key: &str, tokens: u64) {
        self.tokens.with_label_values(&[key]).inc_by(tokens);
    }
}
