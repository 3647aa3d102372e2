//! For a program's socket that cannot reach the proxy itself, an IPv4 socket and an IPv6 proxy: a relay over loopback.
//!
//! The program's socket is connected to a loopback listener that lives for this one connection; then the proxy is connected and negotiated
//! with, on a socket of the broker's; then the bytes are copied for as long as the connection lasts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

use presocks_proto::socks5::Target;
use tokio::io::{Interest, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Broker;
use super::connect::negotiate;
use super::failure::Failure;
use super::socket::{Socket, watch};

/// Connects `socket` to `target` by way of this process.
pub(super) async fn connect(
    broker: &Broker,
    socket: &Socket,
    proxy: SocketAddr,
    target: Target,
) -> Result<(), Failure> {
    let downstream = meet(socket).await.map_err(Failure::Socket)?;
    let limit = broker.settings.connect_timeout;
    let upstream = match timeout(limit, TcpStream::connect(proxy)).await {
        Ok(result) => result.map_err(Failure::ProxyUnreachable)?,
        Err(_) => return Err(Failure::ProxyTimeout(limit)),
    };
    // The runtime watches it as a bare descriptor for the handshake, which must not read ahead.
    let upstream = upstream.into_std().map_err(Failure::Socket)?;
    {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let watched = watch(upstream.as_fd(), interest).map_err(Failure::Socket)?;
        negotiate(broker, &watched, target).await?;
    }
    let upstream = TcpStream::from_std(upstream).map_err(Failure::Socket)?;
    spawn_local(copy(downstream, upstream));
    Ok(())
}

/// Connects the program's socket to a fresh listener, and takes no other connection for it.
async fn meet(socket: &Socket) -> io::Result<TcpStream> {
    let loopback: IpAddr =
        if socket.is_v6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let listener = TcpListener::bind((loopback, 0)).await?;
    let address = listener.local_addr()?;
    socket.connect(address).await?;
    loop {
        let (downstream, peer) = listener.accept().await?;
        if socket.local_address()? == peer {
            socket.settle(address);
            return Ok(downstream);
        }
    }
}

/// Until both sides have ended. An error on one side ends the other, as a reset would.
async fn copy(mut downstream: TcpStream, mut upstream: TcpStream) {
    if copy_bidirectional(&mut downstream, &mut upstream).await.is_err() {
        for side in [&downstream, &upstream] {
            // Already closed is closed enough.
            let _ = rustix::net::sockopt::set_socket_linger(side.as_fd(), Some(std::time::Duration::ZERO));
        }
    }
}
