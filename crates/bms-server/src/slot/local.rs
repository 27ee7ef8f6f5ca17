//! A language model in this process, asked in the protocols a slot speaks: for a command line without a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bms_bundle::Verified;
use bms_nn::onnx::RuntimeChoice;
use bms_wire::openai::ErrorEnvelope;
use bms_wire::{Code, Error, Result, limits};
use http::{Request, header};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::{Options, language_routes, load};
use crate::slots::{LanguageLaunch, Place};

/// How often a caller is asked whether it still listens while nothing is said.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A loaded language model.
#[derive(Debug)]
pub struct LocalModel {
    name: String,
    router: Router,
    runtime: Runtime,
}

impl LocalModel {
    /// Loads a model that passed the gate. Nothing can be added to it later: it has no folder of adapters.
    ///
    /// # Errors
    /// The engine's refusal; [`Code::UnsupportedModel`] for what is no language model.
    pub fn load(verified: &Verified, threads: Option<usize>, language: LanguageLaunch) -> Result<LocalModel> {
        let manifest = verified.manifest();
        if !manifest.is_language_model() {
            let what = format!("`{}` is no language model, its task is {}", manifest.name, manifest.task);
            return Err(Error::new(Code::UnsupportedModel, what));
        }
        let name = manifest.name.clone();
        // It has no socket, and what lies where was looked at before it was verified.
        let (socket, policy) = (PathBuf::new(), PathBuf::new());
        let place = Place::Bare { path: PathBuf::new(), name: name.clone() };
        let runtime = RuntimeChoice::Auto;
        let options =
            Options { place, socket, policy, sealed: false, runtime, threads, language, watched: false };
        let language = load::load(verified, &options, None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(Code::Internal, format!("failed to start the runtime: {e}")).because(e)
        })?;
        Ok(LocalModel { name, router: language_routes(Arc::new(language)), runtime })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Posts a JSON body to a path of the slot's protocols. `hear` gets the answer piece by piece, and nothing from
    /// time to time; once it returns `false` the request is cancelled.
    ///
    /// # Errors
    /// The model's refusal. `hear` got nothing then.
    pub fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
        mut hear: impl FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .map_err(|e| Error::new(Code::InvalidRequest, format!("`{path}` is no path")).because(e))?;
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                return Err(refusal(status.as_u16(), body).await);
            }
            loop {
                let piece = match tokio::time::timeout(LOOK_EVERY, body.frame()).await {
                    Err(_) => None,
                    Ok(None) => return Ok(()),
                    Ok(Some(frame)) => frame
                        .map_err(|e| Error::new(Code::Internal, "the answer broke off").because(e))?
                        .into_data()
                        .ok(),
                };
                if !hear(piece.as_deref().unwrap_or_default()) {
                    return Ok(());
                }
            }
        })
    }
}

/// The error an answer tells of.
async fn refusal(status: u16, body: Body) -> Error {
    let code = Code::ALL.iter().copied().find(|code| code.http() == status).unwrap_or(Code::Internal);
    let body = http_body_util::Limited::new(body, limits::CONTROL_BODY_BYTES_MAX).collect().await;
    let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    match serde_json::from_slice::<ErrorEnvelope>(&bytes) {
        Ok(envelope) => envelope.into_error(code),
        Err(_) => Error::new(code, format!("the model answered with status {status}")),
    }
}
