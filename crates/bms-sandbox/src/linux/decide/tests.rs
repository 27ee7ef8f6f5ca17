use libc::{O_CLOEXEC, O_PATH, O_WRONLY};

use super::*;

/// A call of this very process, whose memory can be read as well.
fn call(number: c_long, arguments: [u64; 6]) -> Call {
    Call { id: 0, thread: std::process::id(), number: number as i32, arguments }
}

struct Watched {
    dir: tempfile::TempDir,
    process: Process,
}

impl Watched {
    fn new() -> Watched {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["model", "other"] {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("file"), b"x").unwrap();
        }
        std::os::unix::fs::symlink(root.join("other/file"), root.join("model/link")).unwrap();
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        let reach = Reach { readable: vec![root.join("model"), own], writable: vec!["/dev/null".into()] };
        Watched { dir, process: Process { pid: std::process::id(), reach } }
    }

    fn open(&self, path: &str, flags: c_int) -> Verdict {
        let path = path.replace('~', self.dir.path().to_str().unwrap());
        let text = std::ffi::CString::new(path).unwrap();
        let folder = AT_FDCWD as u32 as u64;
        self.process.judge(&call(libc::SYS_openat, [folder, text.as_ptr() as u64, flags as u64, 0, 0, 0]))
    }

    #[track_caller]
    fn denied(&self, path: &str, flags: c_int, told: &str) {
        let told = told.replace('~', self.dir.path().canonicalize().unwrap().to_str().unwrap());
        let expected = Verdict::Denied { error: EACCES, call: "openat", target: Some(told) };
        assert_eq!(self.open(path, flags), expected, "{path}");
    }
}

#[test]
fn what_lies_inside_is_opened_and_what_leads_out_is_told_by_its_real_name() {
    let watched = Watched::new();
    for path in [
        "~/model/file",
        "~/model",
        "~/other/../model/file",
        "~/./model//file",
        "/proc/self/maps",
        "/proc/thread-self/stat",
    ] {
        assert_eq!(watched.open(path, O_RDONLY | O_CLOEXEC), Verdict::Made, "{path}");
    }
    watched.denied("/etc/passwd", O_RDONLY, "/etc/passwd");
    watched.denied("~/other/file", O_RDONLY, "~/other/file");
    watched.denied("~/model/../other/file", O_RDONLY, "~/other/file");
    watched.denied("~/model/link", O_RDONLY, "~/other/file");
    watched.denied("/proc/self/root/etc/passwd", O_RDONLY, "/etc/passwd");
    watched.denied("/etc/passwd", O_PATH, "/etc/passwd");
    watched.denied("~", O_RDONLY, "~");
}

#[test]
fn nothing_is_written_but_what_keeps_nothing() {
    let watched = Watched::new();
    watched.denied("~/model/file", O_WRONLY, "~/model/file (to write)");
    watched.denied("~/model/file", O_RDONLY | O_TRUNC, "~/model/file (to write)");
    watched.denied("~/model", O_TMPFILE | O_WRONLY, "~/model (to write)");
    let new = watched.dir.path().join("model/new");
    watched.denied("~/model/new", O_WRONLY | O_CREAT, &format!("{} (to write)", new.display()));
    assert_eq!(watched.open("/dev/null", O_WRONLY), Verdict::Made);
}

#[test]
fn what_is_not_there_fails_as_it_always_does() {
    let watched = Watched::new();
    assert_eq!(watched.open("/nowhere/libm.so.6", O_RDONLY), Verdict::Fails(ENOENT));
    assert_eq!(watched.open("", O_RDONLY), Verdict::Fails(ENOENT));
    assert_eq!(watched.open("~/model/file/below", O_RDONLY), Verdict::Fails(libc::ENOTDIR));
    let nowhere = call(libc::SYS_openat, [AT_FDCWD as u32 as u64, 8, 0, 0, 0, 0]);
    assert_eq!(watched.process.judge(&nowhere), Verdict::Fails(EFAULT));
}

#[test]
fn a_path_is_taken_from_the_folder_that_is_named() {
    let watched = Watched::new();
    let folder = std::fs::File::open(watched.dir.path().join("model")).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder) as u64;
    let open = |path: &std::ffi::CStr| {
        watched.process.judge(&call(libc::SYS_openat, [number, path.as_ptr() as u64, 0, 0, 0, 0]))
    };
    assert_eq!(open(c"file"), Verdict::Made);
    assert!(matches!(open(c"../other/file"), Verdict::Denied { .. }));
}

#[test]
fn other_calls_are_told_with_what_they_are_about() {
    let watched = Watched::new();
    let judge = |number, arguments| watched.process.judge(&call(number, arguments));
    let denied = |call, target: Option<&str>| Verdict::Denied {
        error: EPERM,
        call,
        target: target.map(str::to_owned),
    };
    let program = c"/bin/sh\n\x1b[2J";
    let arguments = [program.as_ptr() as u64, 0, 0, 0, 0, 0];
    assert_eq!(judge(libc::SYS_execve, arguments), denied("execve", Some("/bin/sh\\n\\u{1b}[2J")));
    assert_eq!(judge(libc::SYS_socket, [AF_INET as u64, 1, 0, 0, 0, 0]), denied("socket", Some("IPv4")));
    assert_eq!(judge(libc::SYS_kill, [1, 9, 0, 0, 0, 0]), denied("kill", None));
    let own = u64::from(std::process::id());
    assert_eq!(judge(libc::SYS_sched_setaffinity, [own, 8, 0, 0, 0, 0]), Verdict::Made);
    assert_eq!(judge(libc::SYS_sched_setaffinity, [1, 8, 0, 0, 0, 0]), denied("sched_setaffinity", None));
    assert_eq!(printable(vec![b'a'; 1000]).chars().count(), TARGET_CHARS_MAX + 1);
}
