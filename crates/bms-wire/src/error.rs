//! The error every crate above returns at its public edge.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Code;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failure with a code the caller can act on, a message that completes "failed to …: ", and
/// optionally a hint that says what to do next.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: String,
    hint: Option<String>,
    field: Option<String>,
    pause: Option<Duration>,
    source: Option<BoxError>,
}

impl Error {
    /// An error with this code. `message` is a lowercase fragment without a full stop.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Error(Box::new(Inner { code, message, hint: None, field: None, pause: None, source: None }))
    }

    /// Adds advice: what to do next, as a sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the field of the request that is at fault, e.g. `messages[2].content`.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says how long to wait before the same is tried again, where more is known than the code tells.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.0.pause = Some(pause);
        self
    }

    /// Keeps the cause, for logs and `source()`.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what was being done in front: `"failed to {doing}: {message}"`.
    #[must_use]
    pub fn while_doing(mut self, doing: impl std::fmt::Display) -> Self {
        self.0.message = format!("failed to {doing}: {}", self.0.message);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What failed.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do next, when there is something to say.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The field of the request that is at fault, when one is.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// How long to wait before the same is tried again, when it is known.
    pub fn pause(&self) -> Option<Duration> {
        self.0.pause
    }

    /// The form that crosses the network.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { error: self.0.message.clone(), code: self.0.code, hint: self.0.hint.clone() }
    }

    /// An input/output failure at `path`, told apart by kind: absent, full disk, other.
    pub fn io(doing: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let code = match source.kind() {
            K::NotFound => Code::NotFound,
            K::PermissionDenied => Code::PermissionDenied,
            K::StorageFull | K::QuotaExceeded => Code::StorageFull,
            _ => Code::Io,
        };
        Error::new(code, format!("failed to {doing} `{}`: {source}", path.display())).because(source)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl From<ErrorBody> for Error {
    fn from(body: ErrorBody) -> Self {
        Error(Box::new(Inner {
            code: body.code,
            message: body.error,
            hint: body.hint,
            field: None,
            pause: None,
            source: None,
        }))
    }
}

/// The JSON body of every failed HTTP request.
///
/// `error` is the string the Open Inference Protocol asks for; the other fields are additions
/// its clients ignore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed.
    pub error: String,
    /// The code, see [`Code`].
    #[serde(default = "internal")]
    pub code: Code,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

fn internal() -> Code {
    Code::Internal
}
