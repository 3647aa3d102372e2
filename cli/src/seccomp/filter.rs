//! The filter: which system calls are let pass, refused, or brought before the broker (seccomp(2), bpf(4)).
//!
//! | call | then |
//! | --- | --- |
//! | connect, sendmsg, sendmmsg, recvmsg, recvmmsg, getpeername; sendto and recvfrom with an address | the broker is asked, unless the call carries the pass |
//! | setsockopt of an option that sends packets or leads them astray | likewise |
//! | bind, listen, getsockname | likewise, in a session with `--bind`; else allowed |
//! | socket() for what cannot be proxied | refused, as the shim does |
//! | seccomp() for a listener (seccomp_unotify(2)) | the broker is asked, so that it can say why there is none |
//! | io_uring | `ENOSYS`: its requests pass no filter; programs go on without it |
//! | socketcall (i386) | the broker is asked: the arguments are in memory |
//! | x32 | `ENOSYS`, as on a kernel without it |
//! | all else | allowed; the kernel keeps a bit map of these, so that they cost next to nothing |
//!
//! A filter sees registers, never memory. The pass is in bits of registers that the kernel ignores (`presocks_abi::pass`).

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_int, sock_filter,
};
use presocks_abi::pass::{Half, KNOCK_ERRNO, Part, Pass, Placement};
use presocks_abi::{option, socket};

/// The numbers of the calls that matter, in one of the ways to call the kernel.
pub(crate) struct Abi {
    /// `AUDIT_ARCH_…` (linux/audit.h).
    pub(crate) arch: u32,
    pub(crate) is_narrow: bool,
    pub(crate) connect: u32,
    pub(crate) sendto: u32,
    pub(crate) sendmsg: u32,
    pub(crate) sendmmsg: u32,
    pub(crate) recvfrom: u32,
    pub(crate) recvmsg: u32,
    /// The second one takes the time in 64 bits.
    pub(crate) recvmmsg: [u32; 2],
    pub(crate) getpeername: u32,
    pub(crate) setsockopt: u32,
    pub(crate) bind: u32,
    pub(crate) listen: u32,
    pub(crate) getsockname: u32,
    pub(crate) socket: u32,
    pub(crate) seccomp: u32,
    /// One call for all of them (socketcall(2)).
    pub(crate) socketcall: Option<u32>,
}

/// The same everywhere (they came late).
const IO_URING: [u32; 3] = [425, 426, 427];

#[cfg(target_arch = "x86_64")]
const ARCHES: [u32; 2] = [0xc000_003e, 0x4000_0003];
#[cfg(target_arch = "aarch64")]
const ARCHES: [u32; 2] = [0xc000_00b7, 0x4000_0028];

/// This machine's own.
pub(crate) const NATIVE: Abi = Abi {
    arch: ARCHES[0],
    is_narrow: false,
    connect: libc::SYS_connect as u32,
    sendto: libc::SYS_sendto as u32,
    sendmsg: libc::SYS_sendmsg as u32,
    sendmmsg: libc::SYS_sendmmsg as u32,
    recvfrom: libc::SYS_recvfrom as u32,
    recvmsg: libc::SYS_recvmsg as u32,
    recvmmsg: [libc::SYS_recvmmsg as u32; 2],
    getpeername: libc::SYS_getpeername as u32,
    setsockopt: libc::SYS_setsockopt as u32,
    bind: libc::SYS_bind as u32,
    listen: libc::SYS_listen as u32,
    getsockname: libc::SYS_getsockname as u32,
    socket: libc::SYS_socket as u32,
    seccomp: libc::SYS_seccomp as u32,
    socketcall: None,
};

/// That of 32-bit programs: i386 (linux/unistd_32.h).
#[cfg(target_arch = "x86_64")]
pub(crate) const NARROW: Abi = Abi {
    arch: ARCHES[1],
    is_narrow: true,
    connect: 362,
    sendto: 369,
    sendmsg: 370,
    sendmmsg: 345,
    recvfrom: 371,
    recvmsg: 372,
    recvmmsg: [337, 417],
    getpeername: 368,
    setsockopt: 366,
    bind: 361,
    listen: 363,
    getsockname: 367,
    socket: 359,
    seccomp: 354,
    socketcall: Some(102),
};

/// That of 32-bit programs: ARM EABI.
#[cfg(target_arch = "aarch64")]
pub(crate) const NARROW: Abi = Abi {
    arch: ARCHES[1],
    is_narrow: true,
    connect: 283,
    sendto: 290,
    sendmsg: 296,
    sendmmsg: 374,
    recvfrom: 292,
    recvmsg: 297,
    recvmmsg: [365, 417],
    getpeername: 287,
    setsockopt: 294,
    bind: 282,
    listen: 284,
    getsockname: 286,
    socket: 281,
    seccomp: 383,
    socketcall: None,
};

/// The calls within socketcall(2) that the broker is asked about (linux/net.h), as the table above has them.
pub(crate) mod within_socketcall {
    pub(crate) const SOCKET: u32 = 1;
    pub(crate) const BIND: u32 = 2;
    pub(crate) const CONNECT: u32 = 3;
    pub(crate) const LISTEN: u32 = 4;
    pub(crate) const GETSOCKNAME: u32 = 6;
    pub(crate) const GETPEERNAME: u32 = 7;
    pub(crate) const SENDTO: u32 = 11;
    pub(crate) const RECVFROM: u32 = 12;
    pub(crate) const SETSOCKOPT: u32 = 14;
    pub(crate) const SENDMSG: u32 = 16;
    pub(crate) const RECVMSG: u32 = 17;
    pub(crate) const RECVMMSG: u32 = 19;
    pub(crate) const SENDMMSG: u32 = 20;
    pub(crate) const ALL: [u32; 10] =
        [SOCKET, CONNECT, GETPEERNAME, SENDTO, RECVFROM, SETSOCKOPT, SENDMSG, RECVMSG, RECVMMSG, SENDMMSG];
    /// Those that are asked about with `--bind`.
    pub(crate) const LISTENING: [u32; 3] = [BIND, LISTEN, GETSOCKNAME];
}

// struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The place of an argument's lower half. (Both machines are little-endian.)
const fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

const fn high(argument: u32) -> u32 {
    low(argument) + 4
}

/// Words of a call, and what is to stand there.
fn words(parts: [Part; 2]) -> [(u32, u32); 2] {
    parts.map(|part| {
        let argument = u32::try_from(part.argument).unwrap_or_default();
        let place = if part.half == Half::Upper { high(argument) } else { low(argument) };
        (place, part.value)
    })
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

const fn refuse(errno: c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

/// The filter of a session. `bind`: the broker is asked about listening, too.
pub(crate) fn program(pass: Pass, bind: bool) -> Vec<sock_filter> {
    let native = rules(&NATIVE, Some(pass), bind);
    let narrow = rules(&NARROW, None, bind);
    let mut program = vec![load(ARCH)];
    for (abi, rules) in [(&NATIVE, native), (&NARROW, narrow)] {
        program.extend([if_equal(abi.arch, 1, 0), jump(rules.len())]);
        program.extend(rules);
    }
    program.push(end(refuse(libc::ENOSYS)));
    program
}

/// The rules for one way to call the kernel. Without a pass nothing carries it: the shim is of one kind only.
fn rules(abi: &Abi, pass: Option<Pass>, bind: bool) -> Vec<sock_filter> {
    let ask_at = |placement| {
        let mut body = pass.map(|pass| if_all(&words(pass.parts(placement)), ALLOW)).unwrap_or_default();
        body.push(end(NOTIFY));
        body
    };
    let ask = || ask_at(Placement::Sixth);
    let ask_with_address = || {
        let mut body = if_all(&[(low(4), 0), (high(4), 0)], ALLOW);
        body.extend(ask_at(Placement::Halves));
        body
    };
    let knock = pass.map(|pass| if_all(&words(pass.knock_parts()), refuse(KNOCK_ERRNO)));
    let mut connect = knock.unwrap_or_default();
    connect.extend(ask());

    let mut rules = vec![load(NUMBER)];
    if cfg!(target_arch = "x86_64") && !abi.is_narrow {
        // x32 has numbers of its own, with this bit.
        const X32: u32 = 0x4000_0000;
        rules.extend([instruction(BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1), end(refuse(libc::ENOSYS))]);
    }
    // The frequent ones first.
    let calls = [
        (abi.sendto, ask_with_address()),
        (abi.recvfrom, ask_with_address()),
        (abi.recvmsg, ask()),
        (abi.sendmsg, ask()),
        (abi.setsockopt, options(ask())),
        (abi.connect, connect),
        (abi.socket, sockets()),
        (abi.getpeername, ask()),
        (abi.sendmmsg, ask()),
        (abi.recvmmsg[0], ask()),
        (abi.recvmmsg[1], ask()),
    ];
    let listening = [abi.bind, abi.listen, abi.getsockname].map(|number| (number, ask()));
    for (number, body) in calls.into_iter().chain(listening.into_iter().filter(|_| bind)) {
        rules.extend(when(number, body));
    }
    if let Some(number) = abi.socketcall {
        let mut body = vec![load(low(0))];
        let listening = within_socketcall::LISTENING.into_iter().filter(|_| bind);
        let calls = within_socketcall::ALL.into_iter().chain(listening);
        body.extend(calls.flat_map(|call| when(call, vec![end(NOTIFY)])));
        body.push(end(ALLOW));
        rules.extend(when(number, body));
    }
    rules.extend(when(abi.seccomp, listeners()));
    for number in IO_URING {
        rules.extend(when(number, vec![end(refuse(libc::ENOSYS))]));
    }
    rules.push(end(ALLOW));
    rules
}

/// `presocks_abi::socket::refused` as a filter; a test compares them.
fn sockets() -> Vec<sock_filter> {
    const FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let of_kind = |kind: c_int, body: Vec<sock_filter>| when(kind.unsigned_abs(), body);
    let verdicts = |verdicts: &[(c_int, u32)], otherwise: u32| {
        let mut body = vec![load(low(2))];
        for (protocol, verdict) in verdicts {
            body.extend(when(protocol.unsigned_abs(), vec![end(*verdict)]));
        }
        body.push(end(otherwise));
        body
    };
    let unsupported = refuse(libc::EPROTONOSUPPORT);
    let denied = refuse(libc::EPERM);
    let load_kind = [load(low(1)), instruction(BPF_ALU | BPF_AND | BPF_K, (!FLAGS).cast_unsigned(), 0, 0)];
    let stream = [(0, ALLOW), (libc::IPPROTO_TCP, ALLOW), (libc::IPPROTO_MPTCP, ALLOW)];
    let datagram = [
        (0, ALLOW),
        (libc::IPPROTO_UDP, ALLOW),
        (libc::IPPROTO_ICMP, denied),
        (libc::IPPROTO_ICMPV6, denied),
    ];
    let mut internet = load_kind.to_vec();
    internet.extend(of_kind(libc::SOCK_STREAM, verdicts(&stream, unsupported)));
    internet.extend(of_kind(libc::SOCK_DGRAM, verdicts(&datagram, unsupported)));
    internet.extend(of_kind(libc::SOCK_RAW, vec![end(denied)]));
    internet.extend(of_kind(socket::SOCK_PACKET, vec![end(denied)]));
    internet.push(end(unsupported));

    let mut body = vec![load(low(0))];
    for domain in [libc::AF_INET, libc::AF_INET6] {
        body.extend(of_kind(domain, internet.clone()));
    }
    for domain in socket::LOCAL_FAMILIES {
        body.extend(of_kind(domain, vec![end(ALLOW)]));
    }
    for domain in [libc::AF_PACKET, socket::AF_XDP] {
        body.extend(of_kind(domain, vec![end(denied)]));
    }
    body.push(end(refuse(libc::EAFNOSUPPORT)));
    body
}

/// Its second argument has the flags.
fn listeners() -> Vec<sock_filter> {
    const LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    let mut body = vec![load(low(1)), instruction(BPF_ALU | BPF_AND | BPF_K, LISTENER, 0, 0)];
    body.extend(when(LISTENER, vec![end(NOTIFY)]));
    body.push(end(ALLOW));
    body
}

/// `ask` for the options of `presocks_abi::option`; all others are allowed.
fn options(ask: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for (level, name) in option::LOOKED_AT {
        body.extend([load(low(1)), if_equal(level.unsigned_abs(), 0, 2 + ask.len()), load(low(2))]);
        body.extend(when(name.unsigned_abs(), ask.clone()));
    }
    body.push(end(ALLOW));
    body
}

/// Ends with `verdict` when all words of the call have these values; else goes on behind, with something else loaded.
fn if_all(words: &[(u32, u32)], verdict: u32) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for (done, (place, value)) in words.iter().enumerate() {
        let behind = 2 * (words.len() - done - 1) + 1;
        body.extend([load(*place), if_equal(*value, 0, behind)]);
    }
    body.push(end(verdict));
    body
}

/// `body`, which ends, when what is loaded equals `value`; else goes on behind.
fn when(value: u32, body: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut rule = match u8::try_from(body.len()) {
        Ok(_) => vec![if_equal(value, 0, body.len())],
        // Further than a condition can jump.
        Err(_) => vec![if_equal(value, 1, 0), jump(body.len())],
    };
    rule.extend(body);
    rule
}

fn if_equal(value: u32, equal: usize, else_: usize) -> sock_filter {
    let near = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, near(equal), near(else_))
}

fn load(place: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, place, 0, 0)
}

fn jump(distance: usize) -> sock_filter {
    const BPF_JA: u32 = 0;
    instruction(BPF_JMP | BPF_JA, u32::try_from(distance).unwrap_or(u32::MAX), 0, 0)
}

fn end(verdict: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, verdict, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

#[cfg(test)]
mod tests;
