//! `cargo xtask fixtures`: real models and data for the tests, by exact version, outside the checkout.
//!
//! The table is `xtask/fixtures.toml`. Each fixture is fetched with its registry's ordinary client, checked by
//! digest, unpacked aside and renamed into place, so that a run can be stopped at any point and started again.

mod archive;
mod digest;
mod fetch;
mod store;
mod table;
mod venv;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::store::Store;
use self::table::{Client, Fixture};
use crate::arguments::Arguments;
use crate::debian::{self, Need};

/// Variables the tests read, each with its path.
pub(crate) type Environment = Vec<(String, PathBuf)>;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let (group, only) = (arguments.value("--group")?, arguments.values("--only")?);
    let list = arguments.flag("--list");
    arguments.finish()?;
    let chosen = choose(table::load()?, group.as_deref(), &only)?;
    let store = Store::open()?;
    if list {
        for fixture in &chosen {
            let state = if store.holds(fixture).is_ok() { "present" } else { "absent" };
            let source = format!("{} {}=={}", fixture.client.name(), fixture.package, fixture.version);
            println!("{:<22} {state:<8} {source:<50} {}", fixture.name, fixture.purpose);
        }
        return Ok(ExitCode::SUCCESS);
    }
    for (name, path) in bring(&store, &chosen)? {
        println!("export {name}={}", quoted(&path.to_string_lossy()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches a group and gives back the environment its tests read.
pub(crate) fn provide(group: &str) -> Result<Environment> {
    let chosen = choose(table::load()?, Some(group), &[])?;
    bring(&Store::open()?, &chosen)
}

fn choose(fixtures: Vec<Fixture>, group: Option<&str>, only: &[String]) -> Result<Vec<Fixture>> {
    if let Some(unknown) = only.iter().find(|name| !fixtures.iter().any(|fixture| fixture.name == **name)) {
        bail!("there is no fixture `{unknown}`; `cargo xtask fixtures --list` names them");
    }
    let wanted = |fixture: &Fixture| {
        group.is_none_or(|group| fixture.groups.iter().any(|of| of == group))
            && (only.is_empty() || only.contains(&fixture.name))
    };
    let chosen: Vec<Fixture> = fixtures.into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        bail!("no fixture is in the group `{}`", group.unwrap_or_default());
    }
    Ok(chosen)
}

/// Makes sure that every chosen fixture is there; what is missing for this system is said and left out.
fn bring(store: &Store, chosen: &[Fixture]) -> Result<Environment> {
    let (here, elsewhere): (Vec<&Fixture>, Vec<&Fixture>) =
        chosen.iter().partition(|fixture| fixture.fits_host());
    for fixture in elsewhere {
        let names: Vec<&str> = fixture.env.keys().map(String::as_str).collect();
        eprintln!("{}: there is none for this system; set {} yourself", fixture.name, names.join(", "));
    }
    let absent: Vec<&Fixture> =
        here.iter().copied().filter(|fixture| store.holds(fixture).is_err()).collect();
    let mut needs: Vec<&Need> = Vec::new();
    for fixture in &absent {
        match fixture.client {
            Client::Pip => needs.push(&debian::PIP),
            Client::Npm => needs.push(&debian::NPM),
            Client::Venv => needs.extend([&debian::PIP, &debian::VENV]),
        }
    }
    debian::provide(&needs)?;
    for fixture in absent {
        eprintln!("fetching {} ({} {})", fixture.name, fixture.package, fixture.version);
        let made = match fixture.client {
            Client::Pip | Client::Npm => fetch::fetch(store, fixture),
            Client::Venv => venv::make(store, fixture),
        };
        made.and_then(|()| store.holds(fixture))
            .with_context(|| format!("failed to fetch {}", fixture.name))?;
    }
    let of = |fixture: &&Fixture| {
        let dir = store.dir(fixture);
        fixture
            .env
            .clone()
            .into_iter()
            .map(move |(name, path)| (name, if path == "." { dir.clone() } else { dir.join(path) }))
    };
    Ok(here.iter().flat_map(of).collect())
}

/// The text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
