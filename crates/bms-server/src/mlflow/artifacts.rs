//! `/mlflow-artifacts/artifacts/…`: files up, down and listed, in streams.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use bms_wire::api::FileRef;
use bms_wire::{Code, Error, Result, limits};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::call::{Call, person};
use super::failure::Refused;
use super::uri::{self, Place};
use super::{Answer, shape};
use crate::api::Api;
use crate::api::blobs::{STALL, stream};
use crate::body;

/// Entries of one listing.
const ENTRIES_MAX: usize = limits::BUNDLE_FILES_MAX;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/artifacts", get(list))
        .route("/artifacts/{*path}", get(download).put(upload).delete(remove))
}

/// Those beside the tracking routes, which name a run instead of a path.
pub(super) fn listing_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/artifacts/list", get(list_of_run))
        .route("/logged-models/{id}/artifacts/directories", get(list_of_model))
}

impl Api {
    /// The files below a place, with their whole paths there.
    async fn files(&self, place: &Place) -> Result<Vec<FileRef>> {
        match place {
            Place::Owned { owner, path } => self.registry.artifacts(owner, path).await,
            Place::Version { model, version, path } => {
                let mut files = self.registry.version(model, *version).await?.files;
                let below = |file: &str| {
                    path.is_empty()
                        || file
                            .strip_prefix(path.as_str())
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                files.retain(|file| below(&file.path));
                Ok(files)
            }
        }
    }
}

/// The entries of a folder: files, and folders of which some file is known. A file has none.
fn entries(files: &[FileRef], folder: &str) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    let mut last_folder = String::new();
    for file in files {
        let inside = match folder.is_empty() {
            true => Some(file.path.as_str()),
            false => file.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        match inside.map(|inside| inside.split_once('/')) {
            None => {}
            Some(None) => {
                let path = inside.unwrap_or_default();
                found.push(json!({ "path": path, "is_dir": false, "file_size": file.size }));
            }
            // Files come by path: those of one folder stand together.
            Some(Some((name, _))) if name == last_folder => {}
            Some(Some((name, _))) => {
                name.clone_into(&mut last_folder);
                found.push(json!({ "path": name, "is_dir": true }));
            }
        }
    }
    found.truncate(ENTRIES_MAX);
    found
}

fn inner(place: &Place) -> &str {
    match place {
        Place::Owned { path, .. } | Place::Version { path, .. } => path,
    }
}

async fn list(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let place = uri::place(call.maybe("path")?.unwrap_or_default())?;
    let files = api.files(&place).await?;
    Ok(axum::Json(json!({ "files": entries(&files, inner(&place)) })))
}

async fn list_of_run(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let run = api.registry.run(call.run()?).await?;
    let folder = call.maybe("path")?.unwrap_or_default().trim_matches('/');
    let files = api.registry.artifacts(&run.id, folder).await?;
    let root = shape::run_info(&run)["artifact_uri"].clone();
    Ok(axum::Json(json!({ "root_uri": root, "files": whole(entries(&files, folder), folder) })))
}

async fn list_of_model(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Answer {
    let model = api.registry.logged_model(&id).await?;
    let folder = call.maybe("artifact_directory_path")?.unwrap_or_default().trim_matches('/');
    let files = api.registry.artifacts(&model.id, folder).await?;
    let root = uri::logged_model(model.experiment, &model.id);
    Ok(axum::Json(json!({ "root_uri": root, "files": whole(entries(&files, folder), folder) })))
}

/// Entries with their paths from the root, as these two routes give them.
fn whole(mut entries: Vec<Value>, folder: &str) -> Vec<Value> {
    if !folder.is_empty() {
        for entry in &mut entries {
            entry["path"] = json!(format!("{folder}/{}", entry["path"].as_str().unwrap_or_default()));
        }
    }
    entries
}

async fn download(State(api): State<Arc<Api>>, Path(path): Path<String>) -> Result<Response, Refused> {
    let place = uri::place(&path)?;
    let files = api.files(&place).await?;
    let shown: String = path.chars().take(200).collect();
    let file = files
        .into_iter()
        .find(|file| file.path == inner(&place))
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no artifact `{shown}`")))?;
    Ok(stream(api.registry.get_blob(&file.blake3).await?))
}

async fn upload(State(api): State<Arc<Api>>, Path(path): Path<String>, request: Request) -> Answer {
    let place = match uri::place(&path) {
        Ok(Place::Owned { owner, path }) => Ok((owner, path)),
        Ok(Place::Version { .. }) => {
            let what = "the files of a version cannot be changed";
            Err(Error::new(Code::InvalidRequest, what)
                .hint("Log to a run, and register a version from there."))
        }
        Err(error) => Err(error),
    };
    let too_large = body::declared_length(request.headers()).is_some_and(|n| limits::BLOB_BYTES_MAX < n);
    let (owner, inner) = match place {
        Ok(place) if !too_large => place,
        Ok(_) => {
            body::linger(request);
            let what = format!("the file is over the limit of {} bytes", limits::BLOB_BYTES_MAX);
            return Err(Error::new(Code::TooLarge, what).into());
        }
        Err(error) => {
            body::linger(request);
            return Err(error.into());
        }
    };
    let (parts, mut body) = request.into_parts();
    let kept = receive(&api, &owner, &inner, &mut body).await;
    if kept.is_err() {
        body::linger(Request::from_parts(parts, body));
    }
    kept?;
    Ok(axum::Json(json!({})))
}

async fn receive(api: &Api, owner: &str, path: &str, body: &mut Body) -> Result<FileRef> {
    let mut incoming = api.registry.receive().await?;
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await.map_err(|_| {
            Error::new(Code::DeadlineExceeded, format!("no byte of the file came for {} s", STALL.as_secs()))
        })?;
        let Some(frame) = frame else { return api.registry.keep_artifact(owner, path, incoming).await };
        let frame = frame.map_err(|e| {
            Error::new(Code::InvalidRequest, "the file ended before it was complete").because(e)
        })?;
        if let Ok(part) = frame.into_data() {
            incoming.write(part).await?;
        }
    }
}

async fn remove(State(api): State<Arc<Api>>, Path(path): Path<String>, headers: http::HeaderMap) -> Answer {
    match uri::place(&path)? {
        Place::Owned { owner, path } => {
            api.registry.remove_artifacts(&owner, &path, &person(&headers)).await?
        }
        Place::Version { .. } => {
            return Err(Error::new(Code::InvalidRequest, "the files of a version cannot be changed").into());
        }
    }
    Ok(axum::Json(json!({})))
}
