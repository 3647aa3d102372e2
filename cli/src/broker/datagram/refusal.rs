//! Why a datagram is not let out: the errno that the program gets, and the sentence that the user reads.

use std::fmt;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::policy::Denial;
use crate::policy::route::{NOT_BY_NAME, NOT_REWRITTEN, Unproxied};

/// Why a datagram is not let out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Refusal {
    /// `--udp=deny`.
    Off,
    /// No proxy is asked for such an address.
    Unproxied(Unproxied),
    /// There is no association; why has been said.
    NotServed,
    Rule(Denial),
    /// A rule calls the name direct.
    Named,
    /// A rule calls direct what a rewrite has made of the destination.
    Rewritten,
    /// It goes to loopback, and comes from this address, which may leave the machine.
    Source(IpAddr),
}

impl Refusal {
    /// The errno for the program.
    pub(super) fn errno(&self) -> Errno {
        match self {
            Self::Rule(_) => Errno::ACCESS,
            Self::Off
            | Self::Unproxied(_)
            | Self::NotServed
            | Self::Named
            | Self::Rewritten
            | Self::Source(_) => Errno::NETUNREACH,
        }
    }

    /// Refusals with the same number have the same cause and are told once.
    pub(in crate::broker) fn cause(&self) -> u32 {
        const FIRST: u32 = 0x2000_0000;
        match self {
            Self::Off => FIRST,
            Self::Unproxied(Unproxied::Group) => FIRST + 1,
            Self::Unproxied(Unproxied::Link) => FIRST + 5,
            Self::NotServed => FIRST + 2,
            Self::Named => FIRST + 3,
            Self::Rewritten => FIRST + 4,
            Self::Source(_) => FIRST + 6,
            Self::Rule(denial) => denial.cause(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("UDP is off (--udp=deny)"),
            Self::Unproxied(why) => why.fmt(f),
            Self::NotServed => f.write_str("the proxy does not take it"),
            Self::Rule(denial) => denial.fmt(f),
            Self::Named => write!(f, "a rule calls it direct, and {NOT_BY_NAME}"),
            Self::Rewritten => write!(f, "a rule calls it direct, and {NOT_REWRITTEN}"),
            Self::Source(own) => write!(
                f,
                "it comes from {own}: once that address has left this machine, so would the answers from loopback"
            ),
        }
    }
}
