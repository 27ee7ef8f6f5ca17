//! Which model has an adapter of a name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::gateway::Gateway;

/// How long what slots said of their adapters is believed: clients may ask for names nobody has as often as they like.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// The adapters of all language models, as their slots said last.
#[derive(Debug, Default)]
pub(crate) struct Adapters {
    known: Mutex<Option<Known>>,
    /// How often one was loaded or unloaded, or may have been: a name may stand for another adapter since.
    changes: AtomicU64,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    /// Adapter to model.
    models: BTreeMap<String, String>,
}

impl Adapters {
    /// The model that has this adapter.
    pub(super) async fn model_of(&self, gateway: &Gateway, adapter: &str) -> Option<String> {
        let mut known = self.known.lock().await;
        if known.as_ref().is_none_or(|known| BELIEVED_FOR < known.at.elapsed()) {
            let listed = gateway.list_models().await.into_iter();
            let models = listed.filter_map(|model| Some((model.id, model.parent?))).collect();
            *known = Some(Known { at: Instant::now(), models });
        }
        known.as_ref()?.models.get(adapter).cloned()
    }

    /// How often adapters have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// One is loaded or unloaded. Has the slots asked again.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        // Whoever holds it is asking them just now.
        if let Ok(mut known) = self.known.try_lock() {
            *known = None;
        }
    }
}
