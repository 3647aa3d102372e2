//! Where a datagram's destination is, and by which way it is reached: on this machine, directly, through a chain, or not at all.
//!
//! It is asked for each socket and destination, with the program that sends. What then knows the answer keeps the chain with it (`flows`), so that
//! no datagram goes another way than the one that was found for it.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use presocks_abi::sockaddr::is_local;
use rustix::net::sockopt;

use super::Datagrams;
use super::refusal::Refusal;
use crate::broker::program::Program;
use crate::kernel_route::is_broadcast;
use crate::options::Udp;
use crate::policy::{NAME_SERVER_PORT, Server, Way, is_at};

use crate::policy::route::{Protocol, Unproxied};

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

/// Does the kernel refuse this refused destination as well, to a socket that may not broadcast (socket(7), `SO_BROADCAST`)?
pub(super) fn is_forbidden(socket: BorrowedFd<'_>, destination: SocketAddr, why: &Refusal) -> bool {
    let ip = destination.ip().to_canonical();
    let is_broadcast = *why == Refusal::Unproxied(Unproxied::Group) && ip.is_ipv4() && !ip.is_multicast();
    is_broadcast && sockopt::socket_broadcast(socket) == Ok(false)
}

impl Datagrams {
    /// Where a destination is for this program.
    pub(in crate::broker) fn place(&self, destination: SocketAddr, program: &Program<'_>) -> Place {
        match self.place_for(destination, &|| program.names()) {
            // That of a network here is some host's where the proxy is.
            Place::Behind(_) if is_broadcast(destination.ip()) => {
                Place::Refused(Refusal::Unproxied(Unproxied::Group))
            }
            place => place,
        }
    }

    /// The same, by the names that the program goes by.
    pub(super) fn place_for(&self, destination: SocketAddr, program: &dyn Fn() -> Vec<String>) -> Place {
        if is_local(destination) {
            return Place::Local;
        }
        if destination.port() == NAME_SERVER_PORT {
            return match self.policy.server(destination, Protocol::Udp, program) {
                Server::Denied(denial) => Place::Refused(Refusal::Rule(denial)),
                Server::Itself(target) if is_at(&target, destination) => Place::Direct,
                Server::Itself(_) | Server::Ours => match Unproxied::of_address(destination.ip()) {
                    Some(Unproxied::Group) => Place::Refused(Refusal::Unproxied(Unproxied::Group)),
                    // Ours answers for a server of a link as for any.
                    Some(Unproxied::Link) | None => Place::Resolver,
                },
            };
        }
        match self.policy.way(destination, program) {
            Way::Unknown | Way::Direct | Way::Chain(_) | Way::Unproxied(_) if self.udp == Udp::Deny => {
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
}
