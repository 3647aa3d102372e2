//! Loopback addresses where datagrams end.
//!
//! A program's datagram socket is connected to a sink instead of its destination, so that nothing it sends can leave the machine by
//! whatever call. A sink is a UDP socket connected to itself: it takes nothing from anybody else, and the kernel answers each
//! datagram with "port unreachable", so the program learns of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use presocks_abi::sockaddr::in_family;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, bind, connect, connect_unspec, socket_with, sockopt};

use super::socket::{leaves_loopback, option, own_address, set_option};

/// The session's sinks, reserved for as long as the broker lives.
pub(super) struct Sinks {
    v4: UdpSocket,
    /// A machine may have no IPv6.
    v6: Option<UdpSocket>,
}

impl Sinks {
    /// Takes two free ports.
    ///
    /// # Errors
    /// When there is no IPv4 loopback.
    pub(super) fn reserve() -> io::Result<Self> {
        Ok(Self { v4: sink(Ipv4Addr::LOCALHOST.into())?, v6: sink(Ipv6Addr::LOCALHOST.into()).ok() })
    }

    /// The sink for a socket that speaks to `destination`. Without IPv6 an IPv6 socket can still reach the IPv4 one, mapped.
    pub(super) fn address_for(&self, destination: IpAddr) -> Option<SocketAddr> {
        let sink = match (destination.to_canonical(), &self.v6) {
            (IpAddr::V6(_), Some(v6)) => v6,
            _ => &self.v4,
        };
        sink.local_addr().ok()
    }
}

impl Sinks {
    /// Connects a program's UDP socket to the sink instead of `destination`; gives the sink. Its source address is that of a socket which is
    /// connected to the destination (which sends nothing) and closed: programs learn it that way. Their own is never connected there, for
    /// another thread may write at any time.
    ///
    /// # Errors
    /// Those of connect(2) for the destination; `ENETUNREACH` when the sink would not be on this machine.
    pub(super) fn connect(&self, socket: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<SocketAddr> {
        let unreachable = || io::Error::from(Errno::NETUNREACH);
        if leaves_loopback(socket) {
            return Err(unreachable());
        }
        let sink = self.address_for(destination.ip()).ok_or_else(unreachable)?;
        let family = if destination.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
        let sink = in_family(sink, family);
        // Without the source address of an earlier connect the kernel chooses anew. Fails only on what fails below too.
        let _ = connect_unspec(socket);
        match source_towards(socket, destination) {
            // An address of this machine: a socket connected to it has it for its source, and keeps it in the next connect. bind()
            // would keep it for ever.
            Ok(Some(mut source)) => {
                source.set_port(sink.port());
                // Without it the source is loopback's.
                let _ = connect(socket, &source);
            }
            // Bound by the program; or no route of our own to it: the proxy may have one.
            Ok(None) | Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL) => {}
            Err(error) => return Err(error.into()),
        }
        let sunk =
            connect(socket, &sink).or_else(|_| connect_unspec(socket).and_then(|()| connect(socket, &sink)));
        if sunk.is_err() {
            // Fails only on a socket that is gone.
            let _ = connect_unspec(socket);
            return Err(unreachable());
        }
        Ok(sink)
    }
}

/// The source address that the kernel chooses for `destination`; none for a socket that the program has bound to one.
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

fn sink(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.connect(socket.local_addr()?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_takes_nothing_and_says_so() {
        let sinks = Sinks::reserve().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(sinks.address_for("192.0.2.1".parse().unwrap()).unwrap()).unwrap();
        sender.send(b"x").unwrap();
        let error = sender.recv(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
