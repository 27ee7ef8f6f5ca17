//! What the chores need from the system: installed where they may, named where they may not.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A program that has to be there, and the Debian packages that bring it.
pub(crate) struct Need {
    /// What it is for, to complete "needed for …".
    pub(crate) purpose: &'static str,
    /// A command that succeeds when the need is met.
    pub(crate) probe: &'static [&'static str],
    pub(crate) packages: &'static [&'static str],
}

impl Need {
    pub(crate) fn met(&self) -> bool {
        self.probe.split_first().is_some_and(|(program, arguments)| process::answers(program, arguments))
    }
}

/// pip, which fetches Python packages without running them.
pub(crate) const PIP: Need = Need {
    purpose: "fetching fixtures published as Python packages",
    probe: &["python3", "-m", "pip", "--version"],
    packages: &["python3", "python3-pip"],
};

/// Python's environments; `ensurepip` is what Debian splits off.
pub(crate) const VENV: Need = Need {
    purpose: "the model-signing program the signature tests compare with",
    probe: &["python3", "-c", "import ensurepip, venv"],
    packages: &["python3", "python3-venv"],
};

/// npm.
pub(crate) const NPM: Need = Need {
    purpose: "fetching fixtures published as npm packages",
    probe: &["npm", "--version"],
    packages: &["npm"],
};

/// A C compiler: crates with C code, and the linker.
pub(crate) const CC: Need = Need {
    purpose: "compiling SQLite and linking",
    probe: &["cc", "--version"],
    packages: &["gcc", "libc6-dev"],
};

/// Meets every need: installs the missing Debian packages as root, or says what to install.
pub(crate) fn provide(needs: &[&Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    if !(is_root() && process::answers("apt-get", &["--version"])) {
        bail!("{}", advice(&missing, &packages));
    }
    eprintln!("installing {}", packages.join(" "));
    for architecture in architectures(&packages) {
        process::run(Command::new("dpkg").args(["--add-architecture", architecture]))
            .context("failed to allow packages of another architecture")?;
    }
    apt_get(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&packages);
    apt_get(&arguments)?;
    match missing.iter().find(|need| !need.met()) {
        None => Ok(()),
        Some(need) => {
            bail!("{} were installed, but `{}` still fails", packages.join(" "), need.probe.join(" "))
        }
    }
}

/// The needs that are not met, each once.
fn missing<'a>(needs: &[&'a Need]) -> Vec<&'a Need> {
    let mut needs = needs.to_vec();
    needs.sort_by_key(|need| need.probe);
    needs.dedup_by_key(|need| need.probe);
    needs.retain(|need| !need.met());
    needs
}

fn advice(missing: &[&Need], packages: &[&str]) -> String {
    let mut text = String::from("programs are missing:");
    for need in missing {
        text.push_str(&format!("\n  `{}`, needed for {}", need.probe.join(" "), need.purpose));
    }
    text.push_str("\nOn Debian or Ubuntu, as root: ");
    for architecture in architectures(packages) {
        text.push_str(&format!("dpkg --add-architecture {architecture} && "));
    }
    text.push_str(&format!("apt-get update && apt-get install -y {}", packages.join(" ")));
    text
}

/// Other architectures that packages are for: what follows the colon of a name.
fn architectures<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut found: Vec<&str> =
        packages.iter().filter_map(|package| Some(package.split_once(':')?.1)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    process::run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
        .context("failed to install Debian packages")
}

pub(crate) fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests;
