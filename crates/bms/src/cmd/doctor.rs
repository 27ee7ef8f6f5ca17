//! `bms doctor`: what this machine can do.

use bms_nn::onnx;
use bms_sandbox::Support;
use bms_wire::Result;
use clap::Args;
use serde_json::json;

use crate::home::Home;
use crate::output::{self, Output};

/// Options of `bms doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

impl Doctor {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let dir = home.dir()?.to_owned();
        let mut table = output::table(&["what", "state", "details"]);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        table.add_row(["bms".to_owned(), version.clone(), std::env::consts::ARCH.to_owned()]);
        table.add_row(["processor".to_owned(), format!("{cores} cores"), simd().join(", ")]);
        let memory = memory_bytes();
        let memory_text = memory.map_or("unknown".to_owned(), output::bytes);
        table.add_row(["memory".to_owned(), memory_text, String::new()]);
        let made = if dir.exists() { "exists" } else { "made at first use" };
        table.add_row(["home folder".to_owned(), made.to_owned(), dir.display().to_string()]);
        let runtimes = onnx::runtimes();
        for runtime in &runtimes {
            let state = if runtime.available { "available" } else { "not found" };
            table.add_row([format!("ONNX on {}", runtime.kind), state.to_owned(), runtime.detail.clone()]);
        }
        let support = Support::detect();
        for row in isolation(&support) {
            table.add_row(row);
        }
        let runtimes: Vec<_> = runtimes
            .iter()
            .map(|r| json!({"name": r.kind.as_str(), "available": r.available, "detail": r.detail}))
            .collect();
        let value = json!({"version": version, "cores": cores, "simd": simd(), "memory_bytes": memory,
            "home": dir, "runtimes": runtimes, "isolation": isolation_value(&support)});
        output.result(table, &value);
        Ok(())
    }
}

/// How slots are kept apart from the machine, a row for each means.
fn isolation(support: &Support) -> Vec<[String; 3]> {
    let means =
        |name: &str, state: &str, details: &str| [name.to_owned(), state.to_owned(), details.to_owned()];
    let confined = match support.confines() {
        true => means(
            "isolation of slots",
            "confined",
            "files, network, calls and limits of every slot are bounded",
        ),
        false => means(
            "isolation of slots",
            "not possible",
            "slots run with the rights of the server, and refuse the formats that the policy's `confine` lists",
        ),
    };
    let landlock = match support.landlock {
        Some(version) => {
            let parts = support.landlock_parts().join(", ");
            means("  Landlock", &format!("version {version}"), &format!("in use: {parts}"))
        }
        None => means(
            "  Landlock",
            "not there",
            "Linux 5.13 or newer with `landlock` among its security modules (lsm=…); a container may forbid it",
        ),
    };
    let seccomp = match support.seccomp {
        true => means("  seccomp", "available", "calls that are not on the list fail"),
        false => means("  seccomp", "not there", "a kernel with CONFIG_SECCOMP_FILTER is needed"),
    };
    let told = match support.notification {
        true => means("  denied calls", "told", "counted, and in the audit log of `bms up`"),
        false => means("  denied calls", "not told", "they fail silently; Linux 5.5 or newer tells them"),
    };
    let limits =
        means("  limits", "available", "no core dumps, no writes to files, a bounded number of open files");
    let cgroup = match support.cgroup {
        Some(version) => means("  control groups", &format!("version {version}"), "not used for slots"),
        None => means("  control groups", "not there", "not needed"),
    };
    vec![confined, landlock, seccomp, told, limits, cgroup]
}

fn isolation_value(support: &Support) -> serde_json::Value {
    json!({"confined": support.confines(), "landlock": support.landlock,
        "landlock_parts": support.landlock_parts(), "seccomp": support.seccomp,
        "denials_told": support.notification, "limits": cfg!(target_os = "linux"), "cgroup": support.cgroup})
}

/// The vector instructions the processor has.
fn simd() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avxvnni", std::arch::is_x86_feature_detected!("avxvnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];
    found.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

/// Memory of the machine, where the system says it.
pub(super) fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
