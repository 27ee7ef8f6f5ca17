//! `bms scrub` and `bms gc`: looking after a store.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bms_registry::{DatabaseUrl, Health, Registry};
use bms_store::{GcOptions, Location, Replica, ScrubOptions, Store};
use bms_wire::{Code, Error, Result};
use clap::Args;

use crate::home::Home;
use crate::output::{self, Output};

/// Which registry's store.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreOptions {
    /// Where the server's registry lies [default: the home folder's `server`].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where its files lie: a folder, file:///folder, or s3://bucket/prefix [default: `store` in the registry's folder].
    #[arg(long, env = "BMS_STORE", value_name = "URL")]
    pub(crate) store: Option<String>,
    /// The PostgreSQL database of the server's names and facts, as `bms up` was told [default: an SQLite file among the data].
    #[arg(long, env = "BMS_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
}

impl StoreOptions {
    pub(crate) fn location(&self) -> Result<Option<Location>> {
        self.store.as_deref().map(Location::parse).transpose()
    }

    async fn registry(&self, home: &Home) -> Result<Registry> {
        let dir = match &self.data {
            Some(dir) => dir.clone(),
            None => home.server_dir()?,
        };
        if !dir.is_dir() {
            let what = format!("there is no registry in `{}`", dir.display());
            return Err(Error::new(Code::NotFound, what).hint("Name the server's folder with --data."));
        }
        let database: Option<DatabaseUrl> = self.database.as_deref().map(str::parse).transpose()?;
        Registry::open_with(&dir, self.location()?.as_ref(), database.as_ref()).await
    }
}

/// Another store to repair from.
pub(crate) async fn replica(url: &str) -> Result<Arc<dyn Replica>> {
    let location = Location::parse(url)?;
    if let Location::Folder(path) = &location
        && !path.join("format").is_file()
    {
        let what = format!("there is no store in `{}`", path.display());
        return Err(Error::new(Code::NotFound, what)
            .hint("A server's store is the folder `store` in its data folder."));
    }
    Ok(Arc::new(Store::open(&location).await?))
}

/// Options of `bms scrub`.
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    #[command(flatten)]
    store: StoreOptions,
    /// Another store from which to repair what rotted: a folder, file:///folder, or s3://bucket/prefix.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Megabytes read in a second at most.
    #[arg(long, value_name = "MB")]
    rate: Option<u64>,
    /// Begin anew, even if an earlier scrub was interrupted.
    #[arg(long)]
    afresh: bool,
}

impl Scrub {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let report = block_on(async {
            let replica = match &self.from {
                Some(url) => Some(replica(url).await?),
                None => None,
            };
            let options = ScrubOptions {
                bytes_per_second: self.rate.map(|rate| rate.saturating_mul(1_000_000)),
                bytes_max: None,
                afresh: self.afresh,
                replica,
            };
            // A store without a registry beside it is only read and repaired; otherwise the audit log learns of it.
            match (&self.store.data, self.store.location()?) {
                (None, Some(location)) => Store::open(&location).await?.scrub(&options).await,
                _ => self.store.registry(home).await?.scrub(&options).await,
            }
        })?;
        output.result(words(&report), &report);
        match report.healthy {
            true => Ok(()),
            false => Err(Error::new(
                Code::Tampered,
                format!(
                    "{} of {} problems in the store could not be repaired; {} files cannot be read",
                    report.problems_found - report.problems_repaired,
                    report.problems_found,
                    report.files_damaged.len()
                ),
            )
            .hint("Name a store that has whole copies with --from, or push the models again.")),
        }
    }
}

fn words(report: &Health) -> String {
    let mut words = format!(
        "{} in {} packs and {} chunks were read, {} files were looked at: ",
        output::bytes(report.bytes_read),
        report.packs_read,
        report.chunks_read,
        report.files
    );
    words.push_str(match (report.problems_found, report.healthy) {
        (0, true) => "all is as it was stored",
        (_, true) => "what rotted was repaired",
        _ => "not all is as it was stored",
    });
    for problem in &report.problems {
        let chunk = problem.chunk.map_or(String::new(), |chunk| format!(" ({chunk})"));
        let repaired = if problem.repaired { "repaired" } else { "not repaired" };
        words.push_str(&format!("\n  {}: {}{chunk}, {repaired}", problem.object, problem.problem));
    }
    for file in &report.files_damaged {
        words.push_str(&format!("\n  the file {file} cannot be read"));
    }
    words
}

/// Options of `bms gc`.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    #[command(flatten)]
    store: StoreOptions,
    /// Hours that files and chunks stay which no version needs: they may be on their way to one.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    grace: u64,
    /// Seconds to wait for those who push right now.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

impl Gc {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let options = GcOptions {
            grace: Duration::from_secs(self.grace.saturating_mul(3600)),
            wait: Duration::from_secs(self.wait),
            ..GcOptions::default()
        };
        let report = block_on(async { self.store.registry(home).await?.gc(&options).await })?;
        let mut words = format!(
            "{} in {} packs went, {} were written anew; {} files stay",
            output::bytes(report.bytes_removed),
            report.packs_removed,
            output::bytes(report.bytes_written),
            report.files_kept
        );
        if !report.complete {
            words.push_str("; somebody is pushing, so the rest goes with the next collection");
        }
        output.result(words, &report);
        Ok(())
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|e| Error::new(Code::Io, format!("failed to start the threads: {e}")).because(e))?;
    runtime.block_on(work)
}
