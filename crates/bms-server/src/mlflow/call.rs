//! What a client asks: the fields of a message, from the query of a `GET` and from the body otherwise.
//!
//! Fields are taken as protobuf's JSON allows them: whole numbers as numbers or text, NaN and infinities as text, a
//! list of one as a single value in a query.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bms_registry::Page;
use bms_wire::{Code, Error, Result, limits};
use http::{HeaderMap, Method, header};
use serde_json::{Map, Value};

use super::failure::Refused;
use crate::api::person::named;
use crate::body;

/// Things in one page when a client does not say how many.
const PAGE_DEFAULT: usize = 1000;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    fields: Map<String, Value>,
    /// Who says they call; nobody has verified it.
    pub(super) person: String,
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let person = person(request.headers());
        let has_body = body::declared_length(request.headers()) != Some(0);
        let fields = match *request.method() {
            Method::GET | Method::HEAD => of_query(request, state).await?,
            Method::DELETE if !has_body => of_query(request, state).await?,
            _ => {
                let bytes = body::read_document_bytes(request, limits::CONTROL_BODY_BYTES_MAX).await?;
                match bytes.is_empty() {
                    true => Map::new(),
                    false => serde_json::from_slice(&bytes).map_err(|e| {
                        Error::new(Code::InvalidRequest, format!("the request's body is no JSON object: {e}"))
                    })?,
                }
            }
        };
        Ok(Call { fields, person })
    }
}

async fn of_query<S: Send + Sync>(request: Request, state: &S) -> Result<Map<String, Value>> {
    let (mut parts, _) = request.into_parts();
    let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(&mut parts, state)
        .await
        .map_err(|e| Error::new(Code::InvalidRequest, e.body_text()))?;
    let mut fields = Map::new();
    for (key, value) in pairs {
        let value = Value::String(value);
        match fields.get_mut(&key) {
            None => {
                fields.insert(key, value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(fields)
}

/// Who a request says it is from: our own header, or the user of basic authentication, which is what MLflow's client
/// sends when it is given a name.
pub(super) fn person(headers: &HeaderMap) -> String {
    let basic = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
        let decoded = String::from_utf8(BASE64.decode(value.trim()).ok()?).ok()?;
        Some(decoded.split(':').next()?.to_owned())
    };
    let name = named(headers).or_else(basic).unwrap_or_default();
    match name.trim().is_empty() || limits::TITLE_BYTES_MAX < name.len() || name.contains('\0') {
        true => "mlflow".to_owned(),
        false => name,
    }
}

impl Call {
    fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// A text that may be absent; an empty one is.
    pub(super) fn maybe(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(unfit(key, "text")),
        }
    }

    /// A text that must be there.
    pub(super) fn text(&self, key: &str) -> Result<&str> {
        self.maybe(key)?.ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("the value for `{key}` is missing")).about(key)
        })
    }

    /// The id of a run, under its present or its former name.
    pub(super) fn run(&self) -> Result<&str> {
        match self.maybe("run_id")? {
            Some(run) => Ok(run),
            None => self.text("run_uuid"),
        }
    }

    /// A whole number that may be absent.
    pub(super) fn whole(&self, key: &str) -> Result<Option<i64>> {
        self.get(key).map(|value| whole(value).ok_or_else(|| unfit(key, "a whole number"))).transpose()
    }

    /// The number of an experiment or version.
    pub(super) fn number(&self, key: &str) -> Result<u64> {
        let value = self.get(key).ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("the value for `{key}` is missing")).about(key)
        })?;
        whole(value).and_then(|number| u64::try_from(number).ok()).ok_or_else(|| {
            // Ids of other servers are text; here they name nothing.
            Error::new(Code::NotFound, format!("`{key}` is {value}, which is no number here")).about(key)
        })
    }

    /// Texts; a single one is a list of one.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(unfit(key, "a list of text")),
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(text).collect(),
            Some(value) => Ok(vec![text(value)?]),
        }
    }

    /// Objects.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Call>> {
        let object = |value: &Value| match value {
            Value::Object(fields) => Ok(Call { fields: fields.clone(), person: String::new() }),
            _ => Err(unfit(key, "a list of objects")),
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(object).collect(),
            Some(_) => Err(unfit(key, "a list of objects")),
        }
    }

    /// Keys and values, as tags and parameters are sent.
    pub(super) fn pairs(&self, key: &str) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        for object in self.objects(key)? {
            // An empty value is one.
            let value = match object.get("value") {
                Some(Value::String(text)) => text.clone(),
                None => String::new(),
                Some(_) => return Err(unfit("value", "text")),
            };
            pairs.push((object.text("key")?.to_owned(), value));
        }
        Ok(pairs)
    }

    /// A number that may be infinite or NaN.
    pub(super) fn double(&self, key: &str) -> Result<f64> {
        let value = match self.get(key) {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                other => other.parse().ok(),
            },
            // Protobuf leaves out what is zero.
            None => Some(0.0),
            Some(_) => None,
        };
        value.ok_or_else(|| unfit(key, "a number"))
    }

    /// Whether something is asked for.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "True" => Ok(true),
            Some(Value::String(text)) if text == "false" || text == "False" => Ok(false),
            Some(_) => Err(unfit(key, "true or false")),
        }
    }

    /// The fields as they came.
    pub(super) fn raw(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    /// The part of an answer that is asked for.
    pub(super) fn page(&self) -> Result<Page> {
        let size = match self.whole("max_results")? {
            None => PAGE_DEFAULT,
            Some(size) => usize::try_from(size)
                .ok()
                .filter(|size| *size != 0)
                .ok_or_else(|| unfit("max_results", "a number above zero"))?,
        };
        let offset = match self.maybe("page_token")? {
            None => 0,
            Some(token) => token.parse().map_err(|_| {
                Error::new(Code::InvalidRequest, "`page_token` is none that this server gave out")
            })?,
        };
        Ok(Page { offset, size })
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            // Some clients write times as floating-point numbers.
            number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 2_f64.powi(53)).map(|n| n as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn unfit(key: &str, expected: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{key}` has to be {expected}")).about(key)
}
