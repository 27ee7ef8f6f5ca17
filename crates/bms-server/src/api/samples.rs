//! Samples that edge nodes were unsure of: looked at, and labelled by a larger model or a person.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use bms_registry::SampleFilter;
use bms_wire::api::{AssignedLabel, StoredSample};
use bms_wire::limits;
use serde::Deserialize;

use super::{Answer, Api};
use crate::body::{Asked, Document, Segments};

/// Samples in one answer when the caller does not say how many.
const SAMPLES_DEFAULT: u32 = 1000;
/// Characters of pictures in one answer; the caller asks for the rest with `after`.
const PICTURES_CHARS_MAX: usize = limits::REPLY_BYTES_MAX / 4;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/samples", get(samples))
        .route("/samples/{id}", get(sample))
        .route("/samples/{id}/label", put(label))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    /// Only those without a label.
    #[serde(default)]
    unlabelled: bool,
    /// Only those that arrived after this one.
    after: Option<String>,
    limit: Option<u32>,
    /// Without their pictures when false.
    pictures: Option<bool>,
}

async fn samples(State(api): State<Arc<Api>>, Asked(wanted): Asked<Wanted>) -> Answer<Vec<StoredSample>> {
    let labelled = wanted.unlabelled.then_some(false);
    let filter = SampleFilter { model: wanted.model, labelled, after: wanted.after };
    let mut samples = api.registry.samples(&filter, wanted.limit.unwrap_or(SAMPLES_DEFAULT)).await?;
    if wanted.pictures.unwrap_or(true) {
        let mut chars = 0;
        for place in 0..samples.len() {
            samples[place] = api.registry.sample(&samples[place].sample.id).await?;
            chars += samples[place].sample.image.len();
            if PICTURES_CHARS_MAX < chars {
                samples.truncate(place + 1);
                break;
            }
        }
    }
    Ok(axum::Json(samples))
}

async fn sample(State(api): State<Arc<Api>>, Segments(id): Segments<String>) -> Answer<StoredSample> {
    Ok(axum::Json(api.registry.sample(&id).await?))
}

async fn label(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    Document(label): Document<AssignedLabel>,
) -> Answer<AssignedLabel> {
    api.registry.label_sample(&id, &label).await?;
    Ok(axum::Json(label))
}
