//! `bms doctor`: what this machine can do.

use bms_nn::onnx;
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
        let runtimes: Vec<_> = runtimes
            .iter()
            .map(|r| json!({"name": r.kind.as_str(), "available": r.available, "detail": r.detail}))
            .collect();
        let value = json!({"version": version, "cores": cores, "simd": simd(), "memory_bytes": memory,
            "home": dir, "runtimes": runtimes});
        output.result(table, &value);
        Ok(())
    }
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
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
