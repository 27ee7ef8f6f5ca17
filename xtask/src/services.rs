//! `cargo xtask services`: real servers that tests talk to, started on this machine and stopped again.
//!
//! Each lies in a file of its own and says how it is started and what its clients need to know. A service runs on loopback, on
//! free ports, with its data in `target/services/NAME`, so that several checkouts do not meet.

pub(crate) mod place;
mod postgres;
mod s3;
mod slurm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::place::Place;
use crate::arguments::Arguments;
use crate::fixtures::Environment;
use crate::root;

/// A server that tests talk to.
struct Service {
    name: &'static str,
    /// Starts it in its folder, which is new and empty, waits until it answers, and gives back its processes and what its
    /// clients have to know.
    start: fn(&Place) -> Result<Started>,
}

/// A server that runs.
struct Started {
    /// Its processes, which end when they are told to.
    pids: Vec<u32>,
    /// Variables of the environment for its clients.
    environment: Vec<(String, String)>,
}

const SERVICES: &[Service] = &[postgres::SERVICE, s3::SERVICE, slurm::SERVICE];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let command = arguments.command();
    let mut names = Vec::new();
    while let Some(name) = arguments.command() {
        names.push(name);
    }
    let chosen = choose(&names)?;
    match command.as_deref() {
        Some("start") => {
            for service in chosen {
                start(service)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some("stop") => {
            for service in chosen {
                Place::of(service.name)?.stop()?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some("env") => {
            for service in chosen {
                let environment = Place::of(service.name)?.environment()?;
                let environment = environment.with_context(|| {
                    format!("{} does not run; `cargo xtask services start` starts it", service.name)
                })?;
                for (name, value) in environment {
                    println!("export {name}='{}'", value.replace('\'', r"'\''"));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("`cargo xtask services` takes start, stop or env, and the names of services"),
    }
}

/// Real servers of a benchmark's own, beside those of the tests; dropping it ends them.
pub(crate) struct Apart {
    folder: &'static str,
    environment: Vec<(String, String)>,
}

impl Apart {
    /// Starts every service with its data in a folder of this name, new and empty.
    pub(crate) fn start(folder: &'static str) -> Result<Apart> {
        let mut apart = Apart { folder, environment: Vec::new() };
        for service in SERVICES {
            let place = apart.place(service.name)?;
            place.stop()?;
            place.clear()?;
            let started = (service.start)(&place)?;
            place.keep(&started)?;
            apart.environment.extend(started.environment);
        }
        Ok(apart)
    }

    /// What clients have to know.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Stops PostgreSQL as `pg_ctl stop -m HOW` does and starts it again.
    pub(crate) fn restart_postgres(&self, how: &str) -> Result<()> {
        postgres::restart(&self.place(postgres::SERVICE.name)?, how)
    }

    fn place(&self, name: &str) -> Result<Place> {
        Place::of(&format!("{}/{name}", self.folder))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for service in SERVICES {
            if let Err(error) = self.place(service.name).and_then(|place| place.stop()) {
                eprintln!("{} did not end: {error:#}", service.name);
            }
        }
    }
}

/// Starts every service, or finds it running, and gives back what tests need to know.
pub(crate) fn provide() -> Result<Environment> {
    let mut environment = Environment::new();
    for service in SERVICES {
        let of = start(service).with_context(|| format!("failed to start {}", service.name))?;
        environment.extend(of.into_iter().map(|(name, value)| (name, PathBuf::from(value))));
    }
    Ok(environment)
}

/// Stops every service.
pub(crate) fn stop() -> Result<()> {
    SERVICES.iter().try_for_each(|service| Place::of(service.name)?.stop())
}

fn start(service: &Service) -> Result<Vec<(String, String)>> {
    let place = Place::of(service.name)?;
    if let Some(environment) = place.environment()? {
        eprintln!("{} runs already", service.name);
        return Ok(environment);
    }
    place.clear()?;
    let started = (service.start)(&place)?;
    place.keep(&started)?;
    eprintln!("{} runs, its data in {}", service.name, place.dir().display());
    Ok(started.environment)
}

fn choose(names: &[String]) -> Result<Vec<&'static Service>> {
    if let Some(unknown) = names.iter().find(|name| !SERVICES.iter().any(|service| service.name == **name)) {
        let known: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        bail!("there is no service `{unknown}`, only {}", known.join(", "));
    }
    let chosen = |service: &&Service| names.is_empty() || names.iter().any(|name| name == service.name);
    Ok(SERVICES.iter().filter(chosen).collect())
}

/// The folder of all services.
fn services_dir() -> Result<PathBuf> {
    let root = root().canonicalize().context("failed to find the checkout")?;
    Ok(root.join("target").join("services"))
}

#[cfg(test)]
mod tests;
