//! One UDP association of the embedded server (RFC 1928, sections 4 and 7): datagrams between a client and the world.
//!
//! It has one socket for the client and one per address family for the world, all served by one task, and lasts as long
//! as the client's TCP connection. Only the client's own host is heard, and of that the first socket to send anything.
//!
//! Fragments and what cannot be read are dropped without a word, as are datagrams that the kernel does not take: too
//! large a one, one to a host that cannot be reached. Answers come from whoever sends any: which of them the client
//! wants is the client's business.

mod names;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use presocks_proto::socks5::datagram::{Header, decode};
use presocks_proto::socks5::{Host, Target};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UdpSocket;

use super::Known;
use names::{Found, Names};

/// More than any datagram's payload.
const LONGEST: usize = u16::MAX as usize;
/// The longest header that is written: one with an IPv6 address.
const HEADER: usize = 4 + 16 + 2;
/// Datagrams that are taken from a socket before the others have their turn.
const BATCH: usize = 64;

/// An association that has its sockets and serves nobody yet.
pub(super) struct Association {
    /// Towards the client.
    near: UdpSocket,
    client: IpAddr,
    /// The client's socket, once it has sent anything.
    source: Option<SocketAddr>,
    /// Towards the world. A family that this machine does not have is missing.
    far4: Option<UdpSocket>,
    far6: Option<UdpSocket>,
    names: Names,
}

impl Association {
    /// Opens the sockets; the one for the client on `server`, by which the client has reached the server.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2): for the client's socket, and for the others when there is neither family.
    pub(super) async fn open(server: IpAddr, client: IpAddr) -> io::Result<Self> {
        let (server, client) = (server.to_canonical(), client.to_canonical());
        let near = UdpSocket::bind((server, 0)).await?;
        if server.is_loopback() {
            // As the server's listener.
            let _ = near.bind_device(Some(b"lo"));
        }
        let far6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok();
        let far4 = match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await {
            Err(error) if far6.is_none() => return Err(error),
            far4 => far4.ok(),
        };
        Ok(Self { near, client, source: None, far4, far6, names: Names::default() })
    }

    /// Where the client is to send its datagrams.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.near.local_addr()
    }

    /// Serves until the client ends its TCP connection, `control`. `unresolved` hears of names that have no address.
    pub(super) async fn serve(
        mut self,
        mut control: impl AsyncRead + Unpin,
        known: Option<&Known>,
        unresolved: impl Fn(Target, io::Error),
    ) {
        let mut buffer = vec![0; HEADER + LONGEST];
        // Nothing is said on it; only its end counts.
        let mut said = [0; 64];
        loop {
            tokio::select! {
                end = control.read(&mut said) => if matches!(end, Ok(0) | Err(_)) {
                    return;
                },
                _ = self.near.readable() => self.carry_out(&mut buffer, known).await,
                _ = readable(self.far4.as_ref()) => self.carry_in(self.far4.as_ref(), &mut buffer).await,
                _ = readable(self.far6.as_ref()) => self.carry_in(self.far6.as_ref(), &mut buffer).await,
                Some(Found { target, address, waiting }) = self.names.found() => match address {
                    Ok(address) => for payload in waiting {
                        self.send(&payload, address).await;
                    },
                    Err(error) => unresolved(target, error),
                },
            }
        }
    }

    /// From the client to the world.
    async fn carry_out(&mut self, buffer: &mut [u8], known: Option<&Known>) {
        for _ in 0..BATCH {
            let Ok((len, from)) = self.near.try_recv_from(buffer) else {
                return;
            };
            if from.ip().to_canonical() != self.client || self.source.is_some_and(|source| source != from) {
                continue;
            }
            let Some(Ok((target, payload))) = buffer.get(..len).map(decode) else {
                continue;
            };
            self.source = Some(from);
            let address = match target.host {
                Host::Address(address) => Some((address.to_canonical(), target.port).into()),
                Host::Name(name) => match known {
                    Some(known) if known.is(&name.to_string(), target.port) => Some(known.address),
                    _ => self.names.address(target, payload),
                },
            };
            if let Some(address) = address {
                self.send(payload, address).await;
            }
        }
    }

    /// From the world to the client.
    async fn carry_in(&self, far: Option<&UdpSocket>, buffer: &mut [u8]) {
        let Some(far) = far else {
            return;
        };
        for _ in 0..BATCH {
            let (before, payload) = buffer.split_at_mut(HEADER);
            let Ok((len, from)) = far.try_recv_from(payload) else {
                return;
            };
            let header = Header::new(&Target { host: Host::Address(from.ip()), port: from.port() });
            let start = HEADER.saturating_sub(header.as_bytes().len());
            for (place, byte) in before.iter_mut().skip(start).zip(header.as_bytes()) {
                *place = *byte;
            }
            if let (Some(source), Some(datagram)) = (self.source, buffer.get(start..HEADER + len)) {
                // Too large for one with its header, or the client's socket is gone: a datagram is lost.
                let _ = self.near.send_to(datagram, source).await;
            }
        }
    }

    async fn send(&self, payload: &[u8], address: SocketAddr) {
        let far = if address.is_ipv4() { &self.far4 } else { &self.far6 };
        if let Some(far) = far {
            // What the kernel does not take is lost, as it might be anywhere on its way.
            let _ = far.send_to(payload, address).await;
        }
    }
}

/// Waits for a socket that is there.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // It cannot fail but when the runtime ends.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
