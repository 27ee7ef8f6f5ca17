//! Pulling from elsewhere, as a command line and the environment say it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bms_bundle::Policy;
use bms_sources::{Http, HttpOptions, Options, Patterns, Pulled, Source, Token, Url, Watch, pull};
use bms_wire::{Code, Error, Result, limits};
use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::home::Home;
use crate::output::{self, Output, Progress};

/// The hub that is meant when HF_ENDPOINT names none.
const HUB: &str = "https://huggingface.co";
/// Pause before the first second try.
const PAUSE: Duration = Duration::from_millis(500);

/// How something is fetched.
#[derive(Clone, Debug, Args)]
pub(crate) struct FetchOptions {
    /// Only files that match: `*` stands for any characters, `?` for one; can be given more than once.
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// No files that match; can be given more than once.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// SHA-256 that the one file must have.
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
    /// File with the source's token [default: of hf:// HF_TOKEN, or where `hf auth login` keeps it].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Bytes of all files together, at most.
    #[arg(long, value_name = "BYTES", default_value_t = limits::BUNDLE_BYTES_MAX)]
    max_bytes: u64,
    /// Files on their way at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: usize,
    /// Ask other machines without encryption, too.
    #[arg(long)]
    insecure_http: bool,
    /// Certificate authority of the source, PEM [default: those the system trusts].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust policy that says from which severity on a file is denied [default: the home folder's].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Replace what is at the target.
    #[arg(long)]
    replace: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        FetchOptions {
            include: Vec::new(),
            exclude: Vec::new(),
            sha256: None,
            token_file: None,
            max_bytes: limits::BUNDLE_BYTES_MAX,
            jobs: 4,
            insecure_http: false,
            ca: None,
            policy: None,
            replace: false,
        }
    }
}

impl FetchOptions {
    fn options(&self, source: &Source, home: &Home) -> Result<Options> {
        let hub = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
        let hub = hub.trim_end_matches('/').parse::<Url>().map_err(|e| {
            Error::new(Code::InvalidRequest, format!("HF_ENDPOINT `{hub}` is no address: {e}"))
                .hint("Give it as https://HOST or http://127.0.0.1:PORT.")
        })?;
        let token = match (&self.token_file, source) {
            (Some(path), _) => Some(token_in(path)?),
            (None, Source::Hub { .. }) => hub_token()?,
            (None, _) => None,
        };
        let policy = match &self.policy {
            Some(path) => Policy::load(path)?,
            None => home.policy()?,
        };
        if self.jobs == 0 || limits::PULL_JOBS_MAX < self.jobs {
            let what = format!("--jobs takes 1 to {}", limits::PULL_JOBS_MAX);
            return Err(Error::new(Code::InvalidRequest, what));
        }
        Ok(Options {
            hub,
            token,
            hub_cache: hub_cache(),
            patterns: Patterns::new(self.include.clone(), self.exclude.clone())?,
            sha256: self.sha256.clone(),
            bytes_max: self.max_bytes,
            jobs: self.jobs,
            deny: policy.deny,
            replace: self.replace,
            pause: PAUSE,
        })
    }
}

/// Pulls `source` to `out`, with progress, and says what the scan found that is not denied.
pub(crate) fn fetch(
    source: &Source,
    out: &Path,
    fetch: &FetchOptions,
    home: &Home,
    output: &Output,
) -> Result<Pulled> {
    let options = fetch.options(source, home)?;
    let http = Http::new(&HttpOptions {
        authority: fetch.ca.clone(),
        proxy: ureq::Proxy::try_from_env(),
        plain: fetch.insecure_http,
    })?;
    let watching = Watching { progress: output.progress("pulling", 0), output: *output };
    let pulled = pull(source, out, &http, &options, &watching);
    watching.progress.done();
    let pulled = pulled?;
    for finding in &pulled.findings {
        output.warning(finding);
    }
    Ok(pulled)
}

/// The model that a command line names: a path, or a source that is pulled to the home folder first. What was pulled before
/// serves again when the source cannot be reached.
pub(crate) fn local(model: &Path, home: &Home, output: &Output) -> Result<PathBuf> {
    let Some(text) = model.to_str().filter(|text| Source::is_source(text)) else {
        return Ok(model.to_owned());
    };
    let source = Source::parse(text)?;
    let out = home.dir()?.join("sources").join(key(&source.to_string())).join(source.default_name());
    let options = FetchOptions { replace: true, ..FetchOptions::default() };
    match fetch(&source, &out, &options, home, output) {
        Ok(pulled) => Ok(model_in(&pulled.out)),
        Err(error) if is_absence(&error) && out.exists() => {
            output.warning(format_args!("{error}; what was pulled before is used"));
            Ok(model_in(&out))
        }
        Err(error) => Err(error),
    }
}

/// Whether the source is away, rather than another than it was.
fn is_absence(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded | Code::QueueFull)
}

/// What of a folder is the model: the folder, or the one GGUF file in it.
pub(crate) fn model_in(path: &Path) -> PathBuf {
    if !path.is_dir() || path.join("config.json").is_file() || path.join(bms_bundle::MANIFEST).is_file() {
        return path.to_owned();
    }
    let entries = std::fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.path()));
    let files: Vec<PathBuf> = entries.map(Iterator::collect).unwrap_or_default();
    let is_model = |file: &&PathBuf| file.extension().is_some_and(|end| end == "gguf" || end == "onnx");
    match files.iter().filter(is_model).collect::<Vec<_>>().as_slice() {
        [one] => (*one).clone(),
        _ => path.to_owned(),
    }
}

/// A name for what is kept of something with this name.
pub(crate) fn key(name: &str) -> String {
    Sha256::digest(name).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `$HF_HOME`, where the hub's own client keeps its things.
fn hub_home() -> Option<PathBuf> {
    let cache = || {
        variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache")))
    };
    variable("HF_HOME").map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")))
}

fn hub_cache() -> Option<PathBuf> {
    variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(hub_home()?.join("hub")))
}

/// The hub's token, as its own client finds it.
fn hub_token() -> Result<Option<Token>> {
    if let Some(token) = variable("HF_TOKEN") {
        return Token::new(&token).map(Some);
    }
    let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(hub_home()?.join("token")));
    path.filter(|path| path.is_file()).map(|path| token_in(&path)).transpose()
}

fn token_in(path: &Path) -> Result<Token> {
    let text = crate::secrets::read(path)?;
    let text = std::str::from_utf8(&text).unwrap_or_default();
    Token::new(text).map_err(|e| e.while_doing(format_args!("read `{}`", path.display())))
}

/// Tells a person or a machine how it goes.
#[derive(Debug)]
struct Watching {
    progress: Progress,
    output: Output,
}

impl Watch for Watching {
    fn planned(&self, files: usize, bytes: u64) {
        self.progress.span(bytes);
        self.progress.note(&format!("pulling {}", output::files(files)));
        let text = format!("{}, {}", output::files(files), output::bytes(bytes));
        self.output.event("planned", text, json!({ "files": files, "bytes": bytes }));
    }

    fn at(&self, bytes: u64) {
        self.progress.at(bytes);
    }

    fn note(&self, text: &str) {
        self.output.event("note", text, json!({}));
    }
}
