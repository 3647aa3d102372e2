//! connect() on a datagram socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use presocks_abi::socket::is_loopback;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::flows::Via;
use super::place::Place;
use super::refusal::Refusal;
use super::source::{connect_here, connect_to_loopback, dissolve, leave_source};
use super::sweep::keep_swept;
use super::token::identify;
use super::{Datagrams, speaks};
use crate::broker::program::Program;
use crate::policy::route::Unproxied;
use crate::socket::{canonical, own_address, peer_of};

/// How a datagram socket was connected.
pub(in crate::broker) enum Connected {
    /// To where the program asked for.
    There,
    /// To a sink: nothing may be sent.
    Sink(SocketAddr),
    Gate {
        address: SocketAddr,
        /// Whether it is known that the proxy takes datagrams.
        is_open: bool,
    },
    /// To a token.
    Token,
}

impl Datagrams {
    /// connect() on a datagram socket. Sends nothing, and does not wait: it is how programs learn their source address.
    ///
    /// # Errors
    /// Those of connect(2); `EHOSTUNREACH` for a stand-in of another session; `ENETUNREACH` for an address of a link that is not direct.
    pub(in crate::broker) fn connect(
        self: &Rc<Self>,
        socket: BorrowedFd<'_>,
        destination: SocketAddr,
        program: &Program<'_>,
    ) -> io::Result<Connected> {
        let cookie = sockopt::socket_cookie(socket)?;
        speaks(socket, destination)?;
        let place = self.place(destination, program);
        // No proxy ever takes anything there: connect() itself says so, as where there is no route.
        if let Place::Refused(why @ Refusal::Unproxied(Unproxied::Link)) = &place {
            return Err(self.refuse(program, destination, why));
        }
        self.flows.borrow_mut().forget_peer(cookie);
        let serving = |chain| self.of_chain(chain).ok().filter(|all| !all.is_refused());
        let (via, is_served) = match place {
            // Nobody is there, but getpeername(2) hides such a peer, by which it is known what is connected to this machine.
            Place::Local if destination.port() == 0 => return self.connect_to_sink(socket, destination),
            Place::Local if !leave_source(socket) => {
                let own = own_address(socket).map_or(destination.ip(), |own| own.ip().to_canonical());
                return Err(self.refuse(program, destination, &Refusal::Source(own)));
            }
            Place::Local | Place::Direct => return self.connect_there(socket, destination),
            Place::Unknown if serving(0).is_some() => return Err(Errno::HOSTUNREACH.into()),
            Place::Resolver => (None, false),
            Place::Behind(chain) if let Some(all) = serving(chain) => (Some(chain), all.is_served()),
            Place::Behind(_) | Place::Refused(_) | Place::Unknown => {
                return self.connect_to_sink(socket, destination);
            }
        };
        let address = self.connect_to_gate(socket, destination, via)?;
        self.note_program(cookie, program);
        self.peers.insert(cookie, destination, address);
        if self.origin(cookie, address).is_some() {
            return Ok(Connected::Token);
        }
        let is_open = is_served && self.are_alike();
        Ok(Connected::Gate { address, is_open })
    }

    /// Where nothing may be sent.
    fn connect_to_sink(&self, socket: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<Connected> {
        let is_gate = |address| self.is_gate(address);
        let sink = self.sinks.connect(is_gate, socket, destination)?;
        self.peers.insert(sockopt::socket_cookie(socket)?, destination, sink);
        Ok(Connected::Sink(sink))
    }

    /// Where the program asked for: as it would itself, but with nothing between the look at its device and the connect (`device`).
    fn connect_there(&self, socket: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<Connected> {
        // In two steps: a thread that writes meanwhile must not take a half of either address.
        if self.stays_here(socket) && peer_of(socket).is_some_and(|peer| peer.ip() != destination.ip()) {
            dissolve(socket);
        }
        if is_loopback(destination.ip()) {
            connect_to_loopback(socket, destination)?;
        } else {
            rustix::net::connect(socket, &destination)?;
        }
        Ok(Connected::There)
    }

    fn connect_to_gate(
        self: &Rc<Self>,
        socket: BorrowedFd<'_>,
        destination: SocketAddr,
        via: Via,
    ) -> io::Result<SocketAddr> {
        self.must_be_here(socket)?;
        let gates = &self.gates;
        let is_ours = |address| self.sinks.has(address) || self.is_gate(address);
        let gate = connect_here(is_ours, socket, destination, |source| {
            let source = source.map(|source| source.ip().to_canonical());
            let is_v6 = source.map_or(destination.ip().to_canonical().is_ipv6(), |source| source.is_ipv6());
            if is_v6 && let Ok(port) = gates.port(self, true) {
                // Never at the source address, which may leave this machine: from then on the socket would speak to another.
                return Ok((Ipv6Addr::LOCALHOST, port).into());
            }
            let port = gates.port(self, false)?;
            let source = source.filter(IpAddr::is_ipv4);
            Ok(SocketAddr::new(source.unwrap_or(Ipv4Addr::LOCALHOST.into()), port))
        })?;
        // Only now: dissolving an earlier connection may have given the port away.
        let who = identify(socket)?;
        let own = own_address(socket).map(canonical).ok_or(Errno::NETUNREACH)?;
        let mut flows = self.flows.borrow_mut();
        if !flows.is_taken(own, who.cookie) {
            flows.connect(who, (canonical(destination), via), canonical(gate), own);
            drop(flows);
            keep_swept(self);
            return Ok(gate);
        }
        drop(flows);
        // Another socket shares its address (SO_REUSEPORT): a token tells them apart. It is at loopback, as an IPv6 gate is: a thread that writes
        // meanwhile finds no half of another address.
        let token = self.token(who, canonical(destination), via)?;
        rustix::net::connect(socket, &token)?;
        Ok(token)
    }
}
