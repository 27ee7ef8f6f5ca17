//! External engines: programs and servers of other projects that run models, as this server's operator declares them.
//!
//! An engine is declared in a file on the server, never through the API: its command runs with the server's rights.
//! Either it is a command, started for each version that is deployed with it once the version has passed the gate; or
//! it runs already, at a URL, and serves a model of its own under a name, which no gate has seen.

mod file;
pub(crate) mod secret;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use url::Url;

pub(crate) use secret::Value;

/// The engines a server knows. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Engines(Arc<BTreeMap<String, Arc<Engine>>>);

/// Which protocol an engine speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// OpenAI's, for language models.
    OpenAi,
    /// The Open Inference Protocol over REST.
    Oip,
}

/// One engine.
#[derive(Debug)]
pub(crate) struct Engine {
    /// What deployments call it.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) runs: Runs,
    /// The name of a model it serves that is no version of the registry.
    pub(crate) serves: Option<String>,
    /// What it calls the model; may hold placeholders.
    model: String,
    /// What it calls the version, when its paths name one.
    pub(crate) model_version: Option<String>,
    /// Where its health is asked: it is well when all answer with status 200.
    pub(crate) health: Vec<String>,
    /// The operations of OpenAI's protocol, and beside it, that it is asked for.
    pub(crate) operations: Vec<String>,
    /// How long it may take until it is ready.
    pub(crate) start_within: Duration,
    /// For how long nothing may be heard of it.
    pub(crate) silent_after: Duration,
    /// For how long requests may wait without an answer to any.
    pub(crate) stalled_after: Duration,
    /// Requests it works on at a time.
    pub(crate) concurrency: usize,
    /// The file of the key it is sent with each request.
    pub(crate) key_file: Option<PathBuf>,
}

/// Where an engine runs.
#[derive(Debug)]
pub(crate) enum Runs {
    /// As a process of this machine.
    Here {
        /// Program and arguments, with placeholders.
        command: Vec<String>,
        /// Variables it gets besides those every slot gets; values may hold placeholders.
        environment: Vec<(String, Value)>,
        /// Threads it may use.
        threads: usize,
    },
    /// Somewhere, started by somebody else.
    Elsewhere {
        /// Where; its path is in front of all paths.
        url: Url,
        /// The certificate authorities that may vouch for it, those of the system without it.
        authorities: Option<PathBuf>,
    },
}

/// What a model's slots run on.
#[derive(Clone, Debug)]
pub(crate) enum Runner {
    /// This program.
    Own,
    /// An engine.
    Engine(Arc<Engine>),
    /// An engine this server does not know.
    Missing(String),
}

impl Runner {
    /// The engine's name; `None` for this program.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Runner::Own => None,
            Runner::Engine(engine) => Some(&engine.name),
            Runner::Missing(name) => Some(name),
        }
    }

    /// The engine, when there is one.
    pub(crate) fn engine(&self) -> Option<&Arc<Engine>> {
        match self {
            Runner::Engine(engine) => Some(engine),
            Runner::Own | Runner::Missing(_) => None,
        }
    }
}

impl Engines {
    /// Reads a file of engines.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Io`], or [`Code::InvalidRequest`] with what is wrong and where.
    pub fn load(path: &Path) -> Result<Engines> {
        let doing = |e: Error| e.while_doing(format_args!("read the engines `{}`", path.display()));
        let text = secret::read_text(path).map_err(doing)?;
        Engines::from_toml(&text).map_err(doing)
    }

    /// Reads engines from TOML.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`].
    pub fn from_toml(text: &str) -> Result<Engines> {
        file::parse(text).map(|engines| Engines(Arc::new(engines)))
    }

    /// What runs the versions of a deployment that names this engine, or none.
    pub(crate) fn runner(&self, name: Option<&str>) -> Runner {
        match name {
            None => Runner::Own,
            Some(name) => match self.0.get(name) {
                // One that serves a model of its own cannot be given another.
                Some(engine) if engine.serves.is_none() => Runner::Engine(engine.clone()),
                _ => Runner::Missing(name.to_owned()),
            },
        }
    }

    /// Makes sure that deployments can name this engine.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] that says which they can.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        match self.runner(Some(name)) {
            Runner::Missing(_) => {
                let usable = self.0.values().filter(|engine| engine.serves.is_none());
                let names: Vec<_> = usable.map(|engine| engine.name.as_str()).collect();
                let hint = match names.is_empty() {
                    true => "Its operator declares engines in a file: `bms up --engines FILE`.".to_owned(),
                    false => format!("There are: {}.", names.join(", ")),
                };
                let what = format!("this server has no engine `{name}` that runs versions");
                Err(Error::new(Code::InvalidRequest, what).hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// The engine that serves a model of this name without a version of the registry.
    pub(crate) fn serving(&self, model: &str) -> Option<&Arc<Engine>> {
        self.serving_all().find(|engine| engine.serves.as_deref() == Some(model))
    }

    /// All engines that serve models of their own.
    pub(crate) fn serving_all(&self) -> impl Iterator<Item = &Arc<Engine>> {
        self.0.values().filter(|engine| engine.serves.is_some())
    }
}

/// What placeholders stand for.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    /// What requests call the model.
    pub(crate) name: &'a str,
    pub(crate) version: u64,
    /// The folder of the verified bundle, and its file of weights.
    pub(crate) bundle: Option<(&'a Path, &'a Path)>,
    /// Where it shall listen.
    pub(crate) socket: &'a Path,
    pub(crate) port: u16,
    pub(crate) threads: usize,
}

impl Engine {
    /// Whether it listens on a Unix socket rather than a port.
    pub(crate) fn uses_socket(&self) -> bool {
        match &self.runs {
            Runs::Here { command, environment, .. } => {
                let values = environment.iter().filter_map(|(_, value)| value.text());
                command.iter().map(String::as_str).chain(values).any(|text| text.contains("{socket}"))
            }
            Runs::Elsewhere { .. } => false,
        }
    }

    /// What it calls the model that requests call `name`.
    pub(crate) fn model_of(&self, name: &str) -> String {
        self.model.replace("{name}", name)
    }

    /// Where it runs, for people.
    pub(crate) fn whereabouts(&self) -> String {
        match &self.runs {
            Runs::Here { command, .. } => command.first().cloned().unwrap_or_default(),
            Runs::Elsewhere { url, .. } => url.to_string(),
        }
    }
}

impl Places<'_> {
    /// A text with its placeholders filled in.
    pub(crate) fn fill(&self, text: &str) -> OsString {
        let mut out = OsString::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once('{') {
            out.push(before);
            let Some((placeholder, after)) = from.split_once('}') else {
                rest = &rest[before.len()..];
                break;
            };
            match (placeholder, self.bundle) {
                ("name", _) => out.push(self.name),
                ("version", _) => out.push(self.version.to_string()),
                ("folder", Some((folder, _))) => out.push(folder),
                ("weights", Some((_, weights))) => out.push(weights),
                ("socket", _) => out.push(self.socket),
                ("port", _) => out.push(self.port.to_string()),
                ("threads", _) => out.push(self.threads.to_string()),
                // Nothing else is let in by the file's checks but braces that mean themselves.
                _ => {
                    out.push("{");
                    rest = from;
                    continue;
                }
            }
            rest = after;
        }
        out.push(rest);
        out
    }
}

#[cfg(test)]
mod tests;
