//! What the tests share: a folder to pull to, options without pauses, and digests.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bms_bundle::Severity;
use bms_sources::{Http, HttpOptions, Options, Patterns, Pulled, Source, Watch, pull};
use bms_wire::{Code, Error, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) struct Here {
    dir: TempDir,
    pub(crate) options: Options,
    notes: Notes,
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Watch for Notes {
    fn planned(&self, _files: usize, _bytes: u64) {}
    fn at(&self, _bytes: u64) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Here {
    /// For a hub at this address.
    pub(crate) fn new(hub: &str) -> Here {
        let options = Options {
            hub: hub.parse().unwrap(),
            token: None,
            hub_cache: None,
            patterns: Patterns::default(),
            sha256: None,
            bytes_max: 64 << 20,
            jobs: 4,
            deny: Severity::Medium,
            replace: false,
            pause: Duration::from_millis(1),
        };
        Here { dir: tempfile::tempdir().unwrap(), options, notes: Notes::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn pull(&self, source: &str) -> Result<Pulled> {
        let http = Http::new(&HttpOptions::default()).unwrap();
        pull(&Source::parse(source).unwrap(), &self.path("out"), &http, &self.options, &self.notes)
    }

    /// A pull that must fail so; nothing may be seen at the target then.
    #[track_caller]
    pub(crate) fn refused(&self, source: &str, code: Code) -> Error {
        let error = self.pull(source).expect_err("the pull fails");
        assert_eq!(error.code(), code, "{error}");
        assert!(!self.path("out").exists(), "something is seen of a pull that failed");
        error
    }

    /// Files that wait for the next try, by the end of their names.
    pub(crate) fn waiting(&self, ending: &str) -> usize {
        let Ok(entries) = std::fs::read_dir(self.path(".out.pulling")) else { return 0 };
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == ending)).count()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.0.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn holds(&self, files: &[(&str, &[u8])]) {
        for (name, content) in files {
            assert_eq!(std::fs::read(self.path("out").join(name)).unwrap(), *content, "{name}");
        }
        let all = bms_bundle::scan::targets(&self.path("out")).unwrap();
        assert_eq!(all.len(), files.len());
        assert!(!self.path(".out.pulling").exists(), "what waited is removed");
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

pub(crate) fn git(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex::encode(hasher.finalize())
}

/// Bytes that are the same each time, and nothing a scanner minds.
pub(crate) fn numbers(count: usize) -> Vec<u8> {
    // A safetensors file of one tensor: a format that holds any numbers.
    let header = format!(r#"{{"x":{{"dtype":"U8","shape":[{count}],"data_offsets":[0,{count}]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..count).map(|i| (i * i / 7 + i) as u8 | 1));
    bytes
}

/// A pickle that would run a program.
pub(crate) const HOSTILE: &[u8] = b"\x80\x04cos\nsystem\n(X\x02\x00\x00\x00lstR.";

pub(crate) fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
