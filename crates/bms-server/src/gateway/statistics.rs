//! What the slots of models that take tensors have done.

use std::sync::Arc;

use axum::extract::State;
use bms_wire::oip::about::{ModelStatistics, Statistics};

use super::Gateway;
use super::language::ask_slot;

pub(super) async fn all(State(gateway): State<Arc<Gateway>>) -> axum::Json<Statistics> {
    axum::Json(gateway.statistics().await)
}

impl Gateway {
    /// Of all versions that answer now, by name. Language models are not among them: what they count is in the metrics.
    pub(crate) async fn statistics(&self) -> Statistics {
        let mut asking = tokio::task::JoinSet::new();
        for slot in self.fleet.tensor_slots() {
            asking.spawn(async move {
                let of = slot.of();
                let path = format!("/v2/models/{}/versions/{}/stats", of.model, of.version);
                ask_slot::<Statistics>(&slot, &path).await
            });
        }
        let answers = asking.join_all().await.into_iter().flatten();
        let mut model_stats: Vec<ModelStatistics> = answers.flat_map(|answer| answer.model_stats).collect();
        model_stats.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Statistics { model_stats }
    }
}
