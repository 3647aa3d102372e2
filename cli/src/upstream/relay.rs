//! A relay over loopback, where the program's own socket cannot carry the connection: the proxy is of another address family or at a Unix socket,
//! or wants TLS or GSSAPI.
//!
//! The program's socket is connected to a loopback listener that lives for this one connection; then the proxy is connected and negotiated
//! with, on a connection of the broker's (`path`); then the bytes are carried for as long as the connection lasts: by the kernel (`splice`), or,
//! where they must change, by us (`copy`).
//! What a program has sent before it exits is on its way, as in the kernel's own buffers: the broker does not end before the relays have.

mod copy;
mod side;
mod splice;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use super::stream::Stream;
use crate::descriptors::{Descriptors, Place};
use crate::socket::source::NotConnected;
use crate::socket::{Socket, stay_on_loopback, unsent};

/// How long the last relays may stand still once every program is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a side has said nothing for so long it is asked whether it is there (tcp(7), `TCP_KEEPIDLE`): half of what the kernel gives a socket that nobody
/// holds any more (`tcp_fin_timeout`).
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Between two looks at what the kernel has still to deliver.
const TICK: Duration = Duration::from_millis(20);

/// The relays of a session.
pub(crate) struct Relays {
    descriptors: Rc<Descriptors>,
    /// How long the program's socket, and the descriptors, may take.
    limit: Duration,
    open: Cell<usize>,
    /// Bytes that all of them have carried; wraps.
    carried: Cell<usize>,
    ended: Notify,
}

impl Relays {
    /// Relays that have their descriptors of these, and begin within `limit`.
    pub(crate) fn new(descriptors: Rc<Descriptors>, limit: Duration) -> Self {
        Self { descriptors, limit, open: Cell::default(), carried: Cell::default(), ended: Notify::new() }
    }

    /// So many bytes have been carried.
    fn count(&self, carried: usize) {
        self.carried.update(|before| before.wrapping_add(carried));
    }

    /// Returns when no relay is left, or none has carried a byte for [`PATIENCE`]: a server that has got everything but does not close
    /// is not waited for.
    pub(crate) async fn finish(&self) {
        while self.open.get() > 0 {
            let carried = self.carried.get();
            let is_still = timeout(PATIENCE, self.ended.notified()).await.is_err();
            if is_still && self.carried.get() == carried {
                return;
            }
        }
    }

    /// The descriptors of a relay, once the broker has them to spare.
    ///
    /// # Errors
    /// [`Failure::Descriptors`] when that takes as long as a connection may take.
    pub(crate) async fn place(&self) -> Result<Place, Failure> {
        let place = timeout(self.limit, self.descriptors.relay()).await;
        place.ok().flatten().ok_or_else(|| Failure::Descriptors(self.descriptors.limit()))
    }

    /// From now on what comes on one side goes to the other.
    pub(crate) fn begin(self: &Rc<Self>, place: Place, downstream: TcpStream, upstream: Stream) {
        let open = Open::new(self);
        spawn_local(async move {
            carry(open, downstream, upstream).await;
            drop(place);
        });
    }

    /// Carries what comes on one side to the other, until both have ended.
    pub(crate) async fn serve(self: &Rc<Self>, downstream: TcpStream, upstream: Stream) {
        carry(Open::new(self), downstream, upstream).await;
    }

    /// Connects the program's socket to a fresh listener on loopback.
    ///
    /// # Errors
    /// `ETIMEDOUT`: loopback, too, can be made to swallow packets. Those of connect(2).
    pub(crate) async fn meet(&self, socket: &Socket) -> Result<TcpStream, Failure> {
        match timeout(self.limit, accept_only(socket)).await {
            Ok(result) => result.map_err(|error| match error {
                NotConnected::Bound(own) => Failure::Bound(own),
                NotConnected::Kernel(error) => Failure::Socket(error),
            }),
            Err(_) => Err(Failure::Socket(Errno::TIMEDOUT.into())),
        }
    }
}

/// Counts as a relay while it lives.
struct Open(Rc<Relays>);

impl Open {
    fn new(relays: &Rc<Relays>) -> Self {
        relays.open.update(|open| open + 1);
        Self(Rc::clone(relays))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.update(|open| open - 1);
        self.0.ended.notify_one();
    }
}

/// Takes no other connection for the program's.
async fn accept_only(socket: &Socket) -> Result<TcpStream, NotConnected> {
    let listener = listen_on_loopback(socket.is_v6())?;
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

/// Bound to lo where the kernel permits it (all do since Linux 5.7): so it answers nobody elsewhere, whoever connects to it from whatever address.
fn listen_on_loopback(is_v6: bool) -> io::Result<TcpListener> {
    /// The next ones are strangers.
    const QUEUE: u32 = 16;
    let (socket, loopback): (_, IpAddr) = if is_v6 {
        (TcpSocket::new_v6()?, Ipv6Addr::LOCALHOST.into())
    } else {
        (TcpSocket::new_v4()?, Ipv4Addr::LOCALHOST.into())
    };
    let _ = stay_on_loopback(socket.as_fd());
    socket.bind((loopback, 0).into())?;
    socket.listen(QUEUE)
}

/// Until both sides have ended. An error on one side ends the other, as a reset would.
async fn carry(open: Open, downstream: TcpStream, mut upstream: Stream) {
    let relays = &open.0;
    prepare(&downstream);
    let result = match &mut upstream {
        Stream::Tcp(upstream) => {
            prepare(upstream);
            splice::both_ways(relays, &downstream, upstream).await
        }
        Stream::Unix(upstream) => {
            keep_in_line(upstream);
            splice::both_ways(relays, &downstream, upstream).await
        }
        upstream @ (Stream::Tls(_) | Stream::Gssapi(_)) => {
            copy::both_ways(relays, &downstream, upstream).await
        }
    };
    if result.is_err() {
        reset(&downstream).await;
        if let Some(upstream) = upstream.innermost() {
            reset(upstream).await;
        }
    }
}

/// Has the kernel look whether the other side is still there. Nothing here fails on a TCP socket.
pub(crate) fn prepare(side: &TcpStream) {
    keep_in_line(side);
    // A program that has closed its socket looks like one that has only sent its last byte. The kernel knows better after a while, and says so to
    // whoever asks: so does a peer that is gone without a word.
    let _ = sockopt::set_socket_keepalive(side, true);
    let _ = sockopt::set_tcp_keepidle(side, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(side, KEEP_ALIVE);
}

/// splice(2) does not get by an urgent byte that stands beside the stream, and none is read there. (Unix sockets have them since Linux 5.15.)
fn keep_in_line(side: &impl AsFd) {
    let _ = sockopt::set_socket_oobinline(side, true);
}

/// Closing it is a reset from now on: but first the other side gets what was there before, as it would if nothing stood between.
async fn reset(side: &TcpStream) {
    let last = Instant::now() + PATIENCE;
    while unsent(side.as_fd()) > 0 && Instant::now() < last {
        sleep(TICK).await;
    }
    // Already closed is closed enough.
    let _ = sockopt::set_socket_linger(side, Some(Duration::ZERO));
}
