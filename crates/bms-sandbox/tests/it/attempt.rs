//! The confined side: confines itself, says what is enforced, tries one thing, says how that went.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::ptr::null;

use bms_sandbox::Confinement;
use libc::{c_int, c_long};

/// The variable that makes this program the confined side; its value is what to try.
pub(crate) const VARIABLE: &str = "BMS_ATTEMPT";
/// The folder with `model` and `other` in it; only `model` may be read.
pub(crate) const FOLDER: &str = "BMS_ATTEMPT_FOLDER";
/// Set when standard input is a watcher's socket.
pub(crate) const WATCHED: &str = "BMS_ATTEMPT_WATCHED";

/// What to try, when this program is the confined side.
pub(crate) fn asked() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Confines this process and tries.
pub(crate) fn confine_and_try(asked: &str) -> ExitCode {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let watched = std::env::var_os(WATCHED).is_some();
    // Made before, as a slot's is.
    let listener = UnixListener::bind(folder.join(format!("{}.sock", std::process::id()))).unwrap();
    let mut confinement = Confinement::new(64);
    confinement.read(&folder.join("model")).unwrap();
    let others = (asked == "other threads").then(|| std::thread::spawn(std::thread::park));
    let stdin = io::stdin();
    let enforced = bms_sandbox::enter(&confinement, watched.then(|| stdin.as_fd())).unwrap();
    let outcome = attempt(asked, &folder, &listener);
    let outcome =
        outcome.map_or_else(|e| format!("{:?}", e.raw_os_error().unwrap_or(-1)), |()| "done".to_owned());
    println!("{}", serde_json::json!({ "enforced": enforced, "outcome": outcome }));
    drop(others);
    ExitCode::SUCCESS
}

fn attempt(what: &str, folder: &Path, listener: &UnixListener) -> io::Result<()> {
    match what {
        "nothing" | "other threads" => Ok(()),
        "work" => work(folder, listener),
        "after the watcher" => {
            // The end, or that the other side closed without having read everything.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            File::open(folder.join("model/file")).map(drop)
        }
        "after the watcher broke" => {
            assert_eq!(File::open("/etc/passwd").unwrap_err().raw_os_error(), Some(libc::ENOSYS));
            File::open(folder.join("model/file")).map(drop)
        }
        "again and again" => {
            for _ in 0..100 {
                let _ = File::open("/etc/passwd");
            }
            Ok(())
        }
        "in a thread" => std::thread::spawn(|| File::open("/etc/passwd").map(drop)).join().unwrap(),
        what => files(what, folder).or_else(|| sockets(what)).or_else(|| calls(what)).unwrap(),
    }
}

/// What a slot does all day.
fn work(folder: &Path, listener: &UnixListener) -> io::Result<()> {
    assert_eq!(std::fs::read(folder.join("model/file"))?, b"weights");
    assert_eq!(std::fs::read_dir(folder.join("model"))?.count(), 1);
    for path in ["/proc/meminfo", "/proc/self/maps", "/proc/self/status", "/proc/cpuinfo", "/etc/ld.so.cache"]
    {
        // Not every machine has every file.
        if Path::new(path).exists() {
            std::fs::read(path)?;
        }
    }
    File::create("/dev/null")?.write_all(b"gone")?;
    assert_eq!(File::open("/nowhere").unwrap_err().kind(), io::ErrorKind::NotFound);
    let threads: Vec<_> =
        (0..4).map(|n| std::thread::Builder::new().name(format!("t{n}")).spawn(move || n)).collect();
    let sum: i32 = threads.into_iter().map(|thread| thread.unwrap().join().unwrap()).sum();
    assert_eq!(sum, 6);
    let (mut one, mut other) = UnixStream::pair()?;
    one.write_all(b"x")?;
    other.read_exact(&mut [0])?;
    listener.set_nonblocking(true)?;
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(1 <= std::thread::available_parallelism()?.get());
    let panicked = std::panic::catch_unwind(|| panic!("a hostile graph"));
    assert!(panicked.is_err());
    #[cfg(target_arch = "x86_64")]
    {
        // What the kernels ask before they use tiles; a processor without them says EINVAL, and not EPERM.
        let asked = call(libc::SYS_arch_prctl, [0x1023, 18, 0, 0, 0]);
        assert_ne!(asked.err().and_then(|e| e.raw_os_error()), Some(libc::EPERM));
    }
    Ok(())
}

fn files(what: &str, folder: &Path) -> Option<io::Result<()>> {
    let write = |path: PathBuf| OpenOptions::new().write(true).open(path).map(drop);
    Some(match what {
        "read /etc/passwd" => File::open("/etc/passwd").map(drop),
        "read another model" => File::open(folder.join("other/file")).map(drop),
        "list the folder above" => std::fs::read_dir(folder).map(drop),
        "read through a link" => File::open(folder.join("model/../link/file")).map(drop),
        "read through /proc" => File::open("/proc/self/root/etc/passwd").map(drop),
        "read the parent's memory" => {
            File::open(format!("/proc/{}/mem", std::os::unix::process::parent_id())).map(drop)
        }
        "open a device" => OpenOptions::new().read(true).write(true).open("/dev/full").map(drop),
        "write its model" => write(folder.join("model/file")),
        "truncate its model" => {
            let path = text(&folder.join("model/file"));
            call(libc::SYS_truncate, [path.as_ptr() as c_long, 0, 0, 0, 0])
        }
        "make a file" => File::create(folder.join("model/new")).map(drop),
        "make a file in /tmp" => File::create("/tmp/bms-sandbox-was-here").map(drop),
        "remove its model" => std::fs::remove_file(folder.join("model/file")),
        "rename its model" => std::fs::rename(folder.join("model/file"), folder.join("model/new")),
        "make its model writable for all" => std::fs::set_permissions(
            folder.join("model/file"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        ),
        _ => return None,
    })
}

fn sockets(what: &str) -> Option<io::Result<()>> {
    Some(match what {
        "connect over TCP" => std::net::TcpStream::connect("127.0.0.1:9").map(drop),
        "listen on TCP" => std::net::TcpListener::bind("127.0.0.1:0").map(drop),
        "make a UDP socket" => std::net::UdpSocket::bind("127.0.0.1:0").map(drop),
        "connect to an abstract socket" => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name("bms-test").unwrap();
            UnixStream::connect_addr(&address).map(drop)
        }
        "make a pair of datagram sockets" => std::os::unix::net::UnixDatagram::pair().map(drop),
        "make a raw socket" => call(libc::SYS_socket, [17, 3, 0, 0, 0]),
        _ => return None,
    })
}

fn calls(what: &str) -> Option<io::Result<()>> {
    let parent = c_long::from(std::os::unix::process::parent_id());
    let (program, none) = (c"/bin/true".as_ptr() as c_long, null::<u8>() as c_long);
    Some(match what {
        "start a program" => Command::new("/bin/true").status().map(drop),
        "become a program" => call(libc::SYS_execve, [program, none, none, 0, 0]),
        "fork" => {
            // SAFETY: it is denied; were it not, the child would end at once.
            match unsafe { libc::fork() } {
                -1 => Err(io::Error::last_os_error()),
                0 => std::process::exit(0),
                _ => Ok(()),
            }
        }
        "run from memory" => memory_program(),
        "trace the parent" => call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as c_long, parent, 0, 0, 0]),
        "read the parent's memory by call" => call(libc::SYS_process_vm_readv, [parent, none, 0, none, 0]),
        "kill the parent" => call(libc::SYS_kill, [parent, 0, 0, 0, 0]),
        "signal a thread of the parent" => call(libc::SYS_tgkill, [parent, parent, 0, 0, 0]),
        "limit the parent" => call(libc::SYS_prlimit64, [parent, 7, none, none, 0]),
        "open the parent" => call(libc::SYS_pidfd_open, [parent, 0, 0, 0, 0]),
        "use io_uring" => call(libc::SYS_io_uring_setup, [1, none, 0, 0, 0]),
        "load BPF" => call(libc::SYS_bpf, [0, none, 0, 0, 0]),
        "count events" => call(libc::SYS_perf_event_open, [none, 0, -1, -1, 0]),
        "unshare" => call(libc::SYS_unshare, [c_long::from(libc::CLONE_NEWUSER), 0, 0, 0, 0]),
        "mount" => call(libc::SYS_mount, [program, program, none, 0, none]),
        "use keys" => call(libc::SYS_keyctl, [0, 0, 0, 0, 0]),
        "open by openat2" => call(libc::SYS_openat2, [-100, program, none, 24, 0]),
        "catch page faults" => call(libc::SYS_userfaultfd, [0, 0, 0, 0, 0]),
        "change the filter" => call(libc::SYS_seccomp, [0, 0, none, 0, 0]),
        "type into the terminal" => call(libc::SYS_ioctl, [0, libc::TIOCSTI as c_long, program, 0, 0]),
        "get its rights back" => call(libc::SYS_capset, [none, none, 0, 0, 0]),
        _ => return None,
    })
}

fn memory_program() -> io::Result<()> {
    // SAFETY: the name is a C string, and the flags are none.
    let file = unsafe { libc::memfd_create(c"program".as_ptr(), 0) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    call(
        libc::SYS_execveat,
        [c_long::from(file), c"".as_ptr() as c_long, 0, 0, c_long::from(libc::AT_EMPTY_PATH)],
    )
}

fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: pointers among the arguments are null or C strings that live as long as the program or its caller.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn text(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
}

/// The errors with which a denied call fails.
pub(crate) const DENIALS: [c_int; 2] = [libc::EPERM, libc::EACCES];
