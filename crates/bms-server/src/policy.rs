//! The trust policy of a running server: read again when its file changes, so that a revocation counts at once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use bms_bundle::{Policy, Revocation};
use bms_registry::{Refusal, Registry};
use bms_wire::api::Deployment;
use bms_wire::{Code, Result};
use serde_json::json;

/// The policy as it is now. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SharedPolicy(Arc<RwLock<Arc<Policy>>>);

impl SharedPolicy {
    pub(crate) fn new(policy: Policy) -> Self {
        SharedPolicy(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// The policy that counts now.
    pub(crate) fn now(&self) -> Arc<Policy> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

/// Watches the file a policy came from.
#[derive(Debug)]
pub(crate) struct PolicyWatch {
    file: Option<PathBuf>,
    /// Where slots read it.
    copy: PathBuf,
    shared: SharedPolicy,
    seen: Option<(SystemTime, u64)>,
    /// Versions that were found to be signed by a revoked key, so that each is an event once.
    set_aside: Vec<(String, u64)>,
}

impl PolicyWatch {
    pub(crate) fn new(file: Option<PathBuf>, copy: PathBuf, shared: SharedPolicy) -> Self {
        let seen = file.as_deref().and_then(state);
        PolicyWatch { file, copy, shared, seen, set_aside: Vec::new() }
    }

    /// Takes over a file that has changed. One that cannot be read is an event, and the policy before it stays.
    pub(crate) async fn look(&mut self, registry: &Registry) -> Result<()> {
        match self.changed().await {
            None => Ok(()),
            Some(Ok(policy)) => {
                let revoked: Vec<_> = policy.revoked.iter().map(|revoked| &revoked.key).take(100).collect();
                let details = json!({ "mode": policy.mode, "keys": policy.trust.len(), "revoked": revoked });
                registry.audit("policy.changed", "server", details).await?;
                self.shared.replace(policy);
                Ok(())
            }
            Some(Err(error)) => {
                let details = json!({ "code": error.code().as_str(), "reason": error.message() });
                registry.audit("policy.unreadable", "server", details).await.map(drop)
            }
        }
    }

    /// As [`PolicyWatch::look`], where there is no audit log: on a worker, in its own log. Whether another policy counts
    /// now.
    pub(crate) async fn look_here(&mut self) -> bool {
        match self.changed().await {
            None => false,
            Some(Ok(policy)) => {
                let (keys, revoked) = (policy.trust.len(), policy.revoked.len());
                tracing::info!(keys, revoked, "the policy has changed");
                self.shared.replace(policy);
                true
            }
            Some(Err(error)) => {
                tracing::error!("the policy has changed and cannot be read: {error}");
                false
            }
        }
    }

    /// What the file holds when it has changed to something else.
    async fn changed(&mut self) -> Option<Result<Policy>> {
        let file = self.file.as_ref()?;
        let now = state(file);
        if now == self.seen {
            return None;
        }
        self.seen = now;
        let before = self.shared.now();
        let (loaded, copy, keys) = (file.clone(), self.copy.clone(), before.keys.clone());
        let read = tokio::task::spawn_blocking(move || {
            let policy = Policy { keys, ..Policy::load(&loaded)? };
            policy.save(&copy)?;
            Ok::<_, bms_wire::Error>(policy)
        });
        let read = read.await.unwrap_or_else(|e| {
            Err(bms_wire::Error::new(Code::Internal, "the policy was not read").because(e))
        });
        (!matches!(&read, Ok(policy) if *policy == *before)).then_some(read)
    }

    /// Whether the deployed version is signed by a key that is revoked by now. It is then set aside, and must not be
    /// loaded any more, nor stay loaded.
    pub(crate) async fn is_revoked(&mut self, registry: &Registry, deployment: &Deployment) -> Result<bool> {
        let Some(version) = deployment.version else { return Ok(false) };
        let policy = self.shared.now();
        if policy.revoked.is_empty() {
            return Ok(false);
        }
        let key = registry.signer_key(&deployment.model, version).await?;
        let Some(revocation) = key.and_then(|key| policy.revocation(&key).cloned()) else { return Ok(false) };
        let of = (deployment.model.clone(), version);
        if !self.set_aside.contains(&of) {
            set_aside(registry, &of, &revocation).await?;
            self.set_aside.push(of);
        }
        Ok(true)
    }
}

async fn set_aside(
    registry: &Registry,
    (model, version): &(String, u64),
    revoked: &Revocation,
) -> Result<()> {
    let version = registry.version(model, *version).await?;
    let reason = format!("the signer's key {} was revoked: {}", revoked.key, revoked.reason);
    let refusal = Refusal {
        model: model.clone(),
        code: Code::KeyRevoked,
        reason,
        findings: Vec::new(),
        files: version.files,
    };
    registry.quarantine(&refusal).await.map(drop)
}

fn state(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
