//! Where the library of ONNX Runtime may lie.

use std::path::{Path, PathBuf};

/// Names the library has on this system, without a version suffix.
const FILE: &str = if cfg!(target_os = "windows") {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// What is looked at, read from the environment in one place.
pub(super) struct Surroundings {
    /// `BMS_ONNXRUNTIME`: the library itself; nothing else is tried then.
    named: Option<PathBuf>,
    /// Folder of this program.
    program: Option<PathBuf>,
    /// Folders of the system.
    system: Vec<PathBuf>,
    /// `VIRTUAL_ENV`: a Python environment.
    python: Option<PathBuf>,
}

impl Surroundings {
    /// Reads the environment.
    pub(super) fn read() -> Surroundings {
        let dir = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let library_path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let usual = [
            "/usr/local/lib",
            "/usr/lib",
            "/usr/lib64",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/opt/homebrew/lib",
        ];
        Surroundings {
            named: dir("BMS_ONNXRUNTIME"),
            program: std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)),
            system: std::env::split_paths(&library_path)
                .filter(|path| path.is_absolute())
                .chain(usual.into_iter().map(PathBuf::from))
                .collect(),
            python: dir("VIRTUAL_ENV"),
        }
    }

    /// The library to load, if any is found. `BMS_ONNXRUNTIME` is taken at its word: when it is wrong,
    /// loading says so, instead of another library being used in silence.
    pub(super) fn find(&self) -> Option<PathBuf> {
        if self.named.is_some() {
            return self.named.clone();
        }
        let packages = self.python.iter().flat_map(|root| site_packages(root));
        self.program
            .iter()
            .flat_map(|dir| [dir.clone(), dir.join("lib"), dir.join("../lib")])
            .chain(self.system.iter().cloned())
            .chain(packages.map(|dir| dir.join("onnxruntime/capi")))
            .find_map(|dir| library_in(&dir))
    }
}

/// `lib/python3.*/site-packages` under a Python environment.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root.join("lib"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python"))
        .map(|entry| entry.path().join("site-packages"))
        .collect();
    found.push(root.join("Lib/site-packages"));
    found.sort();
    found
}

/// The library in a folder: the plain name, else the highest version.
fn library_in(dir: &Path) -> Option<PathBuf> {
    let plain = dir.join(FILE);
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = |name: &str| -> Option<Vec<u64>> {
        name.strip_prefix(FILE)?.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect()
    };
    std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((versioned(&entry.file_name().to_string_lossy())?, entry.path())))
        .filter(|(_, path)| path.is_file())
        .max()
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests;
