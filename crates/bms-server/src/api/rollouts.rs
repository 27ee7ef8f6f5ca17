//! Rollouts: begun, looked at, and ordered about.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bms_wire::api::{NewRollout, RolledBack, Rollout, RolloutOrder};
use bms_wire::{Code, Error};

use super::person::Person;
use super::{Answer, Api};
use crate::body::{Document, Segments};
use crate::rollout::{Decision, Evidence, decide, sight};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/rollouts", get(all))
        .route("/rollouts/{model}", get(one).post(begin))
        .route("/rollouts/{model}/{order}", post(order))
        .route("/deployments/{model}/rollback", post(roll_back))
}

async fn all(State(api): State<Arc<Api>>) -> Answer<Vec<Rollout>> {
    Ok(axum::Json(api.registry.rollouts().await?))
}

/// The last rollout; of one under way, `reason` says what it waits for.
async fn one(State(api): State<Arc<Api>>, Segments(model): Segments<String>) -> Answer<Rollout> {
    let mut rollout = api.registry.rollout(&model).await?;
    if rollout.ended_ms.is_none() {
        let counted = api.registry.counted(rollout.id, rollout.step).await?;
        let now_ms = api.registry.database_now_ms().await?;
        let candidate_slot = sight(&api.gateway.fleet, &rollout);
        let evidence = Evidence { rollout: &rollout, now_ms, candidate_slot, counted: &counted };
        let (Decision::Wait(why) | Decision::Move(_, why)) = decide(&evidence);
        rollout.reason = why;
    }
    Ok(axum::Json(rollout))
}

async fn begin(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    person: Person,
    Document(new): Document<NewRollout>,
) -> Answer<Rollout> {
    let rollout = api.registry.begin_rollout(&model, &new, person.said()).await?;
    // A candidate that was refused before gets another chance.
    api.gateway.fleet.forget_refusals(&model);
    api.changed.notify_one();
    Ok(axum::Json(rollout))
}

async fn order(
    State(api): State<Arc<Api>>,
    Segments((model, order)): Segments<(String, String)>,
    person: Person,
) -> Answer<Rollout> {
    let Some(order) = RolloutOrder::parse(&order) else {
        let shown: String = order.chars().take(80).collect();
        return Err(Error::new(Code::NotFound, format!("`{shown}` is nothing a rollout can be told"))
            .hint("It can be told to pause, resume, promote or abort.")
            .into());
    };
    let rollout = api.registry.order_rollout(&model, order, person.said()).await?;
    api.changed.notify_one();
    Ok(axum::Json(rollout))
}

async fn roll_back(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    person: Person,
) -> Answer<RolledBack> {
    let back = api.registry.roll_back(&model, person.said()).await?;
    api.changed.notify_one();
    Ok(axum::Json(back))
}
