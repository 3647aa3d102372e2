//! For a program's socket that cannot reach the proxy itself, an IPv4 socket and an IPv6 proxy: a relay over loopback.
//!
//! The program's socket is connected to a loopback listener that lives for this one connection; then the proxy is connected and negotiated
//! with, on a socket of the broker's; then the bytes are copied for as long as the connection lasts.
//! What a program has sent before it exits is on its way, as in the kernel's own buffers: the broker does not end before the relays have.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use presocks_proto::socks5::Target;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Broker;
use super::connect::{handshake, negotiate};
use super::failure::Failure;
use super::socket::{Socket, watch};

/// How long the last relays may stand still once every program is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that are under way in a relay, each way.
const BUFFER: usize = 16 * 1024;

/// The relays of a session.
#[derive(Default)]
pub(super) struct Relays {
    open: Cell<usize>,
    /// Bytes that all of them have carried; wraps.
    carried: Cell<usize>,
    ended: Notify,
}

impl Relays {
    /// Returns when no relay is left, or none has carried a byte for [`PATIENCE`]: a server that has got everything but does not close
    /// is not waited for.
    pub(super) async fn finish(&self) {
        while self.open.get() > 0 {
            let carried = self.carried.get();
            let is_still = timeout(PATIENCE, self.ended.notified()).await.is_err();
            if is_still && self.carried.get() == carried {
                return;
            }
        }
    }
}

/// Counts as a relay while it lives.
struct Open(Rc<Broker>);

impl Open {
    fn new(broker: &Rc<Broker>) -> Self {
        broker.relays.open.update(|open| open + 1);
        Self(Rc::clone(broker))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.relays.open.update(|open| open - 1);
        self.0.relays.ended.notify_one();
    }
}

/// Connects `socket` to `target` by way of this process.
pub(super) async fn connect(
    broker: &Rc<Broker>,
    socket: &Socket,
    proxy: SocketAddr,
    target: Target,
) -> Result<(), Failure> {
    let downstream = meet(broker, socket).await?;
    let upstream = reach(broker, proxy, target).await?;
    spawn_local(copy(Open::new(broker), downstream, upstream));
    Ok(())
}

/// A connection of the broker's own to `target`, through the proxy.
///
/// # Errors
/// [`Failure`] as the proxy or the clock has it.
pub(super) async fn reach(broker: &Broker, proxy: SocketAddr, target: Target) -> Result<TcpStream, Failure> {
    let handshake = handshake(broker, target)?;
    let upstream = dial(broker, proxy).await?;
    {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let watched = watch(upstream.as_fd(), interest).map_err(Failure::Socket)?;
        negotiate(broker, &watched, handshake).await?;
    }
    TcpStream::from_std(upstream).map_err(Failure::Socket)
}

/// A connection to the proxy, for a handshake: the runtime watches it as a bare descriptor for that, which must not read ahead. What is said
/// goes at once: its sender has chosen the segments already.
///
/// # Errors
/// [`Failure`] as the network or the clock has it.
pub(super) async fn dial(broker: &Broker, proxy: SocketAddr) -> Result<std::net::TcpStream, Failure> {
    let limit = broker.settings.connect_timeout;
    let stream = match timeout(limit, TcpStream::connect(proxy)).await {
        Ok(result) => result.map_err(Failure::ProxyUnreachable)?,
        Err(_) => return Err(Failure::ProxyTimeout(limit)),
    };
    // Fails on no TCP socket.
    let _ = stream.set_nodelay(true);
    stream.into_std().map_err(Failure::Socket)
}

/// Connects the program's socket to a fresh listener on loopback.
///
/// # Errors
/// `ETIMEDOUT`: loopback, too, can be made to swallow packets. Those of connect(2).
pub(super) async fn meet(broker: &Broker, socket: &Socket) -> Result<TcpStream, Failure> {
    match timeout(broker.settings.connect_timeout, accept_only(socket)).await {
        Ok(result) => result.map_err(Failure::Socket),
        Err(_) => Err(Failure::Socket(Errno::TIMEDOUT.into())),
    }
}

/// Takes no other connection for the program's.
async fn accept_only(socket: &Socket) -> io::Result<TcpStream> {
    let loopback: IpAddr =
        if socket.is_v6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let listener = TcpListener::bind((loopback, 0)).await?;
    let address = listener.local_addr()?;
    socket.connect(address).await?;
    loop {
        let (downstream, peer) = listener.accept().await?;
        if socket.local_address()? == peer {
            // What is passed on or answered goes at once, as above.
            let _ = downstream.set_nodelay(true);
            socket.settle(address);
            return Ok(downstream);
        }
    }
}

/// Until both sides have ended. An error on one side ends the other, as a reset would.
async fn copy(open: Open, mut downstream: TcpStream, mut upstream: TcpStream) {
    let relays = &open.0.relays;
    let result = {
        let (from_program, to_program) = downstream.split();
        let (from_proxy, to_proxy) = upstream.split();
        tokio::try_join!(carry(relays, from_program, to_proxy), carry(relays, from_proxy, to_program))
    };
    if result.is_err() {
        for side in [&downstream, &upstream] {
            // Already closed is closed enough.
            let _ = rustix::net::sockopt::set_socket_linger(side.as_fd(), Some(Duration::ZERO));
        }
    }
}

/// One direction, to its end, which is passed on.
async fn carry(relays: &Relays, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        let mut left = buffer.get(..len).unwrap_or(&[]);
        while !left.is_empty() {
            let written = to.write(left).await?;
            left = left.get(written..).unwrap_or(&[]);
            relays.carried.update(|carried| carried.wrapping_add(written));
        }
    }
}
