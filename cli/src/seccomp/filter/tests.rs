//! The filter, run by an interpreter of the instructions that it is made of (linux/filter.h).

use std::sync::LazyLock;

use super::*;
use presocks_abi::pass::{CALLS, Placement};

/// With `--bind`, and without.
static PROGRAM: LazyLock<Vec<sock_filter>> = LazyLock::new(|| program(PASS, true));
static WITHOUT_BIND: LazyLock<Vec<sock_filter>> = LazyLock::new(|| program(PASS, false));

const PASS: Pass = Pass::new(0x1122_3344_5566_7788);

/// What the kernel would do with a call.
fn verdict(arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    verdict_of(&PROGRAM, arch, number, arguments)
}

fn verdict_of(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let word = |place: u32| match place {
        NUMBER => number,
        ARCH => arch,
        place => {
            let argument = arguments[(place as usize - 16) / 8];
            (if place % 8 == 0 { argument } else { argument >> 32 }) as u32
        }
    };
    let (mut at, mut loaded) = (0, 0_u32);
    loop {
        let instruction = program[at];
        at += 1;
        let (yes, no) = (usize::from(instruction.jt), usize::from(instruction.jf));
        match u32::from(instruction.code) {
            0x20 => loaded = word(instruction.k),
            0x54 => loaded &= instruction.k,
            0x15 => at += if loaded == instruction.k { yes } else { no },
            0x35 => at += if loaded >= instruction.k { yes } else { no },
            0x05 => at += instruction.k as usize,
            0x06 => return instruction.k,
            code => panic!("an instruction that the filter is not made of: {code:#x}"),
        }
    }
}

fn native(number: u32, arguments: [u64; 6]) -> u32 {
    verdict(NATIVE.arch, number, arguments)
}

/// With an address where sendto and recvfrom have one.
const PLAIN: [u64; 6] = [3, 0x1000, 16, 0, 0x2000, 16];

#[test]
fn every_call_with_a_way_out_is_asked_about_and_passes_with_the_pass() {
    for (number, placement) in CALLS {
        let number = u32::try_from(number).unwrap();
        let mut arguments = PLAIN;
        if number == NATIVE.setsockopt {
            [arguments[1], arguments[2]] = [libc::SOL_SOCKET as u64, libc::SO_BINDTODEVICE as u64];
        }
        if placement == Placement::Sixth {
            arguments[5] = 0;
        }
        assert_eq!(native(number, arguments), NOTIFY, "call {number}");
        let passed: [u64; 6] = std::array::from_fn(|n| arguments[n] | PASS.words(placement)[n]);
        assert_eq!(native(number, passed), ALLOW, "call {number}");
        for (argument, bit) in [(0, 40), (3, 40), (5, 3), (5, 60)] {
            let mut forged = passed;
            forged[argument] ^= 1 << bit;
            let is_of_the_pass = PASS.words(placement)[argument] != 0;
            assert_eq!(native(number, forged), if is_of_the_pass { NOTIFY } else { ALLOW }, "call {number}");
        }
    }
}

#[test]
fn without_an_address_sends_and_receives_are_not_held_up() {
    for number in [NATIVE.sendto, NATIVE.recvfrom] {
        let mut arguments = PLAIN;
        arguments[4] = 0;
        assert_eq!(native(number, arguments), ALLOW);
        arguments[4] = 1 << 32;
        assert_eq!(native(number, arguments), NOTIFY);
    }
}

#[test]
fn only_the_knock_is_answered_by_the_filter_itself() {
    assert_eq!(native(NATIVE.connect, PASS.knock()), refuse(KNOCK_ERRNO));
    assert_eq!(native(NATIVE.connect, Pass::new(1).knock()), NOTIFY);
}

#[test]
fn sockets_are_refused_as_the_shim_refuses_them() {
    let flags = [0, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC];
    for domain in 0..50 {
        for kind in (0..12).flat_map(|kind| flags.map(|flag| kind | flag)) {
            for protocol in [0, 1, 2, 6, 17, 33, 58, 132, 136, 255, 256, 262] {
                let arguments = [domain, kind, protocol].map(|value| u64::from(value.cast_unsigned()));
                let [domain_, kind_, protocol_] = arguments;
                let expected = socket::refused(domain, kind, protocol).map_or(ALLOW, refuse);
                for abi in [&NATIVE, &NARROW] {
                    let verdict = verdict(abi.arch, abi.socket, [domain_, kind_, protocol_, 0, 0, 0]);
                    assert_eq!(verdict, expected, "socket({domain}, {kind}, {protocol})");
                }
            }
        }
    }
}

#[test]
fn only_the_options_that_matter_are_asked_about() {
    for level in [libc::IPPROTO_IP, libc::SOL_SOCKET, libc::IPPROTO_TCP, libc::IPPROTO_IPV6, 255] {
        for name in 0..100 {
            let expected = if option::kind(level, name).is_some() { NOTIFY } else { ALLOW };
            let arguments = [3, level as u64, name as u64, 0x1000, 4, 0];
            assert_eq!(native(NATIVE.setsockopt, arguments), expected, "option {level}, {name}");
        }
    }
}

#[test]
fn without_bind_listening_is_not_looked_at() {
    for abi in [&NATIVE, &NARROW] {
        for number in [abi.bind, abi.listen, abi.getsockname] {
            assert_eq!(verdict(abi.arch, number, PLAIN), NOTIFY);
            assert_eq!(verdict_of(&WITHOUT_BIND, abi.arch, number, PLAIN), ALLOW);
        }
        assert_eq!(verdict_of(&WITHOUT_BIND, abi.arch, abi.connect, PLAIN), NOTIFY);
    }
    for call in within_socketcall::LISTENING {
        let arguments = [call.into(), 0x1000, 0, 0, 0, 0];
        if let Some(socketcall) = NARROW.socketcall {
            assert_eq!(verdict_of(&WITHOUT_BIND, NARROW.arch, socketcall, arguments), ALLOW);
        }
    }
}

#[test]
fn a_filter_with_a_listener_is_asked_about_and_no_other() {
    for abi in [&NATIVE, &NARROW] {
        for flags in 0..64 {
            let expected = if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 { ALLOW } else { NOTIFY };
            let operation = libc::SECCOMP_SET_MODE_FILTER.into();
            assert_eq!(verdict(abi.arch, abi.seccomp, [operation, flags, 0x1000, 0, 0, 0]), expected);
        }
    }
}

#[test]
fn io_uring_is_not_there() {
    for number in IO_URING {
        for arch in ARCHES {
            assert_eq!(verdict(arch, number, [0; 6]), refuse(libc::ENOSYS));
        }
    }
}

#[test]
fn other_ways_to_call_the_kernel_are_caught_too_and_carry_no_pass() {
    let words = PASS.words(Placement::Sixth);
    let arguments: [u64; 6] = std::array::from_fn(|n| PLAIN[n] | words[n]);
    for number in [NARROW.connect, NARROW.sendmsg, NARROW.sendmmsg, NARROW.recvmsg, NARROW.getpeername] {
        assert_eq!(verdict(NARROW.arch, number, arguments), NOTIFY);
    }
    if let Some(socketcall) = NARROW.socketcall {
        for call in 0..21 {
            let listening = within_socketcall::LISTENING.contains(&call);
            let expected = if listening || within_socketcall::ALL.contains(&call) { NOTIFY } else { ALLOW };
            assert_eq!(verdict(NARROW.arch, socketcall, [call.into(), 0x1000, 0, 0, 0, 0]), expected);
        }
    }
    assert_eq!(verdict(0x1234, NATIVE.connect, PLAIN), refuse(libc::ENOSYS));
    #[cfg(target_arch = "x86_64")]
    assert_eq!(native(0x4000_0000 | NATIVE.connect, arguments), refuse(libc::ENOSYS));
}

#[test]
fn all_else_is_allowed_without_a_look_at_arguments() {
    let caught = CALLS.map(|(number, _)| u32::try_from(number).unwrap());
    let is_seen =
        |n: &u32| caught.contains(n) || [NATIVE.socket, NATIVE.seccomp].contains(n) || IO_URING.contains(n);
    for number in (0..600).filter(|n| !is_seen(n)) {
        assert_eq!(native(number, [u64::MAX; 6]), ALLOW);
    }
}

#[test]
fn the_kernel_takes_it() {
    assert!(PROGRAM.len() <= 4096, "BPF_MAXINSNS");
}
