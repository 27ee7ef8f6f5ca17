//! Errors as the hub's clients read them: a status, and headers that say what is missing.

use axum::response::{IntoResponse, Response};
use bms_wire::{Code, Error};
use http::{HeaderName, HeaderValue};

use crate::failure::Failure;

/// Characters of a message in a header.
const MESSAGE_CHARS_MAX: usize = 500;

/// Whether the hub's clients read what comes from a path.
pub(crate) fn is_path(path: &str) -> bool {
    ["/api/models/", "/api/datasets/", "/api/spaces/"].iter().any(|prefix| path.starts_with(prefix))
        || path.contains("/resolve/")
}

/// An error on its way to a client of the hub.
#[derive(Debug)]
pub(crate) struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused(error)
    }
}

impl Refused {
    /// The answer on a path that nobody serves: most likely a repository with an owner.
    pub(crate) fn no_such_repository(path: &str) -> Refused {
        let shown: String = path.chars().take(200).collect();
        Refused(
            Error::new(Code::ModelNotFound, format!("there is no repository at `{shown}`")).hint(
                "Models of this registry are repositories without owner: `digits`, not `owner/digits`.",
            ),
        )
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let code = match self.0.code() {
            Code::ModelNotFound => Some("RepoNotFound"),
            Code::VersionNotFound => Some("RevisionNotFound"),
            Code::NotFound => Some("EntryNotFound"),
            _ => None,
        };
        let text = match self.0.advice() {
            Some(hint) => format!("{}. {hint}", self.0.message()),
            None => self.0.message().to_owned(),
        };
        let text: String = text
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .take(MESSAGE_CHARS_MAX)
            .collect();
        let mut response = Failure::from(self.0).into_response();
        let headers = response.headers_mut();
        if let Some(code) = code {
            headers.insert(HeaderName::from_static("x-error-code"), HeaderValue::from_static(code));
        }
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static("x-error-message"), text);
        }
        response
    }
}
