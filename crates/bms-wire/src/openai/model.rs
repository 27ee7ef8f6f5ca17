//! The list of models.

use serde::{Deserialize, Serialize};

/// `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models and their adapters.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of these.
    pub fn of(data: Vec<Model>) -> Self {
        ModelList { object: "list".to_owned(), data }
    }
}

/// One model, or one adapter of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What requests name it.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Whose it is.
    pub owned_by: String,
    /// The model an adapter changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Tokens of prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<usize>,
}

impl Model {
    /// A model loaded at that time.
    pub fn new(id: impl Into<String>, created: u64) -> Self {
        Model {
            id: id.into(),
            object: "model".to_owned(),
            created,
            owned_by: "bms".to_owned(),
            parent: None,
            max_model_len: None,
        }
    }
}
