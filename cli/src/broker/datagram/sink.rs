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

use super::source::connect_here;
use crate::socket::take_nothing;

/// Most addresses of this machine at which there is a sink.
const MOST: usize = 256;

/// The session's sinks, reserved for as long as the broker lives. All of a family have the same port.
pub(in crate::broker) struct Sinks {
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
    pub(in crate::broker) fn reserve() -> io::Result<Self> {
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

/// An IPv6 one is silent: the kernel would refuse a datagram to its sender's address, which may have left this machine.
fn sink(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    if address.is_ipv4() {
        socket.connect(socket.local_addr()?)?;
    } else {
        take_nothing(socket.as_fd())?;
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
