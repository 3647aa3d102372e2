//! The pass: how a call of the shim's shows the seccomp filter that it has been judged already.
//!
//! A random number of the session's stands in bits of the argument registers that the kernel ignores: as the sixth argument of
//! calls that have five or fewer, in the upper halves of two `int` arguments of those that have six. A filter compares it and lets
//! the call go; everything else is notified to the broker. Only 64-bit calls can carry it.
//!
//! The *knock* is a connect() that this session's filter alone answers with [`KNOCK_ERRNO`]: by it a process learns whether the
//! filter stands before it. Without the filter the kernel says `EBADF`.

use core::fmt;

use libc::{c_int, c_long};

/// What the filter answers to the knock: an errno that connect() never has.
pub const KNOCK_ERRNO: c_int = libc::ENOANO;

/// What the kernel alone answers to the knock.
pub const NO_FILTER_ERRNO: c_int = libc::EBADF;

/// The calls that can carry a pass, by their numbers on this machine, and where they carry it.
pub const CALLS: [(c_long, Placement); 12] = [
    (libc::SYS_connect, Placement::Sixth),
    (libc::SYS_sendto, Placement::Halves),
    (libc::SYS_sendmsg, Placement::Sixth),
    (libc::SYS_sendmmsg, Placement::Sixth),
    (libc::SYS_recvfrom, Placement::Halves),
    (libc::SYS_recvmsg, Placement::Sixth),
    (libc::SYS_recvmmsg, Placement::Sixth),
    (libc::SYS_getpeername, Placement::Sixth),
    (libc::SYS_setsockopt, Placement::Sixth),
    (libc::SYS_bind, Placement::Sixth),
    (libc::SYS_listen, Placement::Sixth),
    (libc::SYS_getsockname, Placement::Sixth),
];

/// The sixth argument's index.
const SIXTH: usize = 5;
/// sendto(2) and recvfrom(2): the index of `sockfd`.
const FD: usize = 0;
/// sendto(2) and recvfrom(2): the index of `flags`.
const FLAGS: usize = 3;

/// A session's pass. Not a secret from the session's processes, but shown as `…` all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pass(u64);

/// Where a call carries the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The whole pass is the sixth argument, of a call that has no more than five.
    Sixth,
    /// Its upper half is the upper half of the first argument (`fd`), its lower half the upper half of the fourth (`flags`); both
    /// are of type `int`, so the kernel looks at their lower halves only.
    Halves,
}

/// One 32-bit word of `struct seccomp_data`, which is what a filter can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The argument's index, from 0.
    pub argument: usize,
    /// Its upper or lower half.
    pub half: Half,
    /// What stands there.
    pub value: u32,
}

/// A half of an argument register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Bits 32 to 63.
    Upper,
    /// Bits 0 to 31.
    Lower,
}

impl Pass {
    /// From a random number. Neither half is 0, which is what registers mostly hold.
    #[must_use]
    pub const fn new(random: u64) -> Self {
        Self(random | 0x1_0000_0001)
    }

    /// The bits of the pass in each of the six arguments, for `or` to put there. The arguments' own values must leave them 0: those
    /// of type `int` are to be extended with zeros.
    #[must_use]
    pub const fn words(self, placement: Placement) -> [u64; 6] {
        match placement {
            Placement::Sixth => [0, 0, 0, 0, 0, self.0],
            Placement::Halves => [(self.upper() as u64) << 32, 0, 0, (self.lower() as u64) << 32, 0, 0],
        }
    }

    /// The two words by which a filter knows a call that carries the pass.
    #[must_use]
    pub const fn parts(self, placement: Placement) -> [Part; 2] {
        match placement {
            Placement::Sixth => sixth(self.0),
            Placement::Halves => [
                Part { argument: FD, half: Half::Upper, value: self.upper() },
                Part { argument: FLAGS, half: Half::Upper, value: self.lower() },
            ],
        }
    }

    /// Is it in these arguments?
    #[must_use]
    pub fn is_carried(self, placement: Placement, arguments: &[u64; 6]) -> bool {
        self.parts(placement).iter().all(|part| part.is_in(arguments))
    }

    /// The arguments of the connect() that is the knock.
    #[must_use]
    pub const fn knock(self) -> [u64; 6] {
        [u64::MAX, 0, 0, 0, 0, !self.0]
    }

    /// The two words by which a filter knows the knock, among calls of connect().
    #[must_use]
    pub const fn knock_parts(self) -> [Part; 2] {
        sixth(!self.0)
    }

    const fn upper(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn lower(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass(…)")
    }
}

impl Placement {
    /// Where a call carries the pass, by its number on this machine; `None` for one that never does.
    #[must_use]
    pub const fn of(call: c_long) -> Option<Self> {
        match call {
            libc::SYS_connect
            | libc::SYS_sendmsg
            | libc::SYS_sendmmsg
            | libc::SYS_recvmsg
            | libc::SYS_recvmmsg
            | libc::SYS_getpeername
            | libc::SYS_setsockopt
            | libc::SYS_bind
            | libc::SYS_listen
            | libc::SYS_getsockname => Some(Self::Sixth),
            libc::SYS_sendto | libc::SYS_recvfrom => Some(Self::Halves),
            _ => None,
        }
    }
}

impl Part {
    /// Where the word stands in `struct seccomp_data` (seccomp(2)), in bytes.
    #[must_use]
    pub const fn offset(self) -> usize {
        const ARGUMENTS: usize = 16;
        let is_second = matches!(self.half, Half::Upper) == cfg!(target_endian = "little");
        ARGUMENTS + self.argument * size_of::<u64>() + if is_second { size_of::<u32>() } else { 0 }
    }

    fn is_in(self, arguments: &[u64; 6]) -> bool {
        let shift = match self.half {
            Half::Upper => 32,
            Half::Lower => 0,
        };
        arguments.get(self.argument).is_some_and(|argument| (argument >> shift) as u32 == self.value)
    }
}

const fn sixth(value: u64) -> [Part; 2] {
    [
        Part { argument: SIXTH, half: Half::Upper, value: (value >> 32) as u32 },
        Part { argument: SIXTH, half: Half::Lower, value: value as u32 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    const RANDOM: u64 = 0x8f5e_3a21_c490_7d66;
    const PLACEMENTS: [Placement; 2] = [Placement::Sixth, Placement::Halves];

    #[test]
    fn neither_half_is_nothing() {
        for random in [0, 1, 1 << 32, u64::MAX, RANDOM] {
            let pass = Pass::new(random);
            assert!(pass.upper() != 0 && pass.lower() != 0);
        }
    }

    #[test]
    fn what_carries_it_is_known_and_what_differs_in_a_bit_is_not() {
        let pass = Pass::new(RANDOM);
        for placement in PLACEMENTS {
            let words = pass.words(placement);
            assert!(pass.is_carried(placement, &words));
            assert!(!pass.is_carried(placement, &[0; 6]));
            for (place, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
                for bit in (0..64).filter(|bit| placement == Placement::Sixth || *bit >= 32) {
                    let mut other = words;
                    other[place] = word ^ 1 << bit;
                    assert!(!pass.is_carried(placement, &other), "{placement:?} {place} {bit}");
                }
            }
        }
    }

    #[test]
    fn the_kernels_part_of_the_arguments_is_left_alone() {
        let pass = Pass::new(u64::MAX);
        assert_eq!(pass.words(Placement::Sixth), [0, 0, 0, 0, 0, u64::MAX]);
        assert_eq!(pass.words(Placement::Halves), [0xffff_ffff_0000_0000, 0, 0, 0xffff_ffff_0000_0000, 0, 0]);
        let mut arguments = Pass::new(RANDOM).words(Placement::Halves);
        arguments[FD] |= u64::from((-1_i32).cast_unsigned());
        arguments[FLAGS] |= 0x4000;
        assert!(Pass::new(RANDOM).is_carried(Placement::Halves, &arguments));
        assert_eq!(arguments[FD] as c_int, -1);
    }

    #[test]
    fn the_knock_is_not_the_pass() {
        let pass = Pass::new(RANDOM);
        assert!(!pass.is_carried(Placement::Sixth, &pass.knock()));
        assert!(pass.knock_parts().iter().all(|part| part.is_in(&pass.knock())));
        assert_eq!(pass.knock()[FD] as c_int, -1);
    }

    #[test]
    fn a_part_stands_where_the_kernel_puts_it() {
        let part = |argument, half| Part { argument, half, value: 0 };
        let (first, second) = if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) };
        assert_eq!(part(0, Half::Lower).offset(), 16 + first);
        assert_eq!(part(0, Half::Upper).offset(), 16 + second);
        assert_eq!(part(5, Half::Upper).offset(), 56 + second);
    }

    #[test]
    fn every_call_has_one_place() {
        assert_eq!(Placement::of(libc::SYS_sendto), Some(Placement::Halves));
        assert_eq!(Placement::of(libc::SYS_recvfrom), Some(Placement::Halves));
        assert_eq!(Placement::of(libc::SYS_connect), Some(Placement::Sixth));
        assert_eq!(Placement::of(libc::SYS_write), None);
        for (place, (number, placement)) in CALLS.iter().enumerate() {
            assert_eq!(Placement::of(*number), Some(*placement), "{place}");
        }
    }

    #[test]
    fn it_is_not_printed() {
        assert_eq!(format!("{:?}", Pass::new(RANDOM)), "Pass(…)");
    }
}
