use std::collections::BTreeSet;

use libc::*;

use super::*;

/// Runs a program as the kernel does.
fn run(program: &[sock_filter], architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(call.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let step = &program[at];
        let code = u32::from(step.code);
        at += 1;
        if code == BPF_LD | BPF_W | BPF_ABS {
            let from = step.k as usize;
            accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
        } else if code == BPF_ALU | BPF_AND | BPF_K {
            accumulator &= step.k;
        } else if code == BPF_RET | BPF_K {
            return step.k;
        } else {
            let yes = match code & 0xf0 {
                BPF_JEQ => accumulator == step.k,
                BPF_JGT => accumulator > step.k,
                BPF_JGE => accumulator >= step.k,
                other => panic!("{other:#x}"),
            };
            at += usize::from(if yes { step.jt } else { step.jf });
        }
    }
}

#[track_caller]
fn check(call: c_long, arguments: [u64; 6], told: u32, silent: u32) {
    for (denial, expected) in [(Denial::Told, told), (Denial::Silent, silent)] {
        let action = run(&program(denial), NATIVE, call as u32, arguments);
        assert_eq!(action, expected, "{call} {arguments:x?} {denial:?}");
    }
}

const DENIED: u32 = SECCOMP_RET_ERRNO | EPERM as u32;

#[test]
fn what_is_on_no_list_is_denied() {
    let listed: BTreeSet<u32> = calls::rules().into_iter().map(|(call, _)| call as u32).collect();
    let program = program(Denial::Told);
    for call in (0..=calls::known_max()).filter(|call| !listed.contains(call)) {
        assert_eq!(run(&program, NATIVE, call, [0; 6]), SECCOMP_RET_USER_NOTIF, "{call}");
    }
    let dangerous = [
        SYS_execve,
        SYS_execveat,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_socket,
        SYS_connect,
        SYS_bind,
        SYS_listen,
        SYS_io_uring_setup,
        SYS_bpf,
        SYS_perf_event_open,
        SYS_mount,
        SYS_unshare,
        SYS_setns,
        SYS_keyctl,
        SYS_add_key,
        SYS_memfd_create,
        SYS_kill,
        SYS_pidfd_open,
        SYS_pidfd_getfd,
        SYS_userfaultfd,
        SYS_seccomp,
        SYS_openat2,
        SYS_open_by_handle_at,
        SYS_unlinkat,
        SYS_renameat2,
        SYS_mkdirat,
        SYS_fchmodat,
        SYS_fchownat,
        SYS_setuid,
        SYS_chroot,
        SYS_init_module,
        SYS_kexec_load,
        SYS_sendmmsg,
        SYS_recvmsg,
        SYS_setsockopt,
        SYS_rt_sigqueueinfo,
        SYS_shmget,
        SYS_ftruncate,
        SYS_capset,
        SYS_landlock_restrict_self,
    ];
    dangerous.iter().for_each(|call| check(*call, [0; 6], SECCOMP_RET_USER_NOTIF, DENIED));
    #[cfg(target_arch = "x86_64")]
    [SYS_fork, SYS_vfork, SYS_creat, SYS_unlink, SYS_iopl, SYS_modify_ldt]
        .iter()
        .for_each(|call| check(*call, [0; 6], SECCOMP_RET_USER_NOTIF, DENIED));
}

#[test]
fn calls_of_later_kernels_and_other_architectures_do_not_exist() {
    let absent = SECCOMP_RET_ERRNO | ENOSYS as u32;
    check(c_long::from(calls::known_max()) + 1, [0; 6], absent, absent);
    check(c_long::from(X32), [0; 6], absent, absent);
    check(c_long::from(X32) + SYS_execve, [0; 6], absent, absent);
    let i386 = 0x4000_0003;
    assert_eq!(run(&program(Denial::Told), i386, SYS_read as u32, [0; 6]), SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn a_thread_is_allowed_and_a_process_is_not() {
    let thread = (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD) as u64;
    let with = |more: i32| [thread | u64::from(more as u32), 0, 0, 0, 0, 0];
    let usual = CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    check(SYS_clone, with(usual), SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW);
    for flags in [
        [SIGCHLD as u64, 0, 0, 0, 0, 0],
        [(CLONE_VM | CLONE_VFORK | SIGCHLD) as u64, 0, 0, 0, 0, 0],
        with(CLONE_NEWUSER),
        with(CLONE_NEWNS),
        with(CLONE_PTRACE),
    ] {
        check(SYS_clone, flags, SECCOMP_RET_USER_NOTIF, DENIED);
    }
    let absent = SECCOMP_RET_ERRNO | ENOSYS as u32;
    check(SYS_clone3, [0; 6], absent, absent);
}

#[test]
fn arguments_decide_where_a_call_reaches() {
    let allowed = (SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW);
    let denied = (SECCOMP_RET_USER_NOTIF, DENIED);
    let own = u64::from(std::process::id());
    for (call, arguments, (told, silent)) in [
        (SYS_socketpair, [AF_UNIX as u64, (SOCK_STREAM | SOCK_CLOEXEC) as u64, 0, 0, 0, 0], allowed),
        (SYS_socketpair, [AF_UNIX as u64, SOCK_DGRAM as u64, 0, 0, 0, 0], denied),
        (SYS_socketpair, [AF_INET as u64, SOCK_STREAM as u64, 0, 0, 0, 0], denied),
        (SYS_sendto, [3, 0x1000, 8, 0, 0, 0], allowed),
        (SYS_sendto, [3, 0x1000, 8, 0, 0x2000, 110], denied),
        // An address whose lower half is zero.
        (SYS_sendto, [3, 0x1000, 8, 0, 1 << 32, 110], denied),
        (SYS_ioctl, [0, TCGETS, 0, 0, 0, 0], allowed),
        (SYS_ioctl, [0, TIOCSTI, 0, 0, 0, 0], denied),
        (SYS_fcntl, [0, F_SETFL as u64, 0, 0, 0, 0], allowed),
        (SYS_fcntl, [0, F_SETOWN as u64, own, 0, 0, 0], denied),
        (SYS_prctl, [PR_SET_NAME as u64, 0, 0, 0, 0, 0], allowed),
        (SYS_prctl, [PR_SET_SECCOMP as u64, 0, 0, 0, 0, 0], denied),
        (SYS_tgkill, [own, own, SIGABRT as u64, 0, 0, 0], allowed),
        (SYS_tgkill, [own + 1, own + 1, SIGABRT as u64, 0, 0, 0], denied),
        (SYS_tgkill, [0, own, SIGABRT as u64, 0, 0, 0], denied),
        (SYS_prlimit64, [0, 7, 0, 0, 0, 0], allowed),
        (SYS_prlimit64, [own + 1, 7, 0, 0, 0, 0], denied),
        (SYS_sched_setaffinity, [0, 8, 0, 0, 0, 0], allowed),
        (SYS_sched_setaffinity, [1, 8, 0, 0, 0, 0], denied),
    ] {
        check(call, arguments, told, silent);
    }
    check(SYS_openat, [0; 6], SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW);
    #[cfg(target_arch = "x86_64")]
    check(SYS_arch_prctl, [0x1023, 18, 0, 0, 0, 0], SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW);
}
