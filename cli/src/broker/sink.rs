//! Addresses of this machine where datagrams end.
//!
//! A program's datagram socket is connected to a sink instead of its destination, so that nothing it sends can leave the machine by
//! whatever call. An IPv4 sink is a UDP socket connected to itself: it takes nothing from anybody else, and the kernel answers each
//! datagram with "port unreachable", so the program learns of it. An IPv6 one takes nothing, and says nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use presocks_abi::sockaddr::in_family;
use presocks_abi::socket::is_loopback;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, bind, connect, connect_unspec, socket_with, sockopt};

use super::socket::{attach_filter, leaves_loopback, option, own_address, peer_of, set_option};

/// Most addresses of this machine at which there is a sink.
const MOST: usize = 256;

/// The session's sinks, reserved for as long as the broker lives. All of a family have the same port.
pub(super) struct Sinks {
    v4: UdpSocket,
    /// A machine may have no IPv6.
    v6: Option<UdpSocket>,
    /// At addresses of this machine that are not loopback's.
    elsewhere: RefCell<HashMap<IpAddr, UdpSocket>>,
}

impl Sinks {
    /// Takes two free ports.
    ///
    /// # Errors
    /// When there is no IPv4 loopback.
    pub(super) fn reserve() -> io::Result<Self> {
        let v4 = sink((Ipv4Addr::LOCALHOST, 0).into())?;
        let v6 = sink((Ipv6Addr::LOCALHOST, 0).into()).ok();
        Ok(Self { v4, v6, elsewhere: RefCell::default() })
    }

    /// One of them, to ask about what all sockets of ours have in common.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.v4.as_fd()
    }

    /// The sink for a socket that speaks to `destination`. Without IPv6 an IPv6 socket can still reach the IPv4 one, mapped.
    fn address_for(&self, destination: IpAddr) -> io::Result<SocketAddr> {
        match (destination.to_canonical(), &self.v6) {
            (IpAddr::V6(_), Some(v6)) => v6,
            _ => &self.v4,
        }
        .local_addr()
    }

    /// A sink at the program's own IPv4 source address, if it can be had.
    fn address_at(&self, mut source: SocketAddr, port: u16) -> Option<SocketAddr> {
        source.set_port(port);
        let ip = source.ip().to_canonical();
        // An IPv6 address may leave this machine (as one does that is changed every day), and the socket would speak to it wherever it is then.
        if ip.is_ipv6() {
            return None;
        }
        let mut elsewhere = self.elsewhere.borrow_mut();
        if !elsewhere.contains_key(&ip) {
            if elsewhere.len() >= MOST {
                return None;
            }
            elsewhere.insert(ip, sink(SocketAddr::new(ip, port)).ok()?);
        }
        Some(source)
    }

    /// Is there a sink at this address?
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let is_at = |sink: &UdpSocket| {
            sink.local_addr().is_ok_and(|own| own.ip() == ip && own.port() == address.port())
        };
        is_at(&self.v4)
            || self.v6.as_ref().is_some_and(is_at)
            || self.elsewhere.borrow().get(&ip).is_some_and(is_at)
    }

    /// Connects a program's UDP socket to a sink instead of `destination`; gives the sink. Its source address is that of a socket which is
    /// connected to the destination (which sends nothing) and closed: programs learn it that way. Their own is never connected there, for
    /// another thread may write at any time; and it is connected in one step, for a thread that writes meanwhile may take half of an
    /// IPv6 address for a half of another. A sink at the source address itself gives the socket that source.
    ///
    /// # Errors
    /// Those of connect(2) for the destination; `ENETUNREACH` when the sink would not be on this machine.
    pub(super) fn connect(
        &self,
        is_gate: impl Fn(SocketAddr) -> bool,
        socket: BorrowedFd<'_>,
        destination: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let loopback = self.address_for(destination.ip())?;
        let is_ours = |address| self.has(address) || is_gate(address);
        connect_here(is_ours, socket, destination, |source| {
            Ok(source.and_then(|source| self.address_at(source, loopback.port())).unwrap_or(loopback))
        })
    }
}

/// Connects a program's UDP socket to an address of this machine that `choose` gives, instead of `destination`. Its argument is the source address
/// that the kernel has chosen, now or when it was connected to one of ours (`is_ours`) before; none when the program has bound the socket, or
/// there is no route.
///
/// # Errors
/// As [`Sinks::connect`].
pub(super) fn connect_here(
    is_ours: impl Fn(SocketAddr) -> bool,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
    choose: impl FnOnce(Option<SocketAddr>) -> io::Result<SocketAddr>,
) -> io::Result<SocketAddr> {
    let unreachable = || io::Error::from(Errno::NETUNREACH);
    if leaves_loopback(socket) {
        return Err(unreachable());
    }
    let port = own_address(socket).map_or(0, |own| own.port());
    // Loopback is the source of a socket that was connected when there was no route; from there the kernel finds none at all.
    if peer_of(socket).is_some() && own_address(socket).is_some_and(|own| is_loopback(own.ip())) {
        let _ = connect_unspec(socket);
    }
    let here_before = peer_of(socket).filter(|peer| is_ours(*peer));
    let source = match source_towards(socket, destination) {
        Ok(None) => own_address(socket).filter(|own| here_before.is_some_and(|peer| peer.ip() == own.ip())),
        Ok(source) => source,
        // The proxy may have a route.
        Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL) => None,
        Err(error) => return Err(error.into()),
    };
    let family = if destination.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let here = in_family(choose(source)?, family);
    if let Some(source) = source.filter(|_| here.is_ipv6() && is_loopback(here.ip())) {
        take_source(socket, source, port);
    }
    take_port(socket, port);
    // In two steps when the address changes: a thread that writes meanwhile may take half of one IPv6 address and half of the other.
    if peer_of(socket).is_some_and(|peer| peer.ip() != here.ip()) {
        dissolve(socket);
    }
    let is_connected = connect(socket, &here).is_ok();
    // Once more: nothing may lead from it to another device.
    if is_connected && !leaves_loopback(socket) {
        return Ok(here);
    }
    let _ = connect_unspec(socket);
    Err(unreachable())
}

/// Binds an IPv6 socket to the source address that the kernel has chosen for it: connected to loopback it would have that.
fn take_source(socket: BorrowedFd<'_>, mut source: SocketAddr, port: u16) {
    /// A thread that writes meanwhile has the kernel give the socket a port again, and again.
    const TRIES: usize = 1000;
    source.set_port(port);
    let has_one = own_address(socket).is_none_or(|own| !own.ip().is_unspecified());
    if has_one || source.ip().to_canonical().is_ipv4() || has_scope(source) || bind(socket, &source).is_ok() {
        return;
    }
    // A port that the kernel has chosen is given back so. One that the program has chosen is not, and then the source cannot be had.
    let _ = connect_unspec(socket);
    if own_address(socket).is_none_or(|own| own.port() == port && port != 0) {
        return;
    }
    for _ in 0..TRIES {
        if bind(socket, &source).is_ok() {
            return;
        }
        let _ = connect_unspec(socket);
    }
}

/// Gives the socket the port that it had before, if it has none: it keeps it when the kernel connects it anew. Should somebody else have it
/// by now, there will be another.
fn take_port(socket: BorrowedFd<'_>, port: u16) {
    if port != 0
        && let Some(mut own) = own_address(socket).filter(|own| own.port() == 0)
    {
        own.set_port(port);
        let _ = bind(socket, &own);
    }
}

/// An address with a scope binds the socket to its device (ipv6(7)), for good.
fn has_scope(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0)
}

/// Dissolves a connection. The port stays the socket's.
pub(super) fn dissolve(socket: BorrowedFd<'_>) {
    let port = own_address(socket).map_or(0, |own| own.port());
    let _ = connect_unspec(socket);
    take_port(socket, port);
}

/// The source address that the kernel chooses for `destination`; none for a socket that the program has bound to one, which need not be this
/// machine's (`IP_FREEBIND`, multicast).
fn source_towards(socket: BorrowedFd<'_>, destination: SocketAddr) -> Result<Option<SocketAddr>, Errno> {
    const IPV6_ADDR_PREFERENCES: i32 = 72;
    let family = sockopt::socket_domain(socket)?;
    let probe = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    for (level, name) in [
        (libc::SOL_SOCKET, libc::SO_BROADCAST),
        (libc::SOL_SOCKET, libc::SO_MARK),
        (libc::IPPROTO_IPV6, IPV6_ADDR_PREFERENCES),
    ] {
        let mut value = [0; 4];
        let is_set = option(socket, level, name, &mut value).is_ok() && value != [0; 4];
        // Where it cannot be had or set the kernel's own choice is as good.
        if is_set {
            let _ = set_option(probe.as_fd(), level, name, i32::from_ne_bytes(value));
        }
    }
    let own = |socket| own_address(socket).filter(|own| !own.ip().to_canonical().is_unspecified());
    let bound = own(socket);
    if let Some(mut bound) = bound {
        bound.set_port(0);
        // Fails where the address is gone; what connect() says then is right too.
        let _ = bind(&probe, &bound);
    }
    connect(&probe, &destination)?;
    Ok(if bound.is_none() { own(probe.as_fd()) } else { None })
}

/// An IPv6 one is silent: the kernel would refuse a datagram to its sender's address, which may have left this machine.
fn sink(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    if address.is_ipv4() {
        socket.connect(socket.local_addr()?)?;
    } else {
        let code = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or_default();
        attach_filter(socket.as_fd(), &mut [libc::sock_filter { code, jt: 0, jf: 0, k: 0 }])?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_takes_nothing_and_says_so() {
        let sinks = Sinks::reserve().unwrap();
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        let sink = sinks.connect(|_| false, sender.as_fd(), "192.0.2.1:9".parse().unwrap()).unwrap();
        assert_eq!(sender.peer_addr().unwrap(), sink);
        assert!(sinks.has(sink) && !sinks.has(sender.local_addr().unwrap()));
        sender.send(b"x").unwrap();
        let error = sender.recv(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn sinks_at_other_addresses_have_the_same_port() {
        let sinks = Sinks::reserve().unwrap();
        let port = sinks.address_for(Ipv4Addr::LOCALHOST.into()).unwrap().port();
        let source = SocketAddr::from(([127, 0, 0, 9], 0));
        let sink = sinks.address_at(source, port).unwrap();
        assert_eq!(sink, SocketAddr::from(([127, 0, 0, 9], port)));
        assert!(sinks.has(sink) && sinks.address_at(source, port) == Some(sink));
    }
}
