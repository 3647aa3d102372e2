//! Loopback addresses where datagrams end.
//!
//! A program's datagram socket is connected to a sink instead of its destination, so that nothing it sends can leave the machine by
//! whatever call. A sink is a UDP socket connected to itself: it takes nothing from anybody else, and the kernel answers each
//! datagram with "port unreachable", so the program learns of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

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
