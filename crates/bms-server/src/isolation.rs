//! What is known of the isolation of slots before any is started: said to whoever runs the server, and in the audit log.

use bms_bundle::Policy;
use bms_registry::Registry;
use bms_sandbox::Support;
use bms_wire::Result;
use serde_json::json;

/// Says in the log what keeps slots from being confined.
pub(crate) fn warn(policy: &Policy) {
    if !Support::detect().confines() {
        let confine = format!("{:?}", policy.confine);
        tracing::warn!(confine, "this machine cannot confine slots; `bms doctor` says why");
    }
    if !policy.unconfined().is_empty() {
        tracing::warn!(
            "the policy loads models of every format without confining them where that is impossible"
        );
    }
}

/// Writes into the audit log that slots are not confined here, and that the policy admits what it commonly would not.
pub(crate) async fn audit(policy: &Policy, registry: &Registry) -> Result<()> {
    let support = Support::detect();
    if !support.confines() {
        registry.audit("sandbox.unavailable", "server", json!({ "machine": support })).await?;
    }
    let unconfined = policy.unconfined();
    if !unconfined.is_empty() {
        registry.audit("policy.unconfined", "server", json!({ "formats": unconfined })).await?;
    }
    Ok(())
}
