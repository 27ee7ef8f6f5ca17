//! The Python servers beside which ours is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process;

/// Their packages; each gets an environment of its own, since together they do not resolve.
const NAMES: [&str; 3] = ["litserve", "mlserver", "bentoml"];
const GRAPH: &str = include_str!("graph.py");
const PROGRAMS: [&str; 3] =
    [include_str!("litserve_peer.py"), include_str!("mlserver_peer.py"), include_str!("bentoml_peer.py")];

pub(super) struct Peer {
    pub(super) name: &'static str,
    python: PathBuf,
    /// Where its program lies.
    folder: PathBuf,
}

/// The peers with an environment at `given/NAME`, or freshly installed ones, or none.
pub(super) fn find(given: Option<PathBuf>, install: bool, scratch: &Path) -> Result<Vec<Peer>> {
    let environments = match (given, install) {
        (Some(given), _) => std::path::absolute(given)?,
        (None, true) => scratch.join("environments"),
        (None, false) => {
            eprintln!("without peers: name their environments with `--peers DIR`, or say `--install-peers`");
            return Ok(Vec::new());
        }
    };
    let folder = scratch.join("peers");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("graph.py"), GRAPH)?;
    let mut peers = Vec::new();
    for (name, program) in NAMES.into_iter().zip(PROGRAMS) {
        let python = environments.join(name).join("bin/python");
        if install && !python.exists() {
            eprintln!("installing {name}");
            process::output(Command::new("python3").args(["-m", "venv"]).arg(environments.join(name)))?;
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            process::output(Command::new(&python).args(pip).args([name, "onnxruntime", "numpy"]))?;
        }
        ensure!(python.exists(), "there is no `{}`", python.display());
        std::fs::write(folder.join(format!("{name}_peer.py")), program)?;
        peers.push(Peer { name, python, folder: folder.clone() });
    }
    Ok(peers)
}

impl Peer {
    /// Serves the graph on a port.
    pub(super) fn command(&self, graph: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(format!("{}_peer.py", self.name)).current_dir(&self.folder);
        command.env("BENCH_MODEL", graph).env("BENCH_PORT", port.to_string());
        command
    }
}
