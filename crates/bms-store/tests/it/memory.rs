//! Memory does not depend on the size of a file.

use std::io::Read;
use std::process::Command;

use bms_store::{Location, Store};

use crate::material::runtime;

/// Tells the process that is measured where its folder is.
const CHILD: &str = "BMS_STORE_TEST_MEASURED_IN";
/// Bytes of the file: several times what the process may use.
const FILE_BYTES: u64 = 1 << 30;
/// Memory the process may use at its peak.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Bytes that never repeat, made as they are read.
struct Noise(blake3::OutputReader, u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = (buffer.len() as u64).min(self.1) as usize;
        self.0.fill(&mut buffer[..length]);
        self.1 -= length as u64;
        Ok(length)
    }
}

#[test]
fn a_file_larger_than_memory_goes_in_and_comes_out() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return transfer(std::path::Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::a_file_larger_than_memory_goes_in_and_comes_out", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let peak = text.lines().find_map(|line| line.strip_prefix("peak ")?.parse::<u64>().ok()).unwrap();
    println!("peak {} MiB for a file of {} MiB", peak >> 20, FILE_BYTES >> 20);
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB were used", peak >> 20);
}

fn transfer(dir: &std::path::Path) {
    runtime().block_on(async {
        let store = Store::open(&Location::Folder(dir.join("store"))).await.unwrap();
        let noise = Noise(blake3::Hasher::new().finalize_xof(), FILE_BYTES);
        let (stored, _) = store.put(noise, Some(FILE_BYTES)).await.unwrap();
        assert_eq!(stored.size, FILE_BYTES);
        store.fetch(stored.digest, &dir.join("file"), &[]).await.unwrap();
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    println!("\npeak {}", peak.unwrap().trim().parse::<u64>().unwrap() << 10);
}
