//! Our server as people run it: with a registry, keys that every request needs, metrics, and a log.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::super::http;
use super::super::ours::Ours;
use super::Running;
use crate::process;
use crate::services::place::free_port;

/// Where our programs look for the key of a server.
pub(super) const KEY_VARIABLE: &str = "BMS_API_KEY";
/// Answers once what was deployed before the start answers.
const READY: &str = "/v2/health/ready";

/// A server's folder in which the graph is published and deployed, and the key it is asked with.
pub(super) struct Published {
    folder: PathBuf,
    pub(super) key: String,
}

impl Published {
    /// Publishes a bundle as `mlp`.
    pub(super) fn new(ours: &Ours, folder: PathBuf, bundle: &Path) -> Result<Published> {
        let mut chance = [0; 37];
        File::open("/dev/urandom")?.read_exact(&mut chance)?;
        let digits: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("bms_{}_{}", &digits[..10], &digits[10..]);
        fs::create_dir_all(folder.join("keys"))?;
        fs::write(folder.join("keys").join("bench.admin"), &key)?;
        let published = Published { folder, key };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(0)?));
        let server = Running::start(&mut published.command(ours, address)?, || ready(address))?;
        let url = format!("http://{address}");
        let mut push = ours.command(&["push", "--alias", "production", "--server", &url]);
        push.arg(bundle);
        let deploy = ours.command(&["deploy", "mlp", "--server", &url]);
        for mut command in [push, deploy] {
            process::output(command.env(KEY_VARIABLE, &published.key))?;
        }
        drop(server);
        Ok(published)
    }

    /// Serves what was published.
    pub(super) fn command(&self, ours: &Ours, address: SocketAddr) -> Result<Command> {
        let log = self.folder.join("server.log");
        let log =
            File::options().create(true).append(true).open(&log).context("the log cannot be written")?;
        let mut command = ours.command(&["up", "--until-stdin-closes", "--keys", "required"]);
        command.arg("--keys-from").arg(self.folder.join("keys")).arg("--data").arg(self.folder.join("data"));
        command.args(["--listen", &address.to_string()]).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }
}

/// Whether the server takes requests.
pub(super) fn ready(address: SocketAddr) -> Result<()> {
    http::get(address, READY).map(drop)
}
