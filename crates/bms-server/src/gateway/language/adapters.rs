//! Which model has an adapter of a name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::gateway::Gateway;

/// How long what slots said of their adapters is believed: clients may ask for names nobody has as often as they like.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// The adapters of all language models, as their slots said last.
#[derive(Debug, Default)]
pub(crate) struct Adapters(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    at: Instant,
    /// Adapter to model.
    models: BTreeMap<String, String>,
}

impl Adapters {
    /// The model that has this adapter.
    pub(super) async fn model_of(&self, gateway: &Gateway, adapter: &str) -> Option<String> {
        let mut known = self.0.lock().await;
        if known.as_ref().is_none_or(|known| BELIEVED_FOR < known.at.elapsed()) {
            let listed = gateway.list_models().await.into_iter();
            let models = listed.filter_map(|model| Some((model.id, model.parent?))).collect();
            *known = Some(Known { at: Instant::now(), models });
        }
        known.as_ref()?.models.get(adapter).cloned()
    }

    /// Has the slots asked again.
    pub(super) fn forget(&self) {
        // Whoever holds it is asking them just now.
        if let Ok(mut known) = self.0.try_lock() {
            *known = None;
        }
    }
}
