//! A program's connect(): decide, connect its own socket, negotiate on it, hand it back.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use presocks_proto::handshake::{Handshake, Step};
use presocks_proto::socks5;
use presocks_proto::target::{Host, Target};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::destination::{Route, route};
use super::failure::Failure;
use super::report::{Program, Via};
use super::socket::{Socket, Watched, receive, send_all, watch};
use super::{Broker, pipelining, relay, resolver};
use crate::proxy::Proxy;

/// Connects; the errno for the program, 0 for success. `None` when the program has given the attempt up.
pub(super) async fn serve(
    broker: &Rc<Broker>,
    fd: OwnedFd,
    destination: SocketAddr,
    program: &Program<'_>,
    given_up: impl Future<Output = ()>,
) -> Option<i32> {
    let socket = match Socket::new(fd) {
        Ok(socket) => socket,
        Err(error) => return Some(Failure::Socket(error).errno()),
    };
    // The shim has looked already, but two threads may have looked at once.
    let Some(_turn) = Turn::take(broker, socket.cookie()) else {
        return Some(libc::EALREADY);
    };
    if socket.is_connected() {
        return Some(libc::EISCONN);
    }
    let started = Instant::now();
    let (route, result) = match route(broker, destination, &|| program.names()) {
        Err(failure) => (None, Err(failure)),
        Ok(route) => tokio::select! {
            result = attempt(broker, &socket, &route) => (Some(route), result),
            () = given_up => {
                socket.reset();
                return None;
            }
        },
    };
    let shown: &dyn fmt::Display = match &route {
        Some(Route::Chain(_, target) | Route::Direct(target)) => target,
        Some(Route::Resolver(_)) | None => &destination,
    };
    let via = match route {
        Some(Route::Direct(_)) => Via::Direct,
        Some(Route::Resolver(_)) => Via::Resolver,
        Some(Route::Chain(..)) | None => Via::Proxy,
    };
    broker.report.connected(program, shown, via, started.elapsed(), &result);
    Some(match result {
        Ok(()) => {
            // A peer that has reset the connection already has no address any more.
            if let Some(actual) = socket.peer_address() {
                broker.peers.borrow_mut().insert(socket.cookie(), destination, actual);
            }
            0
        }
        Err(failure) => {
            // A socket that listens, say, was not touched, and must not be.
            if failure.errno() != libc::EISCONN {
                socket.reset();
            }
            failure.errno()
        }
    })
}

/// While it lives, nobody else connects the socket with this cookie.
struct Turn<'a> {
    broker: &'a Broker,
    cookie: u64,
}

impl<'a> Turn<'a> {
    fn take(broker: &'a Broker, cookie: u64) -> Option<Self> {
        let is_free = broker.connecting.borrow_mut().insert(cookie);
        // Lazily: a turn that is made must also end, and would end the other task's.
        is_free.then(|| Self { broker, cookie })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.broker.connecting.borrow_mut().remove(&self.cookie);
    }
}

async fn attempt(broker: &Rc<Broker>, socket: &Socket, route: &Route) -> Result<(), Failure> {
    let target = match route {
        Route::Chain(_, target) => *target,
        Route::Direct(target) => {
            let unreachable = || Failure::Direct(Errno::NETUNREACH.into());
            let Host::Address(address) = target.host else { return Err(unreachable()) };
            let address = socket.reach(SocketAddr::new(address, target.port)).ok_or_else(unreachable)?;
            socket.connect(address).await.map_err(Failure::Direct)?;
            socket.settle(address);
            return Ok(());
        }
        Route::Resolver(server) => {
            let program = relay::meet(broker, socket).await?;
            spawn_local(resolver::converse(Rc::clone(broker), program, *server));
            return Ok(());
        }
    };
    let proxies = &broker.settings.proxy_addresses;
    let mut last = Failure::ProxyUnreachable(Errno::NETUNREACH.into());
    // The addresses that the socket itself can reach come first.
    for (proxy, address) in proxies.iter().filter_map(|proxy| Some((proxy, socket.reach(*proxy)?))) {
        match through(broker, socket, address, target).await {
            Ok(()) => {
                pipelining::count(broker, *proxy);
                return Ok(());
            }
            Err(failure) if failure.is_of_one_address() => last = failure,
            Err(failure) => return Err(failure),
        }
        socket.reset();
    }
    for proxy in proxies.iter().filter(|proxy| socket.reach(**proxy).is_none()) {
        match relay::connect(broker, socket, *proxy, target).await {
            Err(failure) if failure.is_of_one_address() => last = failure,
            result => return result,
        }
        socket.reset();
    }
    Err(last)
}

/// Connects the socket to the proxy at `address` and negotiates on it.
async fn through(
    broker: &Broker,
    socket: &Socket,
    address: SocketAddr,
    target: Target,
) -> Result<(), Failure> {
    let handshake = handshake(broker, target)?;
    let limit = broker.settings.connect_timeout;
    match timeout(limit, socket.connect(address)).await {
        Ok(Ok(())) => {}
        // Not the proxy's doing: the socket was bound where no route to the proxy begins, or listens, or the like.
        Ok(Err(error)) if is_own_fault(&error) => return Err(Failure::Socket(error)),
        Ok(Err(error)) => return Err(Failure::ProxyUnreachable(error)),
        Err(_) => return Err(Failure::ProxyTimeout(limit)),
    }
    let interest = Interest::READABLE | Interest::WRITABLE;
    let watched = watch(socket.as_fd(), interest).map_err(Failure::Socket)?;
    negotiate(broker, &watched, handshake).await?;
    drop(watched);
    socket.settle(address);
    Ok(())
}

fn is_own_fault(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EISCONN | libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EINVAL | libc::EAFNOSUPPORT)
    )
}

/// The handshake that connects to `target`.
///
/// # Errors
/// The proxy cannot be asked for this target.
pub(super) fn handshake(broker: &Broker, target: Target) -> Result<Handshake<'_>, Failure> {
    if broker.pipelining.is_proven() {
        return Ok(Handshake::Socks5(socks5::Handshake::pipelined(target)));
    }
    let proxy = proxy(broker)?;
    proxy.handshake(target).map_err(Failure::Handshake)
}

/// The first proxy of the default chain.
///
/// # Errors
/// There is none.
pub(super) fn proxy(broker: &Broker) -> Result<&Proxy, Failure> {
    let first = broker.settings.routes.chain(0).and_then(|chain| chain.proxies.first());
    first.ok_or_else(|| Failure::ProxyUnreachable(Errno::NETUNREACH.into()))
}

/// Does what the handshake says on a socket that is connected to the proxy, limited in time.
///
/// # Errors
/// [`Failure`] as the proxy or the clock has it.
pub(super) async fn negotiate(
    broker: &Broker,
    socket: &Watched<'_>,
    handshake: Handshake<'_>,
) -> Result<(), Failure> {
    let limit = broker.settings.timeout;
    match timeout(limit, converse(socket, handshake)).await {
        Ok(result) => result,
        Err(_) => {
            broker.pipelining.disprove();
            Err(Failure::AnswerTimeout(limit))
        }
    }
}

/// UDP ASSOCIATE on a socket that is connected to the proxy, limited in time. The relay's address, as the proxy gave it.
///
/// # Errors
/// [`Failure`] as the proxy or the clock has it.
pub(super) async fn associate(
    broker: &Broker,
    socket: &Watched<'_>,
    mut association: Handshake<'_>,
) -> Result<Option<Target>, Failure> {
    let limit = broker.settings.timeout;
    match timeout(limit, drive(socket, &mut association)).await {
        Ok(result) => result.map(|()| association.bound()),
        Err(_) => Err(Failure::AnswerTimeout(limit)),
    }
}

/// Does what the handshake says until it ends.
///
/// # Errors
/// [`Failure`] as the proxy has it.
pub(super) async fn converse(socket: &Watched<'_>, mut handshake: Handshake<'_>) -> Result<(), Failure> {
    drive(socket, &mut handshake).await
}

async fn drive(socket: &Watched<'_>, handshake: &mut Handshake<'_>) -> Result<(), Failure> {
    let broken = |error| Failure::ProxyClosed(Some(error));
    let mut buffer = [0; 512];
    loop {
        let wanted = match handshake.next_step() {
            Step::Connected => return Ok(()),
            Step::Send(bytes) => {
                send_all(socket, bytes).await.map_err(broken)?;
                continue;
            }
            Step::Receive(wanted) => wanted,
        };
        // Not one byte more: the next one belongs to the program.
        let room = buffer.get_mut(..wanted).ok_or(Failure::ProxyClosed(None))?;
        let len = receive(socket, room).await.map_err(broken)?;
        if len == 0 {
            return Err(Failure::ProxyClosed(None));
        }
        handshake.handle_input(buffer.get(..len).unwrap_or(&[])).map_err(Failure::Handshake)?;
    }
}
