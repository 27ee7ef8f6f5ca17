//! `cargo xtask services`: real servers that the tests talk to, on this machine alone.

pub(crate) mod postgres;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::fixtures::{Environment, quoted};
use postgres::Postgres;

/// Servers that run as long as the value lives.
pub(crate) struct Services {
    postgres: Postgres,
}

impl Services {
    /// Starts all of them in a folder of this process.
    pub(crate) fn start() -> Result<Services> {
        let dir = std::env::temp_dir().join(format!("bms-services-{}", std::process::id()));
        Ok(Services { postgres: Postgres::start(&dir.join("postgres"))? })
    }

    /// Variables the tests read.
    pub(crate) fn environment(&self) -> Environment {
        vec![self.postgres.environment()]
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.postgres.stop_and_remove();
    }
}

/// Starts the servers and leaves them running, or stops them.
pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let stop = arguments.flag("--stop");
    arguments.finish()?;
    let dir = kept_folder().join("postgres");
    if stop {
        Postgres::at(&dir).stop_and_remove();
        return Ok(ExitCode::SUCCESS);
    }
    let (name, value) = Postgres::start(&dir)?.environment();
    println!("export {name}={}", quoted(&value.to_string_lossy()));
    Ok(ExitCode::SUCCESS)
}

/// Where servers lie that outlive this program: a short path, since sockets have names of a hundred characters at most.
fn kept_folder() -> PathBuf {
    std::env::temp_dir().join("bms-services")
}
