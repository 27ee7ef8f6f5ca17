//! The calls a confined process may make, and the names of all others.
//!
//! What is listed here as allowed reaches nothing the process does not hold already: its memory, its threads, its open
//! files, the clock. Everything else is denied and told, but for a few that libraries try before they take another way.

use libc::*;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is made.
    Allow,
    /// It is made when all of this is true of its arguments, and denied otherwise.
    AllowIf(&'static [Test]),
    /// As [`Rule::AllowIf`], with the process's own number as the argument of this position, or 0 where `or_zero`.
    AllowSelf {
        /// Position of the argument.
        argument: u32,
        /// Whether 0 stands for the process itself.
        or_zero: bool,
    },
    /// The watcher looks where it leads. Without a watcher it is made: Landlock bounds it.
    Open,
    /// It fails with this error, which its callers expect, and is not told.
    Fail(i32),
}

/// A condition on an argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// The lower half of this argument is one of these.
    OneOf(u32, &'static [u32]),
    /// The lower half of this argument has these bits (the second) of those (the first).
    Bits(u32, u32, u32),
    /// This argument is zero, as a whole.
    Zero(u32),
}

const NOT_THERE: Rule = Rule::Fail(ENOSYS);

/// What a new thread shares with its process; a new process shares less.
const THREAD: u32 = (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD) as u32;
/// What makes a clone more than a thread.
const MORE_THAN_THREAD: u32 = (CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_PTRACE
    | CLONE_UNTRACED
    | CLONE_VFORK
    | CLONE_PARENT) as u32;
const IS_THREAD: &[Test] = &[Test::Bits(0, THREAD | MORE_THAN_THREAD, THREAD)];
/// Bits of a socket's type that are its type.
const SOCKET_TYPE: u32 = 0xf;
/// Both ends in this process, and with a peer for good: one that sends datagrams could send them to any path.
const IS_PAIR: &[Test] = &[Test::OneOf(0, &[AF_UNIX as u32]), Test::Bits(1, SOCKET_TYPE, SOCK_STREAM as u32)];
/// To the peer, and not to an address.
const TO_PEER: &[Test] = &[Test::Zero(4)];
/// `TCGETS2` of Linux: C libraries ask with it whether something is a terminal.
const TERMINAL_SETTINGS: u32 = 0x802c_542a;
const DEVICE_COMMANDS: &[Test] = &[Test::OneOf(
    1,
    &[
        FIONBIO as u32,
        FIOCLEX as u32,
        FIONCLEX as u32,
        FIONREAD as u32,
        TCGETS as u32,
        TIOCGWINSZ as u32,
        TERMINAL_SETTINGS,
    ],
)];
const FILE_COMMANDS: &[Test] = &[Test::OneOf(
    1,
    &[
        F_DUPFD as u32,
        F_GETFD as u32,
        F_SETFD as u32,
        F_GETFL as u32,
        F_SETFL as u32,
        F_DUPFD_CLOEXEC as u32,
        F_GETPIPE_SZ as u32,
    ],
)];
/// Names of threads and of memory, and questions.
const OWN_SETTINGS: &[Test] = &[Test::OneOf(
    0,
    &[
        PR_SET_NAME as u32,
        PR_GET_NAME as u32,
        PR_SET_VMA as u32,
        PR_GET_DUMPABLE as u32,
        PR_GET_SECCOMP as u32,
        PR_GET_NO_NEW_PRIVS as u32,
        PR_CAPBSET_READ as u32,
        PR_SET_THP_DISABLE as u32,
        PR_GET_THP_DISABLE as u32,
    ],
)];
/// A question, not a change.
const ASKS_PERSONALITY: &[Test] = &[Test::OneOf(0, &[u32::MAX])];
/// This thread.
const THIS_THREAD: &[Test] = &[Test::Zero(0)];
const SELF_OR_ZERO: Rule = Rule::AllowSelf { argument: 0, or_zero: true };

/// Calls with a rule. The kernel remembers which calls are allowed whatever their arguments, so their order costs nothing;
/// of the others those that serve a request come first.
pub(crate) fn rules() -> Vec<(c_long, Rule)> {
    let mut rules = vec![
        (SYS_sendto, Rule::AllowIf(TO_PEER)),
        (SYS_openat, Rule::Open),
        (SYS_fcntl, Rule::AllowIf(FILE_COMMANDS)),
        (SYS_ioctl, Rule::AllowIf(DEVICE_COMMANDS)),
        (SYS_prctl, Rule::AllowIf(OWN_SETTINGS)),
        (SYS_clone, Rule::AllowIf(IS_THREAD)),
        // Its arguments lie in memory, where a filter cannot look; callers take `clone` then.
        (SYS_clone3, NOT_THERE),
        (SYS_socketpair, Rule::AllowIf(IS_PAIR)),
        (SYS_personality, Rule::AllowIf(ASKS_PERSONALITY)),
        (SYS_sched_setaffinity, Rule::AllowIf(THIS_THREAD)),
        (SYS_prlimit64, SELF_OR_ZERO),
        // How a process ends itself after a fault.
        (SYS_tgkill, Rule::AllowSelf { argument: 0, or_zero: false }),
        // Tried by C libraries and run-times; they do without.
        (SYS_pkey_alloc, NOT_THERE),
        (SYS_pkey_mprotect, NOT_THERE),
        (SYS_futex_waitv, NOT_THERE),
        (SYS_membarrier, NOT_THERE),
        (SYS_ioprio_set, Rule::Fail(EPERM)),
    ];
    rules.extend(ALLOWED.iter().map(|call| (*call, Rule::Allow)));
    #[cfg(target_arch = "x86_64")]
    {
        rules.push((SYS_open, Rule::Open));
        rules.extend(ALLOWED_HERE.iter().map(|call| (*call, Rule::Allow)));
    }
    rules
}

/// Allowed whatever the arguments.
const ALLOWED: &[c_long] = &[
    // Memory.
    SYS_brk,
    SYS_get_mempolicy,
    SYS_madvise,
    SYS_mbind,
    SYS_mincore,
    SYS_mlock,
    SYS_mlock2,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_mseal,
    SYS_msync,
    SYS_munlock,
    SYS_munmap,
    SYS_set_mempolicy,
    // Threads, and the end.
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_get_robust_list,
    SYS_getcpu,
    SYS_rseq,
    SYS_sched_getaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_wait4,
    SYS_waitid,
    // Signals to oneself.
    SYS_restart_syscall,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_sigaltstack,
    // Time and chance.
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getrandom,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_timerfd_create,
    SYS_timerfd_gettime,
    SYS_timerfd_settime,
    SYS_times,
    // Questions.
    SYS_capget,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getgroups,
    SYS_getpgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getpriority,
    SYS_getresgid,
    SYS_getresuid,
    SYS_getrusage,
    SYS_getsid,
    SYS_gettid,
    SYS_getuid,
    SYS_sysinfo,
    SYS_umask,
    SYS_uname,
    // Files that are open, and what is known of others.
    SYS_close,
    SYS_close_range,
    SYS_dup,
    SYS_dup3,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fadvise64,
    SYS_fstat,
    SYS_fstatfs,
    SYS_getcwd,
    SYS_getdents64,
    SYS_lseek,
    SYS_newfstatat,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_read,
    SYS_readahead,
    SYS_readlinkat,
    SYS_readv,
    SYS_statfs,
    SYS_statx,
    SYS_write,
    SYS_writev,
    // Waiting for several.
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_pipe2,
    SYS_ppoll,
    SYS_pselect6,
    SYS_signalfd4,
    // Connections that others make, and pairs.
    SYS_accept,
    SYS_accept4,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_shutdown,
];

/// As [`ALLOWED`], calls that exist on this architecture alone.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    SYS_access,
    // Thread-local storage, and the leave to use tile registers.
    SYS_arch_prctl,
    SYS_dup2,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_getdents,
    SYS_getpgrp,
    SYS_getrlimit,
    SYS_lstat,
    SYS_pause,
    SYS_pipe,
    SYS_poll,
    SYS_readlink,
    SYS_select,
    SYS_stat,
    SYS_time,
];

/// The call's name.
pub(crate) fn name(call: i32) -> &'static str {
    let known = NAMES.iter().chain(NAMES_HERE).find(|(number, _)| *number == c_long::from(call));
    known.and_then(|(_, name)| name.strip_prefix("SYS_")).unwrap_or("unknown")
}

/// The highest number of a call that has a name. Those above came later, and their callers know what to do without.
pub(crate) fn known_max() -> u32 {
    let numbers = NAMES.iter().chain(NAMES_HERE).filter_map(|(number, _)| u32::try_from(*number).ok());
    numbers.max().unwrap_or(0)
}

macro_rules! named {
    ($($call:ident)*) => { &[$(($call, stringify!($call)),)*] };
}

#[rustfmt::skip]
const NAMES: &[(c_long, &str)] = named! {
        SYS_accept SYS_accept4 SYS_acct SYS_add_key SYS_adjtimex SYS_bind SYS_bpf SYS_brk SYS_capget SYS_capset
        SYS_chdir SYS_chroot SYS_clock_adjtime SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep
        SYS_clock_settime SYS_clone SYS_clone3 SYS_close SYS_close_range SYS_connect SYS_copy_file_range
        SYS_delete_module SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2
        SYS_eventfd2 SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64
        SYS_fallocate SYS_fanotify_init SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown
        SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_finit_module SYS_flistxattr SYS_flock
        SYS_fremovexattr SYS_fsconfig SYS_fsetxattr SYS_fsmount SYS_fsopen SYS_fspick SYS_fstat SYS_fstatfs
        SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu
        SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername
        SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid
        SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid
        SYS_getxattr SYS_init_module SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel
        SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit SYS_io_uring_enter SYS_io_uring_register
        SYS_io_uring_setup SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kcmp SYS_kexec_load SYS_keyctl SYS_kill
        SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat
        SYS_listen SYS_listxattr SYS_llistxattr SYS_lookup_dcookie SYS_lremovexattr SYS_lseek SYS_lsetxattr
        SYS_madvise SYS_mbind SYS_membarrier SYS_memfd_create SYS_memfd_secret SYS_migrate_pages SYS_mincore
        SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mount SYS_mount_setattr
        SYS_move_mount SYS_move_pages SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open
        SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_mseal SYS_msgctl SYS_msgget SYS_msgrcv
        SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep
        SYS_newfstatat SYS_nfsservctl SYS_open_by_handle_at SYS_open_tree SYS_openat SYS_openat2
        SYS_perf_event_open SYS_personality SYS_pidfd_getfd SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2
        SYS_pivot_root SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv
        SYS_preadv2 SYS_prlimit64 SYS_process_madvise SYS_process_mrelease SYS_process_vm_readv
        SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_quotactl
        SYS_quotactl_fd SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_reboot SYS_recvfrom SYS_recvmmsg
        SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat2 SYS_request_key SYS_restart_syscall
        SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn
        SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
        SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
        SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
        SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop
        SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_mempolicy
        SYS_set_mempolicy_home_node SYS_set_robust_list SYS_set_tid_address SYS_setdomainname SYS_setfsgid
        SYS_setfsuid SYS_setgid SYS_setgroups SYS_sethostname SYS_setitimer SYS_setns SYS_setpgid
        SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid SYS_setsockopt
        SYS_settimeofday SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown
        SYS_sigaltstack SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_swapoff
        SYS_swapon SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo SYS_syslog SYS_tee SYS_tgkill SYS_timer_create
        SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create
        SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_umount2 SYS_uname
        SYS_unlinkat SYS_unshare SYS_userfaultfd SYS_utimensat SYS_vhangup SYS_vmsplice SYS_wait4 SYS_waitid
        SYS_write SYS_writev
};

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NAMES_HERE: &[(c_long, &str)] = named! {
        SYS__sysctl SYS_access SYS_afs_syscall SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat
        SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old SYS_epoll_wait SYS_epoll_wait_old
        SYS_eventfd SYS_fchmodat2 SYS_fork SYS_futimesat SYS_get_thread_area SYS_getdents
        SYS_getpgrp SYS_getpmsg SYS_getrlimit SYS_inotify_init SYS_ioperm SYS_iopl SYS_kexec_file_load
        SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe SYS_poll
        SYS_putpmsg SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_security SYS_select
        SYS_set_thread_area SYS_setrlimit SYS_signalfd SYS_stat SYS_symlink SYS_sync_file_range SYS_sysfs
        SYS_time SYS_tuxcall SYS_unlink SYS_uselib SYS_ustat SYS_utime SYS_utimes SYS_vfork SYS_vserver
};

#[cfg(not(target_arch = "x86_64"))]
const NAMES_HERE: &[(c_long, &str)] = &[];

#[cfg(test)]
mod tests;
