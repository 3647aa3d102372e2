//! Giving a flow its token.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Instant;

use presocks_abi::sockaddr::in_family;
use rustix::io::Errno;
use rustix::net::{bind, sockopt};

use super::flows::{Via, Who};
use super::sweep::keep_swept;
use crate::broker::Broker;
use crate::broker::socket::own_address;

/// Most IPv6 tokens: so many destinations can a socket have at a time. Whoever writes to it unasked takes no more than a few.
const MOST_V6: usize = 8192;
const MOST_V6_UNASKED: usize = 64;

/// A program's socket, which has a port from here on: the kernel would give it one when it sends.
pub(super) fn identify(socket: BorrowedFd<'_>) -> io::Result<Who> {
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
        ip: Some(own.ip().to_canonical()).filter(|ip| !ip.is_unspecified()),
        is_v6: own.is_ipv6(),
        speaks_v4: own.is_ipv4() || !sockopt::ipv6_v6only(socket)?,
    })
}

/// The token for a flow, as the socket can reach it.
pub(super) fn token(
    broker: &Rc<Broker>,
    who: Who,
    destination: SocketAddr,
    via: Via,
) -> io::Result<SocketAddr> {
    let known = broker.datagrams.flows.borrow_mut().token(who, destination, via);
    let token = known.map_or_else(|| new_token(broker, who, destination, via, MOST_V6), Ok)?;
    let family = if who.is_v6 { libc::AF_INET6 } else { libc::AF_INET };
    Ok(in_family(token, family))
}

/// A new token for a source that the socket has sent nothing to.
pub(super) fn unasked(broker: &Rc<Broker>, who: Who, source: SocketAddr, via: Via) -> io::Result<SocketAddr> {
    new_token(broker, who, source, via, MOST_V6_UNASKED)
}

/// Of the destination's own family, so that options and control messages mean what they do without us.
fn new_token(
    broker: &Rc<Broker>,
    who: Who,
    destination: SocketAddr,
    via: Via,
    most_v6: usize,
) -> io::Result<SocketAddr> {
    let datagrams = &broker.datagrams;
    let token = if destination.is_ipv4() {
        let port = datagrams.gates.port(broker, false)?;
        datagrams.flows.borrow_mut().free_v4(port)
    } else {
        free_v6(broker, who, most_v6)?
    };
    datagrams.flows.borrow_mut().insert(who, destination, via, token);
    keep_swept(broker);
    Ok(token)
}

/// An IPv6 token that this socket has not: one that there is, a new one, or another flow's.
fn free_v6(broker: &Rc<Broker>, who: Who, most: usize) -> io::Result<SocketAddr> {
    let datagrams = &broker.datagrams;
    let free = datagrams.flows.borrow().free_v6(who);
    if let Some(token) = free {
        return Ok(token);
    }
    match datagrams.gates.open_solitary(broker, most) {
        Ok(token) => {
            datagrams.flows.borrow_mut().share(token);
            Ok(token)
        }
        Err(error) => {
            let mut flows = datagrams.flows.borrow_mut();
            flows.free_one(who.port, Instant::now());
            flows.free_v6(who).ok_or(error)
        }
    }
}
