//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`.
//!
//! A path in a request names a file the slot opens, so it may lie in the folders given at the start alone: the
//! bundle's `adapters`, which passed the gate with the bundle, and one the operator allows.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bms_nn::lm::AdapterFiles;
use bms_wire::language::{LoadAdapter, UnloadAdapter};
use bms_wire::{Code, Error, Result, limits};

use super::{Language, answered, prepared};
use crate::failure::Dialect;

/// The weights and the description of a PEFT folder.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// Loads an adapter.
pub(super) async fn load(State(language): State<Arc<Language>>, request: Request) -> Response {
    let loaded = prepared(language, request, |language, body| {
        let request = LoadAdapter::parse(body)?;
        language.base(request.model.as_deref())?;
        let odd = |c: char| matches!(c, '/' | '@') || c.is_control();
        if request.name == language.name || request.name.contains(odd) {
            let what = format!("`{}` cannot be an adapter's name", request.name.escape_debug());
            return Err(Error::new(Code::InvalidRequest, what).about("lora_name"));
        }
        let path = allowed(&language.adapter_folders, &request.path)?;
        let (weights, config) = read(&path)?;
        let files = AdapterFiles { weights: &weights, config: config.as_deref() };
        language.engine.load_adapter(&request.name, &files)?;
        tracing::info!(adapter = request.name, path = %path.display(), "adapter loaded");
        Ok(format!("Success: LoRA adapter '{}' added successfully.", request.name).into_response())
    });
    answered(Dialect::OpenAi, loaded.await)
}

/// Unloads an adapter.
pub(super) async fn unload(State(language): State<Arc<Language>>, request: Request) -> Response {
    let unloaded = prepared(language, request, |language, body| {
        let request = UnloadAdapter::parse(body)?;
        language.base(request.model.as_deref())?;
        language.engine.unload_adapter(&request.name).map_err(|error| error.about("lora_name"))?;
        tracing::info!(adapter = request.name, "adapter unloaded");
        Ok(format!("Success: LoRA adapter '{}' removed successfully.", request.name).into_response())
    });
    answered(Dialect::OpenAi, unloaded.await)
}

impl Language {
    /// Checks that a request is for this model.
    fn base(&self, model: Option<&str>) -> Result<()> {
        self.adapter(model).map(drop)
    }
}

/// The real path of an adapter, inside one of the folders.
fn allowed(folders: &[PathBuf], asked: &str) -> Result<PathBuf> {
    let refusal = || {
        Error::new(Code::PermissionDenied, format!("`{asked}` is in no folder of adapters"))
            .hint("Put it into the bundle's `adapters` folder or the one given with --adapters.")
            .about("lora_path")
    };
    for folder in folders {
        let Ok(folder) = folder.canonicalize() else { continue };
        // Symbolic links are followed before the comparison, so none leads out.
        if let Ok(path) = folder.join(asked).canonicalize()
            && path.starts_with(&folder)
            && path != folder
        {
            return Ok(path);
        }
    }
    Err(refusal())
}

/// The files of an adapter: one GGUF file, or a PEFT folder.
fn read(path: &Path) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    if path.is_dir() {
        let config = bytes(&path.join(CONFIG), limits::CONTROL_BODY_BYTES_MAX as u64)?;
        return Ok((bytes(&path.join(WEIGHTS), limits::ADAPTER_BYTES_MAX)?, Some(config)));
    }
    Ok((bytes(path, limits::ADAPTER_BYTES_MAX)?, None))
}

fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if limit < bytes.len() as u64 {
        return Err(Error::new(Code::TooLarge, format!("`{}` is over {limit} bytes", path.display())));
    }
    Ok(bytes)
}
