//! Where artifacts lie, as clients are told.
//!
//! ```text
//! {experiment}/{run}/artifacts/…               what a run left behind
//! {experiment}/models/{model id}/artifacts/…   what a logged model consists of
//! registry/{model}/{version}/…                 the files of a version
//! ```

use bms_wire::{Code, Error, Result};

const SCHEME: &str = "mlflow-artifacts:";

/// A place among the artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Below the files of a run or logged model.
    Owned { owner: String, path: String },
    /// Below the files of a version.
    Version { model: String, version: u64, path: String },
}

pub(super) fn experiment(id: u64) -> String {
    format!("{SCHEME}/{id}")
}

pub(super) fn run(experiment: u64, run: &str) -> String {
    format!("{SCHEME}/{experiment}/{run}/artifacts")
}

pub(super) fn logged_model(experiment: u64, id: &str) -> String {
    format!("{SCHEME}/{experiment}/models/{id}/artifacts")
}

pub(super) fn version(model: &str, version: u64) -> String {
    format!("{SCHEME}/registry/{model}/{version}")
}

/// The place a path names, see the module's documentation.
///
/// # Errors
/// [`Code::NotFound`] when it is built in no such way.
pub(super) fn place(path: &str) -> Result<Place> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let owned = |owner: &str, rest: &[&str]| Place::Owned { owner: owner.to_owned(), path: rest.join("/") };
    match segments.as_slice() {
        ["registry", model, version, rest @ ..] => match version.parse() {
            Ok(version) => Ok(Place::Version { model: (*model).to_owned(), version, path: rest.join("/") }),
            Err(_) => Err(nowhere(path)),
        },
        [_, "models", id, "artifacts", rest @ ..] => Ok(owned(id, rest)),
        [_, run, "artifacts", rest @ ..] => Ok(owned(run, rest)),
        _ => Err(nowhere(path)),
    }
}

/// The run or logged model, and the path in it, that the source of a version names.
///
/// # Errors
/// [`Code::InvalidRequest`] when it lies elsewhere: what is not here cannot be judged.
pub(super) fn source(source: &str) -> Result<(String, String)> {
    let elsewhere = || {
        let shown: String = source.chars().take(200).collect();
        Error::new(Code::InvalidRequest, format!("`{shown}` is not kept by this server"))
            .hint("Log the files to a run here, and register them from there.")
    };
    if let Some(rest) = source.strip_prefix("runs:/") {
        let (run, path) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest, ""));
        return Ok((run.to_owned(), path.to_owned()));
    }
    if let Some(id) = source.strip_prefix("models:/").filter(|id| id.starts_with("m-")) {
        let (id, path) = id.split_once('/').unwrap_or((id, ""));
        return Ok((id.to_owned(), path.to_owned()));
    }
    let path = source.strip_prefix(SCHEME).ok_or_else(elsewhere)?;
    // A host may stand before the path.
    let path = match path.strip_prefix("//") {
        Some(rest) if !rest.starts_with('/') => rest.split_once('/').map_or("", |(_, path)| path),
        _ => path,
    };
    match place(path) {
        Ok(Place::Owned { owner, path }) => Ok((owner, path)),
        _ => Err(elsewhere()),
    }
}

fn nowhere(path: &str) -> Error {
    let shown: String = path.chars().take(200).collect();
    Error::new(Code::NotFound, format!("there are no artifacts at `{shown}`"))
}

#[cfg(test)]
mod tests;
