//! A real PostgreSQL server in a folder of its own, reached by a Unix socket only.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::debian::{self, Need};
use crate::process;

const SERVER: Need = Need {
    purpose: "the tests of the registry on PostgreSQL",
    probe: &["sh", "-c", "test -x \"$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/initdb\""],
    packages: &["postgresql"],
};

/// What is said to the server. Nothing it holds is worth a flush; connections are plenty, since tests run side by side.
const OPTIONS: &str = "-c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=400";

/// A server, running or not.
pub(crate) struct Postgres {
    dir: PathBuf,
}

impl Postgres {
    /// The one whose data lie in `dir`, as it stands.
    pub(crate) fn at(dir: &Path) -> Postgres {
        Postgres { dir: dir.to_owned() }
    }

    /// Makes a database cluster in `dir` when there is none, and starts its server when it does not run.
    pub(crate) fn start(dir: &Path) -> Result<Postgres> {
        debian::provide(&[&SERVER])?;
        std::fs::create_dir_all(dir).with_context(|| format!("failed to make `{}`", dir.display()))?;
        let server = Postgres::at(dir);
        if debian::is_root() {
            // The server refuses to run as root.
            process::run(Command::new("chown").arg("postgres:").arg(dir))?;
        }
        if !server.data().join("PG_VERSION").exists() {
            let mut initdb = server.program("initdb")?;
            initdb.arg("-D").arg(server.data());
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
        }
        let mut status = server.program("pg_ctl")?;
        if process::output(status.arg("-D").arg(server.data()).arg("status")).is_err() {
            let options = format!("{OPTIONS} -k {}", dir.display());
            let mut start = server.program("pg_ctl")?;
            start.arg("-D").arg(server.data()).arg("-l").arg(dir.join("log"));
            // The server keeps what it inherits open: a pipe would never end.
            start
                .args(["-w", "-t", "60", "-o", &options, "start"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            process::run(&mut start).with_context(|| format!("`{}` says why", dir.join("log").display()))?;
        }
        Ok(server)
    }

    /// The variable in which the tests look for it.
    pub(crate) fn environment(&self) -> (String, PathBuf) {
        let url = format!("postgres://postgres@localhost/postgres?host={}", self.dir.display());
        ("BMS_POSTGRES".to_owned(), url.into())
    }

    /// Ends the server and removes its folder; one that does not run is fine.
    pub(crate) fn stop_and_remove(&self) {
        if let Ok(mut stop) = self.program("pg_ctl") {
            let stopped =
                process::output(stop.arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]));
            if let (Err(error), true) = (stopped, self.dir.join("data/postmaster.pid").exists()) {
                eprintln!("PostgreSQL was not stopped: {error:#}");
                return;
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && self.dir.exists()
        {
            eprintln!("failed to remove `{}`: {error}", self.dir.display());
        }
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
