//! Giving a flow its token.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Instant;

use presocks_abi::sockaddr::in_family;
use rustix::io::Errno;
use rustix::net::{bind, sockopt};

use super::Datagrams;
use super::flows::{Via, Who};
use super::sweep::keep_swept;
use crate::socket::own_address;

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

impl Datagrams {
    /// The token for a flow, as the socket can reach it.
    pub(super) fn token(
        self: &Rc<Self>,
        who: Who,
        destination: SocketAddr,
        via: Via,
    ) -> io::Result<SocketAddr> {
        let known = self.flows.borrow_mut().token(who, destination, via);
        let token = known.map_or_else(|| self.new_token(who, destination, via, MOST_V6), Ok)?;
        let family = if who.is_v6 { libc::AF_INET6 } else { libc::AF_INET };
        Ok(in_family(token, family))
    }

    /// A new token for a source that the socket has sent nothing to.
    pub(super) fn unasked(self: &Rc<Self>, who: Who, source: SocketAddr, via: Via) -> io::Result<SocketAddr> {
        self.new_token(who, source, via, MOST_V6_UNASKED)
    }

    /// Of the destination's own family, so that options and control messages mean what they do without us.
    fn new_token(
        self: &Rc<Self>,
        who: Who,
        destination: SocketAddr,
        via: Via,
        most_v6: usize,
    ) -> io::Result<SocketAddr> {
        let token = if destination.is_ipv4() {
            let port = self.gates.port(self, false)?;
            self.flows.borrow_mut().free_v4(port)
        } else {
            self.free_v6(who, most_v6)?
        };
        self.flows.borrow_mut().insert(who, destination, via, token);
        keep_swept(self);
        Ok(token)
    }

    /// An IPv6 token that this socket has not: one that there is, a new one, or another flow's.
    fn free_v6(self: &Rc<Self>, who: Who, most: usize) -> io::Result<SocketAddr> {
        let free = self.flows.borrow().free_v6(who);
        if let Some(token) = free {
            return Ok(token);
        }
        match self.gates.open_solitary(self, most) {
            Ok(token) => {
                self.flows.borrow_mut().share(token);
                Ok(token)
            }
            Err(error) => {
                let mut flows = self.flows.borrow_mut();
                flows.free_one(who.port, Instant::now());
                flows.free_v6(who).ok_or(error)
            }
        }
    }
}
