//! The tests: what a confined process tries, what comes of it, and what its watcher hears.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bms_sandbox::{Denied, Enforced, Support, Watch};
use tempfile::TempDir;

use crate::attempt::{DENIALS, FOLDER, VARIABLE, WATCHED};

/// What came of an attempt.
struct Outcome {
    enforced: Enforced,
    /// `done`, or the number of the error.
    outcome: String,
    told: Vec<Denied>,
}

impl Outcome {
    #[track_caller]
    fn is_denied(&self, what: &str) {
        let error = self.outcome.parse().unwrap_or(0);
        assert!(DENIALS.contains(&error), "{what}: {}", self.outcome);
    }
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model", "other"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("file"), b"weights").unwrap();
    }
    std::os::unix::fs::symlink(dir.path().join("other"), dir.path().join("link")).unwrap();
    dir
}

fn start(dir: &TempDir, what: &str, stdin: Stdio, watched: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(VARIABLE, what).env(FOLDER, dir.path()).stdin(stdin).stdout(Stdio::piped());
    if watched {
        command.env(WATCHED, "1");
    }
    command.spawn().unwrap()
}

#[track_caller]
fn outcome(output: &Output, told: Vec<Denied>) -> Outcome {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{} {text}", output.status);
    let said: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    let enforced = serde_json::from_value(said["enforced"].clone()).unwrap();
    Outcome { enforced, outcome: said["outcome"].as_str().unwrap().to_owned(), told }
}

/// Tries something under a watcher.
#[track_caller]
fn watched(dir: &TempDir, what: &str) -> Outcome {
    let (watch, stdin) = Watch::pair().unwrap();
    let child = start(dir, what, stdin.into(), true);
    let (pid, watching) = (child.id(), watch.clone());
    let watching = std::thread::spawn(move || {
        let mut told = Vec::new();
        watching.run(pid, |denied| told.push(denied));
        told
    });
    let output = child.wait_with_output().unwrap();
    outcome(&output, watching.join().unwrap())
}

/// Tries something that nobody hears of.
#[track_caller]
fn unwatched(dir: &TempDir, what: &str) -> Outcome {
    outcome(&start(dir, what, Stdio::null(), false).wait_with_output().unwrap(), Vec::new())
}

pub(crate) fn what_a_model_needs_works() {
    let dir = folder();
    for outcome in [watched(&dir, "work"), unwatched(&dir, "work")] {
        assert_eq!(outcome.outcome, "done");
        assert_eq!(outcome.told, [], "nothing of it is out of the ordinary");
        assert!(outcome.enforced.is_confined(), "{:?}", outcome.enforced);
    }
}

/// What is tried, the call by which, and what is told of it.
const ATTEMPTS: &[(&str, &str, Option<&str>)] = &[
    ("read /etc/passwd", "openat", Some("/etc/passwd")),
    ("read another model", "openat", Some("~/other/file")),
    ("list the folder above", "openat", Some("~")),
    ("read through a link", "openat", Some("~/other/file")),
    ("read through /proc", "openat", Some("/etc/passwd")),
    ("write its model", "openat", Some("~/model/file (to write)")),
    ("make a file", "openat", None),
    ("make a file in /tmp", "openat", None),
    ("read the parent's memory", "openat", None),
    ("open a device", "openat", Some("/dev/full (to write)")),
    ("truncate its model", "truncate", None),
    ("connect over TCP", "socket", Some("IPv4")),
    ("listen on TCP", "socket", Some("IPv4")),
    ("make a UDP socket", "socket", Some("IPv4")),
    ("connect to an abstract socket", "socket", Some("Unix")),
    ("make a pair of datagram sockets", "socketpair", Some("Unix")),
    ("make a raw socket", "socket", Some("packet")),
    ("start a program", "", None),
    ("become a program", "execve", Some("/bin/true")),
    ("fork", "", None),
    ("run from memory", "memfd_create", None),
    ("remove its model", "", None),
    ("rename its model", "", None),
    ("make its model writable for all", "", None),
    ("trace the parent", "ptrace", None),
    ("read the parent's memory by call", "process_vm_readv", None),
    ("kill the parent", "kill", None),
    ("signal a thread of the parent", "tgkill", None),
    ("limit the parent", "prlimit64", None),
    ("open the parent", "pidfd_open", None),
    ("use io_uring", "io_uring_setup", None),
    ("load BPF", "bpf", None),
    ("count events", "perf_event_open", None),
    ("unshare", "unshare", None),
    ("mount", "mount", None),
    ("use keys", "keyctl", None),
    ("open by openat2", "openat2", None),
    ("catch page faults", "userfaultfd", None),
    ("change the filter", "seccomp", None),
    ("type into the terminal", "ioctl", None),
    ("get its rights back", "capset", None),
];

pub(crate) fn what_leads_out_is_denied_and_told() {
    let dir = folder();
    let root = dir.path().canonicalize().unwrap();
    for (what, call, target) in ATTEMPTS {
        let outcome = watched(&dir, what);
        outcome.is_denied(what);
        let [told] = &outcome.told[..] else { panic!("{what}: {:?}", outcome.told) };
        // Some are this call on one architecture and that on another.
        assert!(call.is_empty() || *call == told.call, "{what}: {told:?}");
        assert_ne!(told.call, "unknown", "{what}");
        if let Some(target) = target {
            let target = target.replace('~', root.to_str().unwrap());
            assert_eq!(told.target.as_deref(), Some(&*target), "{what}");
        }
    }
    assert_eq!(std::fs::read(root.join("model/file")).unwrap(), b"weights");
}

pub(crate) fn without_a_watcher() {
    let dir = folder();
    for (what, ..) in ATTEMPTS {
        let outcome = unwatched(&dir, what);
        outcome.is_denied(what);
        assert!(outcome.enforced.is_confined() && !outcome.enforced.watched);
    }
    assert_eq!(std::fs::read(dir.path().join("model/file")).unwrap(), b"weights");
}

pub(crate) fn a_watcher_that_goes_away() {
    let dir = folder();
    let (watch, stdin) = Watch::pair().unwrap();
    let child = start(&dir, "after the watcher", stdin.into(), true);
    // It has its filter, and waits for the end of its standard input; the listener is on its way.
    let waits = || {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
        read("status").contains("Seccomp:\t2") && read("stat").contains(") S ")
    };
    while !waits() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(watch);
    let outcome = outcome(&child.wait_with_output().unwrap(), Vec::new());
    assert_eq!(outcome.outcome, libc::ENOSYS.to_string(), "not even what it may read is opened");
}

pub(crate) fn a_watcher_that_breaks() {
    let dir = folder();
    let (watch, stdin) = Watch::pair().unwrap();
    let child = start(&dir, "after the watcher broke", stdin.into(), true);
    let pid = child.id();
    let watching = std::thread::spawn(move || watch.run(pid, |_| panic!("the watcher breaks")));
    let outcome = outcome(&child.wait_with_output().unwrap(), Vec::new());
    assert!(watching.join().is_err());
    assert_eq!(outcome.outcome, libc::ENOSYS.to_string(), "not even what it may read is opened");
}

pub(crate) fn again_and_again() {
    let outcome = watched(&folder(), "again and again");
    let told: Vec<_> = outcome.told.iter().map(|denied| (denied.call, denied.times)).collect();
    assert_eq!(told, [("openat", 1), ("openat", 99)]);
}

pub(crate) fn other_threads() {
    let enforced = watched(&folder(), "other threads").enforced;
    assert_eq!(enforced.bystanders, 1);
    assert!(!enforced.is_confined());
    assert!(enforced.missing().contains("1 of its threads"), "{}", enforced.missing());
}

pub(crate) fn later_threads() {
    let outcome = watched(&folder(), "in a thread");
    outcome.is_denied("in a thread");
    assert_eq!(outcome.told.len(), 1);
}

pub(crate) fn what_enforces_is_said() {
    let support = Support::detect();
    let enforced = watched(&folder(), "nothing").enforced;
    let expected = Enforced { landlock: support.landlock, filter: true, watched: true, bystanders: 0 };
    assert_eq!(enforced, expected);
    assert_eq!(enforced.missing(), "");
    assert!(support.landlock_parts().starts_with(&["files"]));
}
