//! Connecting a program's UDP socket to an address of ours while it keeps the source address that it would have: programs learn their own address by
//! connect() and getsockname(2).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use presocks_abi::sockaddr::in_family;
use presocks_abi::socket::is_loopback;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, bind, connect, connect_unspec, socket_with, sockopt};

use crate::socket::source::{any_like, may_be_answered_elsewhere};
use crate::socket::{leaves_loopback, option, own_address, peer_of, set_option};

/// Connects a program's UDP socket to an address of this machine that `choose` gives, instead of `destination`. Its argument is the source address
/// that the kernel has chosen, now or when it was connected to one of ours (`is_ours`) before; none when the program has bound the socket, or
/// there is no route.
///
/// # Errors
/// Those of connect(2) for the destination; `ENETUNREACH` when it would not stay on this machine.
pub(in crate::broker) fn connect_here(
    is_ours: impl Fn(SocketAddr) -> bool,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
    choose: impl FnOnce(Option<SocketAddr>) -> io::Result<SocketAddr>,
) -> io::Result<SocketAddr> {
    let unreachable = || io::Error::from(Errno::NETUNREACH);
    if leaves_loopback(socket) {
        return Err(unreachable());
    }
    let mut port = own_address(socket).map_or(0, |own| own.port());
    // Loopback is the source of a socket that was connected when there was no route; from there the kernel finds none at all.
    if peer_of(socket).is_some() && own_address(socket).is_some_and(|own| is_loopback(own.ip())) {
        let _ = connect_unspec(socket);
    }
    // IPv6 keeps it in a socket that was bound before it was connected there (`leave_source`).
    if let Some(own) =
        own_address(socket).filter(|own| own.is_ipv6() && own.port() == 0 && own.ip().is_loopback())
    {
        let _ = bind(socket, &any_like(own));
        port = 0;
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
    if connect_to_loopback(socket, here).is_ok() {
        return Ok(here);
    }
    let _ = connect_unspec(socket);
    Err(unreachable())
}

/// Connects a program's UDP socket to an address from which nothing may lead to another device. Those that are set by an option come from us (`device`);
/// but bind() to the address of a link also binds an IPv6 socket to its device. The kernel refuses that to a socket that has a port: so it has
/// one before the look.
///
/// # Errors
/// Those of connect(2); `ENETUNREACH` when packets for this machine would leave it.
pub(super) fn connect_to_loopback(socket: BorrowedFd<'_>, here: SocketAddr) -> io::Result<()> {
    if let Some(own) = own_address(socket).filter(|own| own.is_ipv6() && own.port() == 0) {
        // Fails where it has one by now.
        let _ = bind(socket, &own);
    }
    if leaves_loopback(socket) {
        return Err(Errno::NETUNREACH.into());
    }
    Ok(connect(socket, &here)?)
}

/// Before a socket is connected to loopback: has it a source to which loopback's answers stay here, or can it be freed from the one that it has? It can,
/// unless its program has chosen address and port.
pub(super) fn leave_source(socket: BorrowedFd<'_>) -> bool {
    let stays = || own_address(socket).is_none_or(|own| !may_be_answered_elsewhere(own.ip()));
    if stays() {
        return true;
    }
    // A port that the kernel has chosen is given back so, and a source as well.
    let _ = connect_unspec(socket);
    if let Some(own) = own_address(socket).filter(|own| own.port() == 0) {
        let _ = bind(socket, &any_like(own));
    }
    stays()
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
