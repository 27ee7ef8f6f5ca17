//! What a confined process may still reach.

use std::path::{Path, PathBuf};

use bms_wire::{Error, Result};

/// What a process may reach once it is confined. Everything else is out of its reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Files, and folders with all that is in them, that may be read. Real paths.
    pub(crate) readable: Vec<PathBuf>,
    /// Device files that may be written, too.
    pub(crate) writable: Vec<PathBuf>,
    /// File descriptors it may have at a time.
    pub(crate) open_files_max: u64,
    /// Bytes of address space, when it has a budget.
    pub(crate) address_space_max: Option<u64>,
}

/// Where shared libraries lie. Everybody may read them everywhere, and a loader looks into them.
const LIBRARIES: [&str; 9] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/nix/store",
    "/gnu/store",
];
/// What else a loader of libraries and the C library read.
const LOADER: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/os-release",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
];
/// What a run-time asks the system: processors, memory, limits of the control group, devices on the bus.
/// `/proc/self` is the process's own folder, whichever process reads it.
const MACHINE: [&str; 19] = [
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self",
    "/proc/stat",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/threads-max",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/overcommit_memory",
    "/proc/version",
    "/sys/bus/pci",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
];
/// The one device to write to: it keeps nothing.
const SINK: &str = "/dev/null";
/// The folder of the buses' devices; those of PCI lie in folders of their own.
const DEVICES: &str = "/sys/devices";

impl Confinement {
    /// A process that may read the system's libraries, the few files that tell a run-time what machine it is on, and
    /// nothing else. It may have `open_files_max` file descriptors.
    pub fn new(open_files_max: u64) -> Confinement {
        let mut confinement = Confinement {
            readable: Vec::new(),
            writable: Vec::new(),
            open_files_max,
            address_space_max: None,
        };
        for path in LIBRARIES.iter().chain(&LOADER).chain(&MACHINE) {
            confinement.read_if_there(Path::new(path));
        }
        let devices = std::fs::read_dir(DEVICES).into_iter().flatten().flatten();
        for device in devices.filter(|device| device.file_name().to_string_lossy().starts_with("pci")) {
            confinement.read_if_there(&device.path());
        }
        let program = std::env::current_exe();
        // A panic's trace reads the names of functions in it.
        confinement.read_if_there(&program.unwrap_or_default());
        confinement.read_if_there(Path::new(SINK));
        confinement.writable.extend(Path::new(SINK).canonicalize());
        confinement
    }

    /// Adds a file, or a folder with all that is in it, that may be read.
    ///
    /// # Errors
    /// [`bms_wire::Code::NotFound`] or [`bms_wire::Code::Io`] when there is none.
    pub fn read(&mut self, path: &Path) -> Result<()> {
        let real = path.canonicalize().map_err(|e| Error::io("open", path, e))?;
        self.add(real);
        Ok(())
    }

    /// As [`Confinement::read`], for what a machine may or may not have.
    pub fn read_if_there(&mut self, path: &Path) {
        if let Ok(real) = path.canonicalize() {
            self.add(real);
        }
    }

    /// What may be read: real paths.
    pub fn readable(&self) -> impl Iterator<Item = &Path> {
        self.readable.iter().map(PathBuf::as_path)
    }

    /// Bounds the address space, mappings of files included, to a budget in bytes.
    pub fn limit_memory(&mut self, bytes: u64) {
        self.address_space_max = Some(bytes);
    }

    fn add(&mut self, real: PathBuf) {
        // `/` would be everything, which nobody means.
        if real.parent().is_some() && !self.readable.iter().any(|root| real.starts_with(root)) {
            self.readable.push(real);
        }
    }
}

#[cfg(test)]
mod tests;
