//! `bms push`: sends what the server lacks of a bundle, then makes the version.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bms_bundle::{Bundle, Content};
use bms_store::{Recipe, frame};
use bms_wire::api::{FileRef, NewVersion, Version};
use bms_wire::client::Client;
use bms_wire::{Code, Result, limits};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::registry::ServerOption;
use crate::output::{self, Output, Progress};

/// Files under this size are sent as they are, in one request.
const CHUNKED_FROM: u64 = 1 << 20;
/// Bytes of chunks in one request, about.
const REQUEST_BYTES: usize = limits::CHUNKS_BODY_BYTES_MAX / 2;

/// Options of `bms push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The bundle's folder.
    bundle: PathBuf,
    /// Model name in the registry [default: the name in the manifest].
    #[arg(long)]
    model: Option<String>,
    /// Point this alias at the new version; can be given more than once.
    #[arg(long, value_name = "ALIAS")]
    alias: Vec<String>,
    #[command(flatten)]
    server: ServerOption,
}

impl Push {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let version = push(&self.server.client()?, &self.bundle, self.model.as_deref(), &self.alias, output)?;
        output.result(
            format_args!("{}@{} is registered ({})", version.model, version.version, version.digest),
            &version,
        );
        Ok(())
    }
}

/// What a push sent.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sent {
    /// Bytes of the bundle.
    bytes: u64,
    /// Bytes that went over the network as content.
    bytes_moved: u64,
    /// Chunks the files were cut into.
    chunks: u64,
    /// Chunks the server lacked.
    chunks_moved: u64,
}

/// Uploads what the server does not have yet, then makes the version. Whatever has arrived is not sent again by the next
/// try.
pub(crate) fn push(
    client: &Client,
    dir: &Path,
    model: Option<&str>,
    aliases: &[String],
    output: &Output,
) -> Result<Version> {
    let bundle = Bundle::open(dir)?;
    let model = match model {
        Some(model) => model.to_owned(),
        None => bundle.manifest_unverified()?.name,
    };
    let total = bundle.contents().map(|(_, content)| content.len() as u64).sum();
    let progress = output.progress("uploading", total);
    let mut files = Vec::new();
    let mut sent = Sent::default();
    for (path, content) in bundle.contents() {
        let file = FileRef { path: path.to_owned(), size: content.len() as u64, blake3: content.blake3() };
        if !client.has_blob(&file.blake3)? {
            send(client, &file, content, &mut sent, &progress)
                .map_err(|e| e.while_doing(format!("upload `{}`", file.path)))?;
        }
        sent.bytes += file.size;
        progress.at(sent.bytes);
        files.push(file);
    }
    progress.done();
    let version = client.publish(&model, &NewVersion { files, aliases: aliases.to_vec() })?;
    output.event(
        "uploaded",
        format_args!(
            "{} were sent for files of {}",
            output::bytes(sent.bytes_moved),
            output::bytes(sent.bytes)
        ),
        json!(sent),
    );
    Ok(version)
}

fn send(
    client: &Client,
    file: &FileRef,
    content: &Content,
    sent: &mut Sent,
    progress: &Progress,
) -> Result<()> {
    if file.size < CHUNKED_FROM {
        sent.bytes_moved += file.size;
        return client.put_blob(&file.blake3, content.reader(), file.size);
    }
    let recipe = Recipe::of(content.reader(), file.size)?;
    sent.chunks += recipe.chunks.len() as u64;
    send_chunks(client, content, &recipe, sent, progress)?;
    let list = recipe.to_bytes();
    match client.put_recipe(&file.blake3, &list) {
        // A collection of garbage took some that were there: they are sent as well.
        Err(error) if error.code() == Code::NotFound => {
            send_chunks(client, content, &recipe, sent, progress)?;
            client.put_recipe(&file.blake3, &list)?;
        }
        put => put?,
    }
    sent.bytes_moved += list.len() as u64;
    Ok(())
}

/// Sends the chunks that the server lacks.
fn send_chunks(
    client: &Client,
    content: &Content,
    recipe: &Recipe,
    sent: &mut Sent,
    progress: &Progress,
) -> Result<()> {
    let begun = sent.bytes;
    let (mut offset, mut seen) = (0, HashSet::new());
    let mut request = Vec::new();
    for chunks in recipe.chunks.chunks(limits::CHUNKS_ASKED_MAX) {
        let ids = chunks.iter().map(|chunk| chunk.id.to_string()).collect();
        let missing: HashSet<String> = client.missing_chunks(ids)?.into_iter().collect();
        for chunk in chunks {
            let range = offset..offset + chunk.size as usize;
            offset = range.end;
            if !missing.contains(&chunk.id.to_string()) || !seen.insert(chunk.id) {
                continue;
            }
            frame(chunk.id, &content[range.clone()], &mut request);
            content.release(range);
            sent.chunks_moved += 1;
            if REQUEST_BYTES <= request.len() {
                sent.bytes_moved += request.len() as u64;
                client.put_chunks(&request)?;
                request.clear();
                progress.at(begun + offset as u64);
            }
        }
    }
    if !request.is_empty() {
        sent.bytes_moved += request.len() as u64;
        client.put_chunks(&request)?;
    }
    Ok(())
}
