//! The key a client sends, and calls about keys.

use ureq::http::{HeaderValue, header};
use ureq::middleware::MiddlewareNext;

use super::{Client, segment};
use crate::api::{ApiKey, CreatedKey, NewKey, SetKey};
use crate::{Code, Error, Result};

/// A secret that a client sends with every request. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerKey(HeaderValue);

impl ServerKey {
    /// The key in this text; space around it does not count.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it cannot be sent.
    pub fn new(secret: &str) -> Result<Self> {
        let unusable = || Error::new(Code::InvalidRequest, "the key holds characters no key has");
        let secret = secret.trim();
        if secret.is_empty() {
            return Err(Error::new(Code::InvalidRequest, "the key is empty"));
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {secret}")).map_err(|_| unusable())?;
        value.set_sensitive(true);
        Ok(ServerKey(value))
    }

    /// The value of the header `Authorization`.
    pub fn authorization(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(…)")
    }
}

impl Client {
    /// Sends this key with every request.
    #[must_use]
    pub fn with_key(mut self, key: Option<ServerKey>) -> Self {
        let Some(key) = key else { return self };
        let add = move |mut request: ureq::http::Request<ureq::SendBody<'_>>, next: MiddlewareNext<'_>| {
            request.headers_mut().insert(header::AUTHORIZATION, key.authorization());
            next.handle(request)
        };
        self.agent = super::agent(self.tls.as_ref()).middleware(add).build().into();
        self
    }

    /// All keys, with those that were revoked.
    pub fn keys(&self) -> Result<Vec<ApiKey>> {
        self.get("/api/v1/keys")
    }

    /// Makes a key. Its secret is in the answer and nowhere else.
    pub fn create_key(&self, new: &NewKey) -> Result<CreatedKey> {
        self.send("POST", "/api/v1/keys", new)
    }

    /// Changes what a key may use.
    pub fn set_key(&self, name: &str, set: &SetKey) -> Result<ApiKey> {
        self.send("PUT", &format!("/api/v1/keys/{}", segment(name)), set)
    }

    /// Ends a key for good.
    pub fn revoke_key(&self, name: &str) -> Result<ApiKey> {
        self.send("POST", &format!("/api/v1/keys/{}/revoke", segment(name)), &serde_json::json!({}))
    }
}
