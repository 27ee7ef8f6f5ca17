//! `GET /v1/models`: the model and its adapters.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bms_wire::openai::{Model, ModelList};
use bms_wire::{Code, Error};
use serde::Deserialize;

use crate::body::Segments;
use crate::failure::Dialect;
use crate::slot::language::{Language, answered, json};

pub(in crate::slot::language) async fn list(State(language): State<Arc<Language>>) -> Response {
    answered(Dialect::OpenAi, json(&ModelList::of(models(&language))))
}

/// A model's segment of the path.
#[derive(Debug, Deserialize)]
pub(in crate::slot::language) struct Named {
    model: String,
}

pub(in crate::slot::language) async fn one(
    State(language): State<Arc<Language>>,
    Segments(named): Segments<Named>,
) -> Response {
    let found = models(&language).into_iter().find(|model| model.id == named.model);
    let found = found.ok_or_else(|| {
        Error::new(Code::ModelNotFound, format!("there is no model `{}` here", named.model)).about("model")
    });
    answered(Dialect::OpenAi, found.and_then(|model| json(&model)))
}

fn models(language: &Language) -> Vec<Model> {
    let length = Some(language.engine.context());
    let base = Model { max_model_len: length, ..Model::new(language.name.clone(), language.loaded_at) };
    let adapter = |name: String| Model {
        parent: Some(language.name.clone()),
        max_model_len: length,
        ..Model::new(name, language.loaded_at)
    };
    std::iter::once(base).chain(language.engine.adapters().into_iter().map(adapter)).collect()
}
