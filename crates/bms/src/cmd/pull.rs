//! `bms pull`: a model from elsewhere: a Hugging Face hub, an OCI registry, a web server or a folder.

use std::path::{Path, PathBuf};

use bms_bundle::{Bundle, MANIFEST, SourceRef};
use bms_sources::{Pulled, Source};
use bms_wire::api::Version;
use bms_wire::{Error, Result};
use clap::Args;
use serde_json::json;

use super::package;
use super::push::push;
use super::registry::ServerOption;
use crate::home::Home;
use crate::output::{self, Output};
use crate::sources::{self, FetchOptions};

/// Options of `bms pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// `hf://[datasets/]OWNER/NAME[@REVISION][/PATH]`, `oci://HOST/NAME[:TAG][@DIGEST]`, `https://HOST/FILE[#sha256=DIGEST]`
    /// or file:///PATH.
    source: String,
    /// Folder or file to write; appears when all of it is there [default: the last part of the name].
    out: Option<PathBuf>,
    /// Register it as a version of this model: a bundle as it is, another model packaged and signed with the home folder's
    /// key. Without OUT nothing else is kept.
    #[arg(long, value_name = "MODEL")]
    register: Option<String>,
    /// With --register: point this alias at the new version; can be given more than once.
    #[arg(long, value_name = "ALIAS", requires = "register")]
    alias: Vec<String>,
    /// With --register: SPDX licence expression of the model.
    #[arg(long, requires = "register")]
    licence: Option<String>,
    #[command(flatten)]
    fetch: FetchOptions,
    #[command(flatten)]
    server: ServerOption,
}

impl Pull {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let source = Source::parse(&self.source)?;
        let Some(model) = &self.register else {
            let out = self.out.clone().unwrap_or_else(|| PathBuf::from(source.default_name()));
            let pulled = sources::fetch(&source, &out, &self.fetch, home, output)?;
            output.result(told(&pulled), &pulled);
            return Ok(());
        };
        // A place that the next try finds again.
        let aside = home.dir()?.join("pulls").join(sources::key(&format!("{source}\0{model}")));
        let out = self.out.clone().unwrap_or_else(|| aside.join(source.default_name()));
        let pulled = sources::fetch(&source, &out, &self.fetch, home, output)?;
        let bundle = aside.join("bundle");
        let version = self
            .publish(&pulled, model, &bundle, home, output)
            .map_err(|e| e.while_doing(format_args!("register `{source}` as `{model}`")))?;
        match std::fs::remove_dir_all(&aside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &aside, e)),
            _ => {}
        }
        output.result(
            format_args!(
                "{}; {}@{} is registered ({})",
                told(&pulled),
                version.model,
                version.version,
                version.digest
            ),
            &json!({ "pulled": pulled, "version": version }),
        );
        Ok(())
    }

    fn publish(
        &self,
        pulled: &Pulled,
        model: &str,
        bundle: &Path,
        home: &Home,
        output: &Output,
    ) -> Result<Version> {
        let client = self.server.client()?;
        if pulled.out.join(MANIFEST).is_file() {
            return push(&client, &pulled.out, Some(model), &self.alias, output);
        }
        if !is_packaged(bundle, pulled, model) {
            let mut draft = package::draft_of(&sources::model_in(&pulled.out), model, self.licence.clone())?;
            draft.manifest_mut().lineage.source = Some(source_of(pulled));
            draft.replacing().write_signed(bundle, &home.signing_key()?)?;
        }
        push(&client, bundle, Some(model), &self.alias, output)
    }
}

fn source_of(pulled: &Pulled) -> SourceRef {
    SourceRef { url: pulled.source.clone(), revision: pulled.revision.clone() }
}

/// Whether an earlier try has packaged the same already: pushed again, it is the same version and not another one.
fn is_packaged(bundle: &Path, pulled: &Pulled, model: &str) -> bool {
    let manifest = match Bundle::open(bundle).and_then(|bundle| bundle.manifest_unverified()) {
        Ok(manifest) => manifest,
        Err(_) => return false,
    };
    let came = |sha256: &str| pulled.files.iter().any(|file| file.sha256 == sha256);
    manifest.name == model
        && manifest.lineage.source == Some(source_of(pulled))
        && manifest.files.iter().all(|file| came(&file.sha256))
}

fn told(pulled: &Pulled) -> String {
    let revision = pulled.revision.as_ref().map(|revision| format!(" ({revision})")).unwrap_or_default();
    let (files, out) = (output::files(pulled.files.len()), pulled.out.display());
    match pulled.unchanged {
        true => format!("{}{revision} lies in `{out}` already", pulled.source),
        false => format!(
            "{}{revision} lies in `{out}`: {files}, {}, of which {} came now",
            pulled.source,
            output::bytes(pulled.bytes),
            output::bytes(pulled.bytes_moved)
        ),
    }
}
