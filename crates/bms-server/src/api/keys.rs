//! Keys of callers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use bms_wire::api::{ApiKey, CreatedKey, NewKey, SetKey};

use super::person::Person;
use super::{Answer, Api};
use crate::body::{Document, Segments};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/keys", get(keys).post(create))
        .route("/keys/{name}", put(set))
        .route("/keys/{name}/revoke", post(revoke))
}

impl Api {
    /// Has a change count here at once. Where that fails it counts once the database can be read.
    async fn keys_changed(&self) {
        if let Err(error) = self.keys.have_changed(&self.registry).await {
            tracing::warn!(code = error.code().as_str(), "changed keys are not read yet: {error}");
        }
    }
}

async fn keys(State(api): State<Arc<Api>>) -> Answer<Vec<ApiKey>> {
    Ok(axum::Json(api.registry.keys().await?))
}

async fn create(
    State(api): State<Arc<Api>>,
    person: Person,
    Document(new): Document<NewKey>,
) -> Answer<CreatedKey> {
    let created = api.registry.create_key(&new, person.said()).await?;
    api.keys_changed().await;
    Ok(axum::Json(created))
}

async fn set(
    State(api): State<Arc<Api>>,
    person: Person,
    Segments(name): Segments<String>,
    Document(set): Document<SetKey>,
) -> Answer<ApiKey> {
    let key = api.registry.set_key(&name, &set, person.said()).await?;
    api.keys_changed().await;
    Ok(axum::Json(key))
}

async fn revoke(
    State(api): State<Arc<Api>>,
    person: Person,
    Segments(name): Segments<String>,
) -> Answer<ApiKey> {
    let key = api.registry.revoke_key(&name, person.said()).await?;
    api.keys_changed().await;
    Ok(axum::Json(key))
}
