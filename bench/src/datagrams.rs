//! What a worker does with datagrams: the measured code itself, as in `task`, which calls it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::measure::{answer, each, mean};
use crate::{Outcome, proxy, udp, words};

/// Far longer than a datagram takes; one that is lost ends the work.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams in flight at a time.
const FLIGHT: usize = 32;
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Does as `task` says with `far`; with a proxy it speaks SOCKS itself.
///
/// # Errors
/// The first failure.
pub(crate) fn run(way: &str, far: SocketAddrV4, proxy: Option<SocketAddr>) -> Outcome<()> {
    let socket = || Socket::new(proxy);
    match way {
        words::PEER => {
            let socket = socket()?;
            socket.connect(far)?;
            answer(mean(|| socket.exchange_with_peer(far)))
        }
        words::ANYBODY => {
            let socket = socket()?;
            answer(mean(|| socket.exchange(far)))
        }
        words::FLIGHT => answer(flights(socket()?, |_| far)),
        words::NEW => answer(flights(socket()?, |number| udp::destination(far, number))),
        words::MANY => {
            let mut flights = flights(socket()?, |number| udp::destination(far, number));
            flights(udp::DESTINATIONS)?;
            answer(flights)
        }
        words::SOCKETS => answer(each(|| {
            let socket = socket()?;
            socket.exchange(far)?;
            Ok(socket)
        })),
        words::KEPT_SOCKETS => {
            let mut kept = Vec::new();
            answer(mean(|| {
                let socket = socket()?;
                socket.exchange(far)?;
                kept.push(socket);
                Ok(())
            }))
        }
        _ => Err("not a way to send datagrams".into()),
    }
}

/// As many as asked for, some of them in flight at a time; each goes where `to` says, which knows the numbers of all.
fn flights(socket: Socket, to: impl Fn(usize) -> SocketAddrV4) -> impl FnMut(usize) -> io::Result<Vec<u128>> {
    let mut number = 0;
    move |count| {
        let started = Instant::now();
        let end = number + count;
        while number < end {
            let flight = FLIGHT.min(end - number);
            for _ in 0..flight {
                socket.send(to(number))?;
                number += 1;
            }
            for _ in 0..flight {
                socket.receive()?;
            }
        }
        Ok(vec![started.elapsed().as_nanos() / count.max(1) as u128])
    }
}

/// A socket, with SOCKS of its own or without.
struct Socket {
    socket: UdpSocket,
    /// The connection that keeps the association, and the relay's address.
    relay: Option<(TcpStream, SocketAddr)>,
}

impl Socket {
    fn new(proxy: Option<SocketAddr>) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let relay = proxy.map(proxy::associate).transpose()?;
        Ok(Self { socket, relay })
    }

    /// Has the kernel take this for its only peer; with a proxy, that proxy's relay.
    fn connect(&self, peer: SocketAddrV4) -> io::Result<()> {
        self.socket.connect(self.relay.as_ref().map_or(SocketAddr::V4(peer), |(_, relay)| *relay))
    }

    fn exchange_with_peer(&self, peer: SocketAddrV4) -> io::Result<()> {
        match &self.relay {
            Some(_) => self.socket.send(&wrapped(peer))?,
            None => self.socket.send(&PAYLOAD)?,
        };
        let mut buffer = [0; 256];
        let len = self.socket.recv(&mut buffer)?;
        is_right(self.sender(buffer.get(..len), peer.into()) == Some(peer))
    }

    fn exchange(&self, to: SocketAddrV4) -> io::Result<()> {
        self.send(to)?;
        is_right(self.receive()? == to)
    }

    fn send(&self, to: SocketAddrV4) -> io::Result<()> {
        match &self.relay {
            Some((_, relay)) => self.socket.send_to(&wrapped(to), relay)?,
            None => self.socket.send_to(&PAYLOAD, to)?,
        };
        Ok(())
    }

    fn receive(&self) -> io::Result<SocketAddrV4> {
        let mut buffer = [0; 256];
        let (len, from) = self.socket.recv_from(&mut buffer)?;
        self.sender(buffer.get(..len), from).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Who has sent this, which came from there.
    fn sender(&self, datagram: Option<&[u8]>, from: SocketAddr) -> Option<SocketAddrV4> {
        match (&self.relay, datagram?, from) {
            (None, payload, SocketAddr::V4(from)) if payload == PAYLOAD => Some(from),
            (Some(_), [0, 0, 0, 1, a, b, c, d, high, low, payload @ ..], _) if payload == PAYLOAD => {
                Some(SocketAddrV4::new([*a, *b, *c, *d].into(), u16::from_be_bytes([*high, *low])))
            }
            _ => None,
        }
    }
}

fn is_right(is: bool) -> io::Result<()> {
    if is { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The payload behind its header (RFC 1928, section 7).
fn wrapped(to: SocketAddrV4) -> [u8; 10 + PAYLOAD.len()] {
    let [a, b, c, d] = to.ip().octets();
    let [high, low] = to.port().to_be_bytes();
    let mut datagram = [b'x'; 10 + PAYLOAD.len()];
    for (place, byte) in datagram.iter_mut().zip([0, 0, 0, 1, a, b, c, d, high, low]) {
        *place = byte;
    }
    datagram
}
