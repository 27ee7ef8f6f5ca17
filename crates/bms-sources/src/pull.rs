//! A pull: what is there, all of it brought, one thing that appears.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bms_bundle::{Finding, Severity};
use bms_wire::{Error, Result, limits};
use serde::Serialize;
use url::Url;

use crate::auth::Token;
use crate::digest::Expected;
use crate::gather::{Gathered, Gathering, gather};
use crate::http::Http;
use crate::hub::Hub;
use crate::oci::Oci;
use crate::patterns::Patterns;
use crate::plan::Plan;
use crate::retry::Tries;
use crate::source::Source;
use crate::staging::{Key, Staging, occupied, sync};
use crate::transfer::digest_of;
use crate::{local, web};

/// How something is pulled.
#[derive(Clone, Debug)]
pub struct Options {
    /// The hub that `hf://` means.
    pub hub: Url,
    /// The token for the source itself. Nobody else is shown it.
    pub token: Option<Token>,
    /// Where the hub's own client keeps what it fetched: files that are there need not come again.
    pub hub_cache: Option<PathBuf>,
    /// Which files.
    pub patterns: Patterns,
    /// Hex SHA-256 that the one file must have.
    pub sha256: Option<String>,
    /// Bytes of all files together, at most.
    pub bytes_max: u64,
    /// Files on their way at once.
    pub jobs: usize,
    /// Findings of the scan from this severity on refuse a file.
    pub deny: Severity,
    /// Whether what is at the target is replaced.
    pub replace: bool,
    /// Pause before the first second try; later ones are longer.
    pub pause: Duration,
}

/// Is told how a pull goes, from several threads.
pub trait Watch: Sync + Debug {
    /// There are this many files, and bytes as far as that is known.
    fn planned(&self, files: usize, bytes: u64);
    /// So many bytes are here.
    fn at(&self, bytes: u64);
    /// Something a person should know.
    fn note(&self, text: &str);
}

/// What was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// The source, as it is called.
    pub source: String,
    /// The commit or digest its name meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Where it is.
    pub out: PathBuf,
    /// Whether it was there already.
    pub unchanged: bool,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that came over the network now.
    pub bytes_moved: u64,
    /// The files, by path.
    pub files: Vec<PulledFile>,
    /// What the scan found that is not denied.
    pub findings: Vec<Finding>,
}

/// One file of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PulledFile {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256.
    pub sha256: String,
    /// By what it was verified: `sha256`, `git-blob-sha1` or `none`.
    pub verified: &'static str,
}

/// Pulls `source` to `out`. A pull that ended before its end, however it ended, goes on with the next one to the same place.
///
/// # Errors
/// [`bms_wire::Code::NotFound`] and its kin, as the source answers; [`bms_wire::Code::Tampered`] for bytes that are not
/// those named; [`bms_wire::Code::MaliciousContent`] for a file that the scan denies; [`bms_wire::Code::Conflict`] when
/// something else is at `out`; limits, and errors of the disk. Nothing is seen at `out` then.
pub fn pull(
    source: &Source,
    out: &Path,
    http: &Http,
    options: &Options,
    watch: &dyn Watch,
) -> Result<Pulled> {
    let doing = |e: Error| e.while_doing(format_args!("pull `{source}`"));
    let bytes_max = options.bytes_max.min(limits::PULL_BYTES_MAX);
    let plan =
        list(source, http, options).and_then(|plan| plan.check(bytes_max).map(|()| plan)).map_err(doing)?;
    watch.planned(plan.items.len(), plan.bytes());
    let out = &match plan.items.as_slice() {
        [item] if plan.single && out.is_dir() => out.join(&item.path),
        _ => out.to_owned(),
    };
    let staging = Staging::take(out)?;
    match already_there(&plan, out, &staging, options) {
        Ok(None) => {}
        Ok(Some(pulled)) => {
            staging.remove()?;
            return Ok(pulled);
        }
        Err(error) => {
            staging.leave();
            return Err(doing(error));
        }
    }
    staging.sweep(&plan.items.iter().map(Key::of).collect::<BTreeSet<_>>())?;
    let how = Gathering {
        http,
        watch,
        tries: Tries::new(options.pause),
        jobs: options.jobs.clamp(1, limits::PULL_JOBS_MAX),
        bytes_max,
        deny: options.deny,
    };
    let gathered = match gather(&plan, &staging, &how) {
        Ok(gathered) => gathered,
        Err(error) => {
            if let Some(kept) = staging.leave() {
                let kept = kept.display();
                watch.note(&format!(
                    "what has arrived is kept in `{kept}`; the same command goes on from there"
                ));
            }
            return Err(doing(error));
        }
    };
    sync(staging.dir())?;
    let result = staging.assemble(&plan.items, plan.single)?;
    staging.publish(&result, out, options.replace)?;
    Ok(report(&plan, out, &gathered))
}

/// What the source has.
fn list(source: &Source, http: &Http, options: &Options) -> Result<Plan> {
    let name = source.to_string();
    let token = options.token.as_ref();
    let tries = Tries::new(options.pause);
    let mut plan = match source {
        Source::Hub { kind, repository, revision, path } => {
            let cache = options.hub_cache.as_deref();
            let hub = Hub { http, endpoint: &options.hub, token, cache, kind: *kind, repository, tries };
            hub.plan(name, revision.as_deref(), path.as_deref(), &options.patterns)?
        }
        Source::Web { url, sha256 } => web::plan(http, name, url, sha256.as_deref(), token)?,
        Source::File { path } => local::plan(name, path, &options.patterns)?,
        Source::Oci { registry, repository, tag, digest } => {
            let oci = Oci { http, registry, repository, token, tries };
            oci.plan(name, tag.as_deref(), digest.as_deref(), &options.patterns)?
        }
    };
    if let Some(sha256) = &options.sha256 {
        let sha256 = crate::source::check_sha256(sha256)?;
        let [item] = plan.items.as_mut_slice() else {
            return Err(Error::new(
                bms_wire::Code::InvalidRequest,
                "a digest is given, but there are several files",
            ));
        };
        match &item.expected {
            Expected::Sha256(known) if *known != sha256 => {
                let what = format!("the source says that its digest is {known}, not {sha256}");
                return Err(Error::new(bms_wire::Code::Tampered, what));
            }
            _ => item.expected = Expected::Sha256(sha256),
        }
    }
    Ok(plan)
}

/// The report when all of it is at the target already, and nothing else is.
fn already_there(plan: &Plan, out: &Path, staging: &Staging, options: &Options) -> Result<Option<Pulled>> {
    let Ok(metadata) = std::fs::symlink_metadata(out) else { return Ok(None) };
    let empty = || std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if metadata.is_dir() && empty() {
        return Ok(None);
    }
    let mut gathered = BTreeMap::new();
    let stop = AtomicBool::new(false);
    let same = plan.items.iter().all(|item| {
        let path = if plan.single { out.to_owned() } else { out.join(&item.path) };
        // Without a digest, only what this pull itself put there, before it was ended.
        let known = item.expected != Expected::Unknown || staging.holds(&Key::of(item), &path);
        let known = known && std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let digest = known.then(|| digest_of(&path, item, &stop).ok()).flatten();
        let Some(sha256) = digest else { return false };
        let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let arrived = crate::transfer::Arrived { size, sha256, moved: 0 };
        gathered.insert(item.path.clone(), Gathered { arrived, findings: Vec::new() });
        true
    });
    let files = if plan.single { 1 } else { bms_bundle::scan::targets(out)?.len() };
    match same && files == plan.items.len() {
        true => Ok(Some(Pulled { unchanged: true, ..report(plan, out, &gathered) })),
        false if options.replace => Ok(None),
        false => Err(occupied(out)),
    }
}

fn report(plan: &Plan, out: &Path, gathered: &BTreeMap<String, Gathered>) -> Pulled {
    let file = |item: &crate::plan::Item| {
        let gathered = gathered.get(&item.path)?;
        Some(PulledFile {
            path: item.path.clone(),
            size: gathered.arrived.size,
            sha256: gathered.arrived.sha256.clone(),
            verified: item.expected.method(),
        })
    };
    let mut files: Vec<PulledFile> = plan.items.iter().filter_map(file).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Pulled {
        source: plan.source.clone(),
        revision: plan.revision.clone(),
        out: out.to_owned(),
        unchanged: false,
        bytes: files.iter().map(|file| file.size).sum(),
        bytes_moved: gathered.values().map(|gathered| gathered.arrived.moved).sum(),
        files,
        findings: gathered.values().flat_map(|gathered| gathered.findings.clone()).collect(),
    }
}
