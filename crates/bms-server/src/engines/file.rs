//! The file in which engines are declared, read strictly: what is not understood is an error.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bms_registry::check_name;
use bms_wire::{Code, Error, Result, limits, tls};
use serde::Deserialize;
use url::Url;

use super::{Engine, Protocol, Runs, Value};

/// The one schema there is.
const SCHEMA: u32 = 1;
/// What may stand in braces in a command or a variable.
const PLACEHOLDERS: [&str; 7] = ["name", "version", "folder", "weights", "socket", "port", "threads"];
/// Of these, what there is only with a version of the registry.
const OF_A_BUNDLE: [&str; 2] = ["folder", "weights"];
/// What an engine that speaks OpenAI's protocol is asked for unless the file says otherwise.
const USUAL_OPERATIONS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
/// What else the gateway can pass on, when an engine has it.
const OTHER_OPERATIONS: [&str; 5] =
    ["/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/tokenize", "/detokenize"];
/// Seconds of silence without which nothing is decided: probes are a second apart.
const SILENT_SECONDS_MIN: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    #[serde(default)]
    engines: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    protocol: Protocol,
    command: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, Value>,
    threads: Option<usize>,
    url: Option<String>,
    ca_file: Option<PathBuf>,
    serves: Option<String>,
    model: Option<String>,
    model_version: Option<String>,
    health: Option<Vec<String>>,
    operations: Option<Vec<String>>,
    start_seconds: Option<u64>,
    silent_seconds: Option<u64>,
    stalled_seconds: Option<u64>,
    concurrency: Option<usize>,
    key_file: Option<PathBuf>,
}

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Arc<Engine>>> {
    let document: Document = toml::from_str(text).map_err(|e| invalid(e.to_string()).because(e))?;
    if document.schema != SCHEMA {
        return Err(invalid(format!("schema {} is not supported, only {SCHEMA}", document.schema)));
    }
    if limits::ENGINES_MAX < document.engines.len() {
        let what = format!("{} engines, over the limit of {}", document.engines.len(), limits::ENGINES_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    let mut engines: BTreeMap<String, Arc<Engine>> = BTreeMap::new();
    for (name, entry) in document.engines {
        check_name("name of an engine", &name)?;
        let engine = engine(&name, entry).map_err(|e| e.while_doing(format_args!("read engine `{name}`")))?;
        if let Some(other) = engines.values().find(|e| e.serves.is_some() && e.serves == engine.serves) {
            let served = engine.serves.as_deref().unwrap_or_default();
            return Err(invalid(format!("both `{}` and `{name}` serve `{served}`", other.name)));
        }
        engines.insert(name, Arc::new(engine));
    }
    Ok(engines)
}

fn engine(name: &str, entry: Entry) -> Result<Engine> {
    if let Some(serves) = &entry.serves {
        check_name("model name", serves)?;
    }
    let runs = runs(&entry)?;
    let is_here = matches!(runs, Runs::Here { .. });
    let usual_health = match entry.protocol {
        Protocol::OpenAi => "/health",
        Protocol::Oip => "/v2/health/ready",
    };
    let health = entry.health.unwrap_or_else(|| vec![usual_health.to_owned()]);
    if health.is_empty() || limits::ENGINE_ARGUMENTS_MAX < health.len() || !health.iter().all(is_path) {
        return Err(invalid("`health` names at least one path, each beginning with `/`"));
    }
    let seconds = |field: &str, given: Option<u64>, usual: u64, least: u64, most: u64| {
        let seconds = given.unwrap_or(usual);
        match (least..=most).contains(&seconds) {
            true => Ok(Duration::from_secs(seconds)),
            false => Err(invalid(format!("`{field}` is {least} to {most}, not {seconds}"))),
        }
    };
    let (start, silent) = (limits::ENGINE_START_SECONDS_MAX, limits::ENGINE_SILENT_SECONDS_MAX);
    let stalled = limits::ENGINE_STALLED_SECONDS_MAX;
    let usual_silence = if is_here { 10 } else { 3 };
    let start_within = seconds("start_seconds", entry.start_seconds, 300, 1, start)?;
    let least = SILENT_SECONDS_MIN;
    let silent_after = seconds("silent_seconds", entry.silent_seconds, usual_silence, least, silent)?;
    let stalled_after = seconds("stalled_seconds", entry.stalled_seconds, 300, 1, stalled)?;
    if stalled_after < silent_after {
        return Err(invalid("`stalled_seconds` is at least `silent_seconds`"));
    }
    let concurrency = entry.concurrency.unwrap_or(crate::slots::CONNECTIONS_MAX);
    if !(1..=limits::ENGINE_REQUESTS_MAX).contains(&concurrency) {
        return Err(invalid(format!("`concurrency` is 1 to {}", limits::ENGINE_REQUESTS_MAX)));
    }
    let model = entry.model.unwrap_or_else(|| "{name}".to_owned());
    let parts = [Some(&model), entry.model_version.as_ref()];
    let is_segment = |name: &String| {
        let name = name.replace("{name}", "m");
        (1..=limits::ENGINE_ARGUMENT_BYTES_MAX).contains(&name.len()) && !name.contains(['{', '}'])
    };
    if !parts.into_iter().flatten().all(is_segment) {
        return Err(invalid(
            "`model` and `model_version` are not empty, and of placeholders take {name} only",
        ));
    }
    if entry.protocol == Protocol::OpenAi && entry.model_version.is_some() {
        return Err(invalid("`model_version` is for `protocol = \"oip\"`"));
    }
    Ok(Engine {
        name: name.to_owned(),
        operations: operations(entry.protocol, entry.operations)?,
        protocol: entry.protocol,
        runs,
        serves: entry.serves,
        model,
        model_version: entry.model_version,
        health,
        start_within,
        silent_after,
        stalled_after,
        concurrency,
        key_file: entry.key_file,
    })
}

fn runs(entry: &Entry) -> Result<Runs> {
    match (&entry.command, &entry.url) {
        (Some(command), None) => here(entry, command),
        (None, Some(url)) => {
            let parsed = Url::parse(url).map_err(|e| invalid(format!("`{url}` is no URL: {e}")).because(e));
            elsewhere(entry, &parsed?)
        }
        (Some(_), Some(_)) => {
            Err(invalid("both `command` and `url`: it is started here, or it runs already"))
        }
        (None, None) => Err(invalid("neither `command` nor `url`: say how to start it, or where it runs")),
    }
}

fn here(entry: &Entry, command: &[String]) -> Result<Runs> {
    if entry.ca_file.is_some() {
        return Err(invalid("`ca_file` is for a `url` with https"));
    }
    let environment: Vec<_> = entry.environment.clone().into_iter().collect();
    let most = limits::ENGINE_ARGUMENTS_MAX;
    if command.is_empty() || most < command.len() || most < environment.len() {
        return Err(invalid(format!("`command` has a program, it and `environment` at most {most} entries")));
    }
    if let Some((name, _)) = environment.iter().find(|(name, _)| !is_variable(name)) {
        return Err(invalid(format!("`{name}` cannot be the name of a variable")));
    }
    let values = environment.iter().filter_map(|(_, value)| value.text());
    let texts: Vec<&str> = command.iter().map(String::as_str).chain(values).collect();
    for text in &texts {
        if limits::ENGINE_ARGUMENT_BYTES_MAX < text.len() || text.contains('\0') {
            let most = limits::ENGINE_ARGUMENT_BYTES_MAX;
            return Err(invalid(format!("an argument or value is over {most} bytes, or holds a zero byte")));
        }
        check_placeholders(text, entry.serves.is_some())?;
    }
    let mentions = |placeholder: &str| texts.iter().any(|text| text.contains(placeholder));
    if mentions("{socket}") == mentions("{port}") {
        return Err(invalid("the engine has to be told where to listen, by one of {socket} and {port}")
            .hint(
                "{socket} is the better one where the engine can: no other user of the machine gets there.",
            ));
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = entry.threads.unwrap_or(processors);
    if !(1..=1024).contains(&threads) {
        return Err(invalid("`threads` is 1 to 1024"));
    }
    Ok(Runs::Here { command: command.to_vec(), environment, threads })
}

fn elsewhere(entry: &Entry, url: &Url) -> Result<Runs> {
    if !entry.environment.is_empty() || entry.threads.is_some() || entry.start_seconds.is_some() {
        return Err(invalid(
            "`environment`, `threads` and `start_seconds` are for an engine with a `command`",
        ));
    }
    if entry.serves.is_none() {
        return Err(invalid("an engine at a `url` runs a model of its own")
            .hint("Say under which name: serves = \"NAME\". Versions of the registry need a `command`."));
    }
    let is_plain = url.username().is_empty() && url.password().is_none();
    let is_bare = is_plain && url.query().is_none() && url.fragment().is_none();
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() || !is_bare {
        return Err(invalid(
            "`url` is http:// or https:// with a host, and without user, query and fragment",
        )
        .hint("A key goes into a file: key_file = \"FILE\"."));
    }
    if entry.ca_file.is_some() && url.scheme() != "https" {
        return Err(invalid("`ca_file` is for a `url` with https"));
    }
    if let Some(file) = &entry.ca_file {
        // What is missing shall not be noticed when a slot starts.
        tls::authorities(Some(file))?;
    }
    Ok(Runs::Elsewhere { url: url.clone(), authorities: entry.ca_file.clone() })
}

fn operations(protocol: Protocol, given: Option<Vec<String>>) -> Result<Vec<String>> {
    match (protocol, given) {
        (Protocol::Oip, None) => Ok(Vec::new()),
        (Protocol::Oip, Some(_)) => Err(invalid("`operations` is for `protocol = \"openai\"`")),
        (Protocol::OpenAi, None) => Ok(USUAL_OPERATIONS.map(str::to_owned).to_vec()),
        (Protocol::OpenAi, Some(given)) => {
            let known = || USUAL_OPERATIONS.into_iter().chain(OTHER_OPERATIONS);
            match given.iter().find(|asked| !known().any(|known| known == *asked)) {
                None if given.is_empty() => Err(invalid("`operations` is empty: leave it out")),
                None => Ok(given),
                Some(unknown) => {
                    let what = format!("`operations` has `{unknown}`, which the gateway does not pass on");
                    Err(invalid(what)
                        .hint(format!("It passes on {}.", known().collect::<Vec<_>>().join(", "))))
                }
            }
        }
    }
}

/// Braces that hold one word are a placeholder, and it has to be known. Others mean themselves, as in JSON.
fn check_placeholders(text: &str, has_no_bundle: bool) -> Result<()> {
    for (at, _) in text.match_indices('{') {
        let Some((word, _)) = text[at + 1..].split_once('}') else { continue };
        if word.is_empty() || !word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_') {
            continue;
        }
        if !PLACEHOLDERS.contains(&word) {
            let all = PLACEHOLDERS.map(|p| format!("{{{p}}}")).join(", ");
            return Err(invalid(format!("`{{{word}}}` stands for nothing")).hint(format!("There are {all}.")));
        }
        if has_no_bundle && OF_A_BUNDLE.contains(&word) {
            return Err(invalid(format!(
                "`{{{word}}}` is of a version, and an engine that `serves` has none"
            ))
            .hint("Leave `serves` out, and deploy a model with this engine."));
        }
    }
    Ok(())
}

#[expect(clippy::ptr_arg, reason = "as iterators over strings want it")]
fn is_path(path: &String) -> bool {
    path.starts_with('/')
        && path.len() <= limits::ENGINE_ARGUMENT_BYTES_MAX
        && path.parse::<http::Uri>().is_ok()
}

fn is_variable(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !name.is_empty() && name.len() <= limits::ENGINE_ARGUMENT_BYTES_MAX && name.bytes().all(fits)
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, what.into())
}
