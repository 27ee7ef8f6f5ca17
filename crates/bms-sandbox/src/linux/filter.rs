//! The filter of calls as a program for the kernel.
//!
//! Classic BPF (`struct sock_filter`, see `seccomp(2)`) over `struct seccomp_data`: the number of the call, the
//! architecture, the instruction's address, six arguments of 64 bits. One block a call, each ends in a return.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, ENOSYS,
    EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_USER_NOTIF,
    sock_filter,
};

use super::calls::{self, Rule, Test};

/// What becomes of a denied call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The watcher is asked.
    Told,
    /// It fails.
    Silent,
}

/// Where the call's number stands.
const NUMBER: u32 = 0;
/// Where the architecture stands.
const ARCHITECTURE: u32 = 4;
/// Where the first argument stands; the lower half comes first on the architectures here.
const ARGUMENTS: u32 = 16;
/// Numbers from here on are the calls of x32, whose arguments mean other things.
const X32: u32 = 0x4000_0000;
/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64` of `linux/audit.h`.
const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// The program.
pub(crate) fn program(denial: Denial) -> Vec<sock_filter> {
    let denied = match denial {
        Denial::Told => SECCOMP_RET_USER_NOTIF,
        Denial::Silent => fails(EPERM),
    };
    let mut program = vec![
        load(ARCHITECTURE),
        jump(BPF_JEQ, NATIVE, 1, 0),
        // Calls of another architecture have other numbers; nothing here makes any.
        ret(SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(BPF_JGE, X32, 0, 1),
        ret(fails(ENOSYS)),
    ];
    for (call, rule) in calls::rules() {
        let body = match rule {
            Rule::Allow => vec![ret(SECCOMP_RET_ALLOW)],
            Rule::AllowIf(tests) => when(tests, denied),
            Rule::AllowSelf { argument, or_zero } => {
                let own = std::process::id();
                let numbers = if or_zero { vec![own, 0] } else { vec![own] };
                let mut body = one_of(argument, &numbers, denied);
                body.push(ret(SECCOMP_RET_ALLOW));
                body
            }
            Rule::Open => vec![ret(match denial {
                Denial::Told => SECCOMP_RET_USER_NOTIF,
                Denial::Silent => SECCOMP_RET_ALLOW,
            })],
            Rule::Fail(error) => vec![ret(fails(error))],
        };
        // Blocks are a dozen instructions, a jump reaches 255; the calls' numbers are small and positive.
        program.push(jump(BPF_JEQ, call as u32, 0, body.len() as u8));
        program.extend(body);
    }
    program.extend([jump(BPF_JGT, calls::known_max(), 0, 1), ret(fails(ENOSYS)), ret(denied)]);
    program
}

fn when(tests: &[Test], denied: u32) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for test in tests {
        body.extend(match *test {
            Test::OneOf(argument, values) => one_of(argument, values, denied),
            Test::Bits(argument, mask, bits) => vec![
                load(lower(argument)),
                statement(BPF_ALU | BPF_AND | BPF_K, mask),
                jump(BPF_JEQ, bits, 1, 0),
                ret(denied),
            ],
            Test::Zero(argument) => vec![
                load(lower(argument)),
                jump(BPF_JEQ, 0, 1, 0),
                ret(denied),
                load(lower(argument) + 4),
                jump(BPF_JEQ, 0, 1, 0),
                ret(denied),
            ],
        });
    }
    body.push(ret(SECCOMP_RET_ALLOW));
    body
}

/// Goes on behind it when the argument is one of the values.
fn one_of(argument: u32, values: &[u32], denied: u32) -> Vec<sock_filter> {
    let mut body = vec![load(lower(argument))];
    for (at, value) in values.iter().enumerate() {
        // Over the comparisons that are left, and the return.
        body.push(jump(BPF_JEQ, *value, (values.len() - at) as u8, 0));
    }
    body.push(ret(denied));
    body
}

fn lower(argument: u32) -> u32 {
    ARGUMENTS + 8 * argument
}

fn fails(error: i32) -> u32 {
    SECCOMP_RET_ERRNO | error as u32
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn ret(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, action)
}

fn statement(code: u32, k: u32) -> sock_filter {
    // Codes of classic BPF have 16 bits.
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(test: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | test | BPF_K) as u16, jt: yes, jf: no, k }
}

#[cfg(test)]
mod tests;
