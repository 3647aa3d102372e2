//! Where a datagram's destination is, and by which way it is reached: on this machine, directly, through a chain, or not at all.
//!
//! It is asked for each socket and destination, with the program that sends. What then knows the answer keeps the chain with it (`flows`), so that
//! no datagram goes another way than the one that was found for it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use presocks_abi::sockaddr::is_local;
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::args::Udp;
use crate::broker::destination::{Denial, Server, Way, is_at, server, way};
use crate::broker::kernel_route::is_broadcast;
use crate::broker::program::Program;
use crate::broker::{Broker, resolver};
use crate::route::{NOT_BY_NAME, NOT_REWRITTEN, Protocol, Unproxied};

/// Where a destination is.
#[derive(Debug)]
pub(in crate::broker) enum Place {
    /// On this machine.
    Local,
    /// Declared direct.
    Direct,
    /// A name server: ours answers.
    Resolver,
    /// Behind the chain with this index.
    Behind(usize),
    /// Nowhere: a stand-in that this session has not given out.
    Unknown,
    Refused(Refusal),
}

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

/// Where a destination is for this program.
pub(in crate::broker) fn place(broker: &Broker, destination: SocketAddr, program: &Program<'_>) -> Place {
    match place_for(broker, destination, &|| program.names()) {
        // That of a network here is some host's where the proxy is.
        Place::Behind(_) if is_broadcast(destination.ip()) => {
            Place::Refused(Refusal::Unproxied(Unproxied::Group))
        }
        place => place,
    }
}

/// Does the kernel refuse this refused destination as well, to a socket that may not broadcast (socket(7), `SO_BROADCAST`)?
pub(super) fn is_forbidden(socket: BorrowedFd<'_>, destination: SocketAddr, why: &Refusal) -> bool {
    let ip = destination.ip().to_canonical();
    let is_broadcast = *why == Refusal::Unproxied(Unproxied::Group) && ip.is_ipv4() && !ip.is_multicast();
    is_broadcast && sockopt::socket_broadcast(socket) == Ok(false)
}

/// The same, by the names that the program goes by.
pub(super) fn place_for(
    broker: &Broker,
    destination: SocketAddr,
    program: &dyn Fn() -> Vec<String>,
) -> Place {
    if is_local(destination) {
        return Place::Local;
    }
    if destination.port() == resolver::PORT {
        return match server(broker, destination, Protocol::Udp, program) {
            Server::Denied(denial) => Place::Refused(Refusal::Rule(denial)),
            Server::Itself(target) if is_at(&target, destination) => Place::Direct,
            Server::Itself(_) | Server::Ours => match Unproxied::of_address(destination.ip()) {
                Some(Unproxied::Group) => Place::Refused(Refusal::Unproxied(Unproxied::Group)),
                // Ours answers for a server of a link as for any.
                Some(Unproxied::Link) | None => Place::Resolver,
            },
        };
    }
    match way(broker, destination, program) {
        Way::Unknown | Way::Direct | Way::Chain(_) | Way::Unproxied(_)
            if broker.settings.udp == Udp::Deny =>
        {
            Place::Refused(Refusal::Off)
        }
        Way::Unknown => Place::Unknown,
        Way::Direct => Place::Direct,
        Way::Denied(denial) => Place::Refused(Refusal::Rule(denial)),
        Way::Unproxied(why) => Place::Refused(Refusal::Unproxied(why)),
        Way::Impossible { is_named: true } => Place::Refused(Refusal::Named),
        Way::Impossible { is_named: false } => Place::Refused(Refusal::Rewritten),
        Way::Chain(chain) => Place::Behind(chain),
    }
}
