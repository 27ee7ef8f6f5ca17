//! A real PostgreSQL server in a folder of its own, reached by a Unix socket only.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use sha2::{Digest as _, Sha256};

use super::{Place, Service, Started};
use crate::debian::{self, Need};
use crate::process;

pub(super) const SERVICE: Service = Service { name: "postgres", start };

const SERVER: Need = Need {
    purpose: "the tests of the registry on PostgreSQL",
    probe: &["sh", "-c", "test -x \"$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/initdb\""],
    packages: &["postgresql"],
};

/// What is said to the server. Nothing it holds is worth a flush; connections are plenty, since tests run side by side.
const OPTIONS: &str = "-c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=400";

fn start(place: &Place) -> Result<Started> {
    debian::provide(&[&SERVER])?;
    let server = Postgres { dir: folder(place) };
    server.initialise()?;
    server.started()
}

/// Stops it in one of the ways of `pg_ctl`, starts it again and waits until it answers.
pub(super) fn restart(place: &Place, how: &str) -> Result<()> {
    let server = Postgres { dir: folder(place) };
    let mut stop = server.program("pg_ctl")?;
    stop.arg("-D").arg(server.data()).args(["-w", "-m", how, "stop"]).stdout(Stdio::null());
    process::run(&mut stop)?;
    place.keep(&server.started()?)
}

/// Where the cluster and its socket lie: not in the checkout, which the server's user may not enter, and whose path may be
/// longer than a socket's name can be.
fn folder(place: &Place) -> PathBuf {
    let digest = Sha256::digest(place.dir().as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("bms-postgres-{}", &hex::encode(digest)[..12]))
}

struct Postgres {
    dir: PathBuf,
}

impl Postgres {
    /// Makes a new database cluster.
    fn initialise(&self) -> Result<()> {
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && self.dir.exists()
        {
            return Err(error).with_context(|| format!("failed to remove `{}`", self.dir.display()));
        }
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("failed to make `{}`", self.dir.display()))?;
        if debian::is_root() {
            // The server refuses to run as root.
            process::run(Command::new("chown").arg("postgres:").arg(&self.dir))?;
        }
        let mut initdb = self.program("initdb")?;
        initdb.arg("-D").arg(self.data());
        process::output(initdb.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ]))?;
        Ok(())
    }

    /// Starts the server; what is to be noted of it.
    fn started(&self) -> Result<Started> {
        let url = format!("postgres://postgres@localhost/postgres?host={}", self.dir.display());
        Ok(Started { pids: vec![self.start()?], environment: vec![("BMS_POSTGRES".to_owned(), url)] })
    }

    /// Starts the server and gives its process.
    fn start(&self) -> Result<u32> {
        let options = format!("{OPTIONS} -k {}", self.dir.display());
        let log = self.dir.join("log");
        let mut start = self.program("pg_ctl")?;
        start.arg("-D").arg(self.data()).arg("-l").arg(&log);
        // The server keeps what it inherits open: a pipe would never end.
        start.args(["-w", "-t", "60", "-o", &options, "start"]).stdout(Stdio::null()).stderr(Stdio::null());
        process::run(&mut start).with_context(|| format!("`{}` says why", log.display()))?;
        let note = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        note.lines()
            .next()
            .and_then(|pid| pid.trim().parse().ok())
            .context("PostgreSQL did not say its process")
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// One of the server's programs, as the user `postgres` when this one is root.
    fn program(&self, name: &str) -> Result<Command> {
        let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .context("PostgreSQL is not installed where Debian puts it")?
            .flatten()
            .map(|version| version.path().join("bin").join(name))
            .filter(|program| program.exists())
            .collect();
        found.sort();
        let program = found.pop().with_context(|| format!("PostgreSQL has no program `{name}`"))?;
        let mut command = match debian::is_root() {
            true => {
                let mut as_user = Command::new("setpriv");
                as_user.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
                as_user
            }
            false => Command::new(program),
        };
        // Its working folder must be one it may look into.
        command.current_dir("/").env("HOME", &self.dir);
        Ok(command)
    }
}
