//! Programs' datagrams: where each may go, and the way there and back.
//!
//! A datagram goes to loopback, to a destination that the user declared direct, to the broker's name server, or through the proxy; else it
//! is refused. The program sends it to an address of the broker's (`gate`), which knows by its book whose it is and where it is to go
//! (`flows`), and hands it to the proxy (`association`). Payloads are never changed, so a program's own calls see datagrams as they are.
//!
//! A socket is redirected only while nothing leads its packets off the loopback device; what would, is refused to it from then on.

mod association;
mod flows;
mod gate;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use presocks_abi::sockaddr::{in_family, is_local};
use presocks_abi::socket::is_loopback;
use presocks_proto::standin::{Kind, kind};
use rustix::io::Errno;
use rustix::net::{AddressFamily, bind, sockopt};
use tokio::task::spawn_local;

use super::dns::Transport;
use super::report::{Program, Refusal};
use super::sink::{connect_here, dissolve};
use super::socket::{canonical, leaves_loopback, network_namespace, own_address, peer_of};
use super::ticket::is_direct;
use super::{Broker, dns, resolver};
use crate::args::Udp;
use association::Associations;
use flows::{Cookie, Flows, Who};
use gate::Gates;

/// How often to look which sockets programs have closed.
const SWEEP: Duration = Duration::from_secs(2);

/// What the broker keeps for datagrams.
#[derive(Default)]
pub(super) struct Datagrams {
    gates: Gates,
    flows: RefCell<Flows>,
    associations: Associations,
    is_swept: Cell<bool>,
    /// Our network namespace, where the kernel tells.
    namespace: OnceCell<Option<u64>>,
}

impl Datagrams {
    /// Have datagrams of this socket been redirected?
    pub(super) fn has(&self, cookie: Cookie) -> bool {
        self.flows.borrow().has(cookie)
    }

    /// Has anybody been redirected?
    pub(super) fn is_used(&self) -> bool {
        !self.flows.borrow().is_empty()
    }

    /// Is this an address of ours, to which sockets are connected?
    pub(super) fn is_gate(&self, address: SocketAddr) -> bool {
        self.gates.has(address)
    }

    /// Whom an address of ours stands for to this socket.
    pub(super) fn origin(&self, cookie: Cookie, address: SocketAddr) -> Option<SocketAddr> {
        self.flows.borrow().origin(cookie, canonical(address))
    }
}

/// Where a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Local,
    /// Declared direct.
    Direct,
    /// A name server: ours answers.
    Resolver,
    /// Multicast or broadcast, which no proxy takes.
    Group,
    Elsewhere,
}

/// Where a destination is.
pub(super) fn place(broker: &Broker, destination: SocketAddr) -> Place {
    let address = destination.ip().to_canonical();
    if is_local(destination) {
        Place::Local
    } else if is_direct(broker, address) && !is_loopback(address) {
        Place::Direct
    } else if is_group(address) {
        Place::Group
    } else if destination.port() == resolver::PORT {
        Place::Resolver
    } else {
        Place::Elsewhere
    }
}

fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// How a datagram socket was connected.
pub(super) enum Connected {
    /// Not at all: the program may do it itself.
    Not,
    /// To a sink: nothing may be sent.
    Sink(SocketAddr),
    Gate {
        address: SocketAddr,
        /// Whether it is known that the proxy takes datagrams.
        is_open: bool,
    },
}

/// connect() on a datagram socket. Sends nothing, and does not wait: it is how programs learn their source address.
///
/// # Errors
/// Those of connect(2); `EHOSTUNREACH` for a stand-in of another session.
pub(super) fn connect(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
) -> io::Result<Connected> {
    let cookie = sockopt::socket_cookie(socket)?;
    speaks(socket, destination)?;
    broker.datagrams.flows.borrow_mut().forget_peer(cookie);
    let place = place(broker, destination);
    let is_refused = || is_denied(broker) || broker.datagrams.associations.is_refused();
    match place {
        Place::Local | Place::Direct => return Ok(Connected::Not),
        Place::Resolver => {}
        Place::Elsewhere if !is_refused() => {}
        Place::Elsewhere | Place::Group => {
            let is_gate = |address| broker.datagrams.is_gate(address);
            let sink = broker.sinks.connect(is_gate, socket, destination)?;
            broker.peers.borrow_mut().insert(cookie, destination, sink);
            return Ok(Connected::Sink(sink));
        }
    }
    meant(broker, destination)?;
    let address = connect_to_gate(broker, socket, destination)?;
    broker.peers.borrow_mut().insert(cookie, destination, address);
    let is_open = place == Place::Elsewhere && broker.datagrams.associations.is_served();
    Ok(Connected::Gate { address, is_open })
}

/// Can the socket speak to addresses of this kind at all?
///
/// # Errors
/// As the kernel has them: `EAFNOSUPPORT`, `ENETUNREACH`.
fn speaks(socket: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<()> {
    let is_v6 = sockopt::socket_domain(socket)? == AddressFamily::INET6;
    let is_v4_inside = destination.ip().to_canonical().is_ipv4();
    match (is_v6, destination) {
        (false, SocketAddr::V6(_)) => Err(Errno::AFNOSUPPORT.into()),
        (true, SocketAddr::V4(_)) if sockopt::ipv6_v6only(socket)? => Err(Errno::AFNOSUPPORT.into()),
        (true, SocketAddr::V6(_)) if is_v4_inside && sockopt::ipv6_v6only(socket)? => {
            Err(Errno::NETUNREACH.into())
        }
        _ => Ok(()),
    }
}

fn is_denied(broker: &Broker) -> bool {
    broker.settings.udp == Udp::Deny
}

/// # Errors
/// `EHOSTUNREACH` for a stand-in that this session has not given out.
fn meant(broker: &Broker, destination: SocketAddr) -> io::Result<()> {
    let is_known = match kind(destination.ip()) {
        Kind::Ordinary => true,
        Kind::StandIn(index) => broker.names.borrow().name(index).is_some(),
        Kind::Reserved => false,
    };
    if is_known { Ok(()) } else { Err(Errno::HOSTUNREACH.into()) }
}

fn connect_to_gate(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
) -> io::Result<SocketAddr> {
    must_be_here(broker, socket)?;
    let gates = &broker.datagrams.gates;
    let is_ours = |address| broker.sinks.has(address) || broker.datagrams.is_gate(address);
    let gate = connect_here(is_ours, socket, destination, |source| {
        let source = source.filter(|source| !has_scope(*source)).map(|source| source.ip().to_canonical());
        let is_v6 = source.map_or(destination.ip().to_canonical().is_ipv6(), |source| source.is_ipv6());
        match gates.port(broker, is_v6) {
            Ok(port) => {
                let loopback = if is_v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
                Ok(SocketAddr::new(source.unwrap_or(loopback), port))
            }
            // A machine without IPv6.
            Err(_) if is_v6 => Ok((Ipv4Addr::LOCALHOST, gates.port(broker, false)?).into()),
            Err(error) => Err(error),
        }
    })?;
    // Only now: dissolving an earlier connection may have given the port away.
    let who = identify(socket)?;
    let own = own_address(socket).map(canonical).ok_or(Errno::NETUNREACH)?;
    let mut flows = broker.datagrams.flows.borrow_mut();
    if !flows.is_taken(own, who.cookie) {
        flows.connect(who, canonical(destination), canonical(gate), own);
        drop(flows);
        keep_swept(broker);
        return Ok(gate);
    }
    drop(flows);
    // Another socket shares its address (SO_REUSEPORT): a token tells them apart.
    let token = token(broker, who, canonical(destination))?;
    rustix::net::connect(socket, &token)?;
    Ok(token)
}

/// An address with a scope binds the socket to its device (ipv6(7)), for good.
fn has_scope(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0)
}

/// # Errors
/// `ENETUNREACH` for a socket whose packets would not come to our loopback.
fn must_be_here(broker: &Broker, socket: BorrowedFd<'_>) -> io::Result<()> {
    let own = *broker.datagrams.namespace.get_or_init(|| network_namespace(broker.sinks.as_fd()));
    let is_elsewhere = own.is_some() && network_namespace(socket) != own;
    if is_elsewhere || leaves_loopback(socket) { Err(Errno::NETUNREACH.into()) } else { Ok(()) }
}

/// A program's socket, which has a port from here on: the kernel would give it one when it sends.
fn identify(socket: BorrowedFd<'_>) -> io::Result<Who> {
    let own = own_address(socket).ok_or(Errno::AFNOSUPPORT)?;
    let own = if own.port() == 0 {
        let any: IpAddr =
            if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        bind(socket, &SocketAddr::new(any, 0))?;
        own_address(socket).ok_or(Errno::AFNOSUPPORT)?
    } else {
        own
    };
    Ok(Who {
        cookie: sockopt::socket_cookie(socket)?,
        inode: rustix::fs::fstat(socket)?.st_ino,
        port: own.port(),
        is_v6: own.is_ipv6(),
    })
}

/// The token for a flow, as the socket can reach it.
fn token(broker: &Rc<Broker>, who: Who, destination: SocketAddr) -> io::Result<SocketAddr> {
    let known = broker.datagrams.flows.borrow_mut().token(who, destination);
    let token = known.map_or_else(|| new_token(broker, who, destination), Ok)?;
    let family = if who.is_v6 { libc::AF_INET6 } else { libc::AF_INET };
    Ok(in_family(token, family))
}

/// Of the destination's own family, so that options and control messages mean what they do without us.
fn new_token(broker: &Rc<Broker>, who: Who, destination: SocketAddr) -> io::Result<SocketAddr> {
    let datagrams = &broker.datagrams;
    let token = if destination.is_ipv4() {
        let port = datagrams.gates.port(broker, false)?;
        datagrams.flows.borrow_mut().free_v4(port)
    } else {
        let free = datagrams.flows.borrow().free_v6(who);
        match free {
            Some(token) => token,
            None => {
                let token = datagrams.gates.open_solitary(broker)?;
                datagrams.flows.borrow_mut().share(token);
                token
            }
        }
    };
    datagrams.flows.borrow_mut().insert(who, destination, token);
    keep_swept(broker);
    Ok(token)
}

/// Where a datagram goes.
pub(super) enum Sent {
    /// Where it was addressed to.
    Direct,
    /// To this token.
    Token(SocketAddr),
}

/// A datagram with a destination off the machine. The first one of a session waits until it is known whether the proxy takes datagrams.
///
/// # Errors
/// `ENETUNREACH` when it may not be sent; `EHOSTUNREACH` for a stand-in of another session.
pub(super) async fn send(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
    program: &Program<'_>,
) -> io::Result<Sent> {
    let refused = |why| {
        broker.report.datagram_refused(program, destination, why);
        Err(Errno::NETUNREACH.into())
    };
    let place = place(broker, destination);
    match place {
        Place::Local | Place::Direct => return Ok(Sent::Direct),
        Place::Group => return refused(Refusal::Group),
        Place::Elsewhere if is_denied(broker) => return refused(Refusal::Denied),
        Place::Elsewhere | Place::Resolver => {}
    }
    speaks(socket, destination)?;
    if peer_of(socket).is_none() {
        forget_connection(broker, socket)?;
    }
    let associations = &broker.datagrams.associations;
    if place == Place::Elsewhere && associations.is_refused_to(sockopt::socket_cookie(socket)?) {
        return refused(Refusal::NotServed);
    }
    must_be_here(broker, socket)?;
    meant(broker, destination)?;
    let who = identify(socket)?;
    let token = token(broker, who, canonical(destination))?;
    if place == Place::Elsewhere && associations.find_out(broker, who.cookie).await.is_err() {
        return refused(Refusal::NotServed);
    }
    Ok(Sent::Token(token))
}

/// The socket is not connected, but may have been. Linux lets a dissolved IPv6 socket hear the address of its former peer alone; of ours
/// it is to hear the tokens'.
fn forget_connection(broker: &Broker, socket: BorrowedFd<'_>) -> io::Result<()> {
    const DISCARD: u16 = 9;
    let cookie = sockopt::socket_cookie(socket)?;
    let was_connected = broker.datagrams.flows.borrow_mut().forget_peer(cookie);
    if was_connected && sockopt::socket_domain(socket)? == AddressFamily::INET6 {
        // Sends nothing. Fails on a machine without IPv6, where there is nothing to hear.
        let _ = rustix::net::connect(socket, &SocketAddr::from((Ipv6Addr::LOCALHOST, DISCARD)));
        dissolve(socket);
    }
    Ok(())
}

/// Which sockets that the broker has connected may send.
pub(super) enum Opened {
    /// All, from now on.
    All,
    /// This one.
    One,
}

/// A datagram on a socket that the broker has connected.
///
/// # Errors
/// As [`send`].
pub(super) async fn open(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    program: &Program<'_>,
) -> io::Result<Opened> {
    let cookie = sockopt::socket_cookie(socket)?;
    let actual = peer_of(socket).ok_or(Errno::DESTADDRREQ)?;
    let Some(destination) = broker.peers.borrow().destination(cookie, actual) else {
        // The program has connected it elsewhere since it looked.
        return Ok(Opened::One);
    };
    let refused = |why| {
        broker.report.datagram_refused(program, destination, why);
        Err(Errno::NETUNREACH.into())
    };
    match place(broker, destination) {
        Place::Local | Place::Direct | Place::Resolver => return Ok(Opened::One),
        Place::Group => return refused(Refusal::Group),
        Place::Elsewhere if is_denied(broker) => return refused(Refusal::Denied),
        Place::Elsewhere => {}
    }
    if broker.datagrams.associations.find_out(broker, cookie).await.is_err() {
        return refused(Refusal::NotServed);
    }
    // Connected when nothing could be sent: now it can.
    if broker.sinks.has(actual) {
        connect(broker, socket, destination)?;
    }
    Ok(Opened::All)
}

/// A program's datagram has come to one of our addresses.
fn forward(broker: &Rc<Broker>, own: SocketAddr, from: SocketAddr, payload: &[u8]) {
    let recognised = broker.datagrams.flows.borrow_mut().recognise(own, from);
    let Some((cookie, destination)) = recognised else { return };
    if destination.port() == resolver::PORT {
        let (broker, query) = (Rc::clone(broker), payload.to_vec());
        spawn_local(async move {
            if let Some(answer) = dns::answer(&broker, &query, destination, Transport::Udp).await {
                broker.datagrams.gates.send(own, from, &answer);
            }
        });
        return;
    }
    broker.datagrams.associations.send(broker, cookie, destination, payload);
}

/// A datagram of `source` for a program's socket.
fn deliver(broker: &Rc<Broker>, cookie: Cookie, source: SocketAddr, payload: &[u8]) {
    let datagrams = &broker.datagrams;
    let way = datagrams.flows.borrow().way_back(cookie, source);
    let Some(way) = way else { return };
    let own = way.own.or_else(|| {
        let who = datagrams.flows.borrow().who(cookie)?;
        // An IPv4 socket has no room for an IPv6 address.
        let can_be_shown = who.is_v6 || source.is_ipv4();
        if can_be_shown { new_token(broker, who, source).ok() } else { None }
    });
    if let Some(own) = own {
        datagrams.gates.send(own, way.to, payload);
    }
}

/// Looks from now on which sockets are closed, until none is left.
fn keep_swept(broker: &Rc<Broker>) {
    if broker.datagrams.is_swept.replace(true) {
        return;
    }
    let broker = Rc::clone(broker);
    spawn_local(async move {
        let datagrams = &broker.datagrams;
        while !datagrams.flows.borrow().is_empty() {
            tokio::time::sleep(SWEEP).await;
            // Without /proc nothing is ever swept, and the oldest flows make room.
            let Ok(open) = open_sockets() else { continue };
            for cookie in datagrams.flows.borrow_mut().sweep(&open) {
                datagrams.associations.let_go(cookie);
            }
        }
        datagrams.is_swept.set(false);
    });
}

/// The inodes of all UDP sockets of this network namespace (proc(5)).
fn open_sockets() -> io::Result<HashSet<u64>> {
    const INODE: usize = 9;
    let mut open = HashSet::new();
    for (table, is_needed) in [("/proc/net/udp", true), ("/proc/net/udp6", false)] {
        let text = match std::fs::read_to_string(table) {
            Ok(text) => text,
            Err(error) if is_needed => return Err(error),
            // A kernel without IPv6.
            Err(_) => continue,
        };
        let inode = |line: &str| line.split_ascii_whitespace().nth(INODE)?.parse::<u64>().ok();
        open.extend(text.lines().filter_map(inode));
    }
    Ok(open)
}
