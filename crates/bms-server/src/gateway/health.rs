//! The third signal of health: whether the work moves. A process can be alive and ready while what it took stands still.
//!
//! `GET /v2/health/progress` for the server, `GET /v2/models/{model}/progress` for a model.

use std::sync::Arc;

use axum::extract::State;
use bms_wire::api::SlotProgress;
use bms_wire::{Code, Error, Result};
use serde::Serialize;

use super::{Gateway, Named};
use crate::body::Segments;
use crate::failure::Failure;

/// How the work of a model moves.
#[derive(Debug, Serialize)]
pub(super) struct ModelProgress {
    name: String,
    progress: bool,
    waiting: u64,
    age_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
}

/// Whether no slot's work stands still. Slots that start are the matter of readiness.
pub(super) async fn server(
    State(gateway): State<Arc<Gateway>>,
) -> Result<axum::Json<serde_json::Value>, Failure> {
    let still = gateway.fleet.views().into_iter().find(|slot| slot.progress.is_some_and(|p| !p.moving));
    match still {
        None => Ok(axum::Json(serde_json::json!({ "progress": true }))),
        Some(slot) => {
            let age = slot.progress.map_or(0.0, |progress| progress.age_seconds);
            Err(standing_still(&format!("{}@{}", slot.model, slot.version), age).into())
        }
    }
}

/// Whether a model's work moves, or there is none.
pub(super) async fn model(
    State(gateway): State<Arc<Gateway>>,
    Segments(named): Segments<Named>,
) -> Result<axum::Json<ModelProgress>, Failure> {
    Ok(axum::Json(gateway.model_progress(&named)?))
}

impl Gateway {
    fn model_progress(&self, named: &Named) -> Result<ModelProgress> {
        let pool = self.fleet.route(&named.model, named.version()?)?.pool;
        let Some(SlotProgress { moving, waiting, age_seconds, steps }) = pool.progress() else {
            let what = format!("`{}` has no process that could work on anything", named.model);
            return Err(Error::new(Code::Unavailable, what));
        };
        match moving {
            true => {
                Ok(ModelProgress { name: named.model.clone(), progress: true, waiting, age_seconds, steps })
            }
            false => Err(standing_still(&named.model, age_seconds)),
        }
    }
}

fn standing_still(what: &str, age_seconds: f64) -> Error {
    let what = format!("the work of `{what}` has stood still for {age_seconds:.1} s");
    Error::new(Code::Unavailable, what)
        .hint("Its process is replaced soon, and what waits is sent to the next one.")
}
