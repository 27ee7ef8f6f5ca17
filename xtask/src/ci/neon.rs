//! The kernels for 64-bit ARM, built for it here and run by an emulator: that tells whether they are right, and nothing of
//! their speed.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::{Run, Verdict, steps};
use crate::debian::{self, Need};
use crate::process;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The emulated processors, and what the tests say they found on them: without that a kernel could go untested unseen.
const PROCESSORS: &[(&str, &str)] = &[
    // That of a Raspberry Pi 4: NEON as every 64-bit ARM has it.
    ("cortex-a72", "instruction sets: scalar, neon"),
    // All the emulator knows, dot products among it.
    ("max", "instruction sets: scalar, neon, neon-dotprod"),
];
/// A test that reserves terabytes of addresses, for which an emulator keeps tables of gigabytes. It is about no processor.
const TOO_LARGE: &str = "sizes_are_told_and_nothing_is_resident_before_it_is_written";

/// Arguments with which a compiler succeeds that has the target's standard library: an empty library, of which nothing
/// is written. Those that only print something succeed without, too.
const WITH_STANDARD_LIBRARY: &[&str] =
    &["--target", TARGET, "--crate-type", "lib", "--emit", "dep-info=/dev/null", "-"];
/// Debian's compiler, for which the standard library of another architecture is a package. `rustup target add` does as well.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

const COMPILER: Need = Need {
    purpose: "compiling for 64-bit ARM",
    probe: &[DEBIAN_RUSTC, "--target", TARGET, "--crate-type", "lib", "--emit", "dep-info=/dev/null", "-"],
    packages: &["rustc-web", "libstd-rust-web-dev:arm64"],
};
const LINKER: Need = Need {
    purpose: "linking for 64-bit ARM",
    probe: &["aarch64-linux-gnu-gcc", "--version"],
    packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
};
const EMULATOR: Need = Need {
    purpose: "running programs for 64-bit ARM",
    probe: &["qemu-aarch64-static", "--version"],
    packages: &["qemu-user-static"],
};

pub(super) fn run(run: &mut Run) -> Result<Verdict> {
    if cfg!(target_arch = "aarch64") {
        return Ok(Verdict::Skipped("this machine has them; the step `tests` ran them"));
    }
    let compiler = match compiler() {
        Ok(compiler) => compiler,
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("warning: the kernels for 64-bit ARM are NOT TESTED: {error:#}");
            return Ok(Verdict::Skipped("NOT TESTED, for want of the programs named above"));
        }
        Err(error) => return Err(error.context("failed to test the kernels for 64-bit ARM")),
    };
    for (processor, found) in PROCESSORS {
        println!("on an emulated {processor}:");
        let mut first = kernel_tests(run, &compiler, processor, &["--show-output", "isa::"])?;
        let said = process::output(&mut first)?;
        ensure!(said.lines().any(|line| line == *found), "{processor} does not have the {found}:\n{said}");
        println!("{found}");
        let mut all = kernel_tests(run, &compiler, processor, &["--skip", TOO_LARGE])?;
        steps::count(run, &mut all)?;
    }
    Ok(Verdict::Passed)
}

/// A compiler that has the target's standard library: that of this toolchain, or Debian's. Sees to the other programs, too.
fn compiler() -> Result<OsString> {
    let own = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if process::answers(&own, WITH_STANDARD_LIBRARY) {
        debian::provide(&[&LINKER, &EMULATOR])?;
        return Ok(own);
    }
    debian::provide(&[&COMPILER, &LINKER, &EMULATOR]).map_err(|error| match COMPILER.met() {
        true => error,
        false => {
            error.context(format!("`rustup target add {TARGET}` is another way to the standard library"))
        }
    })?;
    let version = process::output(Command::new(DEBIAN_RUSTC).arg("--version"))?;
    let needed = env!("CARGO_PKG_RUST_VERSION");
    if minor(&version) < minor(needed) {
        bail!("Debian brings {}, and {needed} is needed", version.trim());
    }
    Ok(DEBIAN_RUSTC.into())
}

/// The 95 of `rustc 1.95.0 (…)` and of `1.95`.
fn minor(version: &str) -> Option<u32> {
    version
        .trim_start_matches("rustc ")
        .strip_prefix("1.")?
        .split(['.', '-', ' '])
        .next()?
        .trim()
        .parse()
        .ok()
}

/// The command that runs tests of the kernels, those that `options` of the test program choose, on an emulated processor.
fn kernel_tests(run: &Run, compiler: &OsString, processor: &str, options: &[&str]) -> Result<Command> {
    let mut command = run.cargo(&["test", "--color", "never", "--release", "--locked", "--target", TARGET]);
    command.args(["--package", "bms-kernels", "--lib", "--"]).args(options);
    // A folder of its own, since it may be another compiler.
    command.env("RUSTC", compiler).env("CARGO_TARGET_DIR", steps::target_folder(run)?.join("neon"));
    // Flags for every target would take the place of these.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    // Linked statically: with the library of another system the emulated program might find this one's halfway.
    for (name, value) in [
        ("RUSTFLAGS", "-C target-feature=+crt-static"),
        ("LINKER", LINKER.probe[0]),
        ("RUNNER", &format!("{} -cpu {processor}", EMULATOR.probe[0])),
    ] {
        command.env(format!("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_{name}"), value);
    }
    Ok(command)
}

#[cfg(test)]
mod tests;
