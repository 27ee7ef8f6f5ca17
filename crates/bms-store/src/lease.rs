//! Leases: who pushes says so before it looks at what is there, so that a collector of garbage waits for it.
//!
//! `docs/adr/0011-chunks-packs-and-leases.md` argues why this is enough. No two machines' clocks are compared: a lease has run out
//! when the *store's* times say that nothing was heard of it for long, and its holder learns by looking whether
//! its lease is still there, since one that was broken is removed first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::objects::{self, Name, failure};

/// A lease of which nothing was heard for this long is broken.
pub(crate) const LEASE_MS: i64 = 10 * 60 * 1000;
/// How often the holder is heard of.
const BEAT: Duration = Duration::from_secs(60);

/// Holds off the removal of whatever was not condemned when it was taken.
#[derive(Debug)]
pub struct Lease {
    objects: Arc<dyn ObjectStore>,
    name: Name,
    heard: Instant,
    over: bool,
}

impl Lease {
    pub(crate) async fn take(objects: &Arc<dyn ObjectStore>) -> Result<Lease> {
        let name = Name::new();
        objects::write(objects.as_ref(), &objects::held(name), Vec::new()).await?;
        Ok(Lease { objects: Arc::clone(objects), name, heard: Instant::now(), over: false })
    }

    /// To be called now and then while work goes on.
    ///
    /// # Errors
    /// Of the store.
    pub async fn keep(&mut self) -> Result<()> {
        if BEAT <= self.heard.elapsed() {
            objects::write(self.objects.as_ref(), &objects::beat(self.name), Vec::new()).await?;
            self.heard = Instant::now();
        }
        Ok(())
    }

    /// Whether the lease was held until now: then everything that was there when it was taken still is.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when it was broken meanwhile.
    pub async fn check(&self) -> Result<()> {
        match self.objects.head(&objects::held(self.name)).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => Err(Error::new(
                Code::Unavailable,
                "the push stood still for so long that the store gave it up",
            )
            .hint("Push again; what has arrived is not sent twice.")),
            Err(e) => Err(failure("look at a lease in the store", e)),
        }
    }

    /// Gives it back, after everything it stood for is done. When the store does not answer, the lease runs out by itself:
    /// that is logged, and no reason to say that the work failed.
    pub async fn end(mut self) {
        self.over = true;
        if let Err(error) = give_back(self.objects.as_ref(), self.name).await {
            tracing::debug!(%error, "a lease runs out by itself");
        }
    }
}

async fn give_back(objects: &dyn ObjectStore, name: Name) -> Result<()> {
    objects::remove(objects, &objects::held(name)).await?;
    objects::remove(objects, &objects::beat(name)).await
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // A push that is given up should not keep garbage for ten minutes. Where this cannot be done, it does.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (objects, name) = (Arc::clone(&self.objects), self.name);
            runtime.spawn(async move {
                if let Err(error) = give_back(objects.as_ref(), name).await {
                    tracing::debug!(%error, "a lease runs out by itself");
                }
            });
        }
    }
}

/// Leases that are held at `now_ms` by the store's clock, and breaks those that ran out.
pub(crate) async fn held(objects: &dyn ObjectStore, now_ms: i64) -> Result<Vec<Name>> {
    let mut heard: std::collections::BTreeMap<Name, (bool, i64)> = std::collections::BTreeMap::new();
    for meta in objects::list(objects, objects::leases()).await? {
        let name = meta.location.filename().and_then(|file| file.split_once('.'));
        let Some((Some(name), kind)) = name.map(|(name, kind)| (Name::parse(name), kind)) else { continue };
        let lease = heard.entry(name).or_insert((false, i64::MIN));
        lease.0 |= kind == "held";
        lease.1 = lease.1.max(objects::written_ms(&meta));
    }
    let mut held = Vec::new();
    for (name, (is_held, at)) in heard {
        match is_held && now_ms.saturating_sub(at) < LEASE_MS {
            true => held.push(name),
            false if is_held || LEASE_MS <= now_ms.saturating_sub(at) => give_back(objects, name).await?,
            false => {}
        }
    }
    Ok(held)
}
