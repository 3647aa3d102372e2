//! One BIND, from its first reply on: it waits for the second, and brings who has come to the program's listener.
//!
//! The connection to the proxy stands for the proxy's listening: it is closed when the program's listener is. No copy of the listener is kept,
//! which would keep its port.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use presocks_proto::handshake::Handshake;
use presocks_proto::standin::{self, kind};
use presocks_proto::target::Target;
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::accepted::Come;
use super::connections::Connection;
use super::sockets::{self, Identity};
use super::{Bindings, Families, usable};
use crate::options::Bind;
use crate::socket::{Socket, stay_on_loopback, waiting_connections};
use crate::upstream::dialer::{Listening, shown as path_of};
use crate::upstream::failure::Failure;
use crate::upstream::negotiate::hear;
use crate::upstream::relay;
use crate::upstream::stream::Stream;

/// So long it is remembered who has come, when the connection is over: the program may ask late.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A proxy listens for a program's socket, or has done so.
pub(super) struct Binding {
    /// Where.
    pub(super) external: SocketAddr,
    /// Which socket it is for.
    pub(super) identity: Identity,
    /// For whom.
    target: Target,
    families: Families,
    /// Where that listens, once it does.
    listener: Cell<Option<SocketAddr>>,
    is_abandoned: Cell<bool>,
    has_changed: Notify,
    /// Somebody has come, and was brought to the listener; or nobody will.
    is_over: Cell<bool>,
    /// Missed by the last sweep.
    pub(super) is_missing: Cell<bool>,
}

/// Remembers the BIND, and waits for its second reply.
pub(super) fn begin(
    bindings: &Rc<Bindings>,
    socket: &Socket,
    connection: &Rc<Connection>,
    target: Target,
    listening: Listening,
    process: Option<i32>,
) -> Rc<Binding> {
    let Listening { stream, at, second_reply } = listening;
    let binding = Rc::new(Binding {
        external: at,
        identity: Identity::new(socket, process),
        target,
        families: Families::of(socket),
        listener: Cell::default(),
        is_abandoned: Cell::default(),
        has_changed: Notify::new(),
        is_over: Cell::default(),
        is_missing: Cell::default(),
    });
    let before = bindings.listeners.borrow_mut().insert(socket.cookie(), Rc::clone(&binding));
    if let Some(before) = before {
        before.abandon();
    }
    if let Some(stream) = stream.innermost() {
        relay::prepare(stream);
    }
    sockets::keep_swept(bindings);
    spawn_local(attend(
        Rc::clone(bindings),
        Rc::clone(&binding),
        Rc::clone(connection),
        stream,
        second_reply,
    ));
    binding
}

impl Binding {
    /// The socket listens from now on.
    pub(super) fn listen(&self, socket: &Socket) {
        self.listener.set(socket.local_address().ok());
        self.has_changed.notify_waiters();
    }

    /// The socket is closed, or is used for something else.
    pub(super) fn abandon(&self) {
        self.is_abandoned.set(true);
        self.has_changed.notify_waiters();
    }

    /// Has the program accepted whoever has come by it? As long as it has not, a new one would tell it of another address than the one that it has
    /// given away. (A listener's `TCP_INFO` has the length of its queue.)
    pub(super) fn is_used_up(&self, socket: &Socket) -> bool {
        self.is_over.get() && waiting_connections(socket.as_fd()) == 0
    }

    /// Where the socket listens.
    pub(super) fn listener(&self) -> Option<SocketAddr> {
        self.listener.get()
    }

    async fn until<T>(&self, found: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            // Registered before the look, so that no change is missed.
            let changed = self.has_changed.notified();
            if let Some(found) = found(self) {
                return found;
            }
            changed.await;
        }
    }

    /// Returns when nobody is to come any more.
    async fn abandoned(&self) {
        self.until(|binding| binding.is_abandoned.get().then_some(())).await;
    }
}

async fn attend(
    bindings: Rc<Bindings>,
    binding: Rc<Binding>,
    connection: Rc<Connection>,
    mut stream: Stream,
    mut second_reply: Handshake<'static>,
) {
    let heard = tokio::select! {
        biased;
        () = binding.abandoned() => return,
        heard = hear(&mut stream, &mut second_reply) => heard,
    };
    let Some(way) = &connection.way else { return };
    if let Err(failure) = heard {
        binding.is_over.set(true);
        let failure = match failure {
            Failure::ProxyClosed(error) => Failure::ListensNoMore(error),
            other => other,
        };
        return bindings.report.nobody_came(&binding.target, &path_of(&way.hops), &failure);
    }
    let come = second_reply.bound();
    let fits = |address: &SocketAddr| binding.families.show(*address).is_some();
    let peer = if bindings.mode == Bind::Any {
        come.and_then(usable).filter(fits)
    } else {
        let peer = shown(come, connection.destination);
        // A proxy that has both families may tell of the other one.
        let known_as = SocketAddr::new(connection.destination.ip(), peer.port());
        [peer, known_as].into_iter().find(fits)
    };
    let peer = peer.unwrap_or(binding.external);
    let brought = tokio::select! {
        biased;
        () = binding.abandoned() => None,
        brought = bring(&bindings, &binding, peer) => Some(brought),
    };
    binding.is_over.set(true);
    let (program, source, number) = match brought {
        Some(Ok(brought)) => brought,
        Some(Err(error)) => {
            let failure = Failure::NotBrought(error);
            bindings.report.nobody_came(&binding.target, &path_of(&way.hops), &failure);
            return refuse(&stream);
        }
        None => return refuse(&stream),
    };
    let who: &dyn std::fmt::Display = come.as_ref().map_or(&peer, |come| come);
    bindings.report.somebody_came(who, binding.external, &path_of(&way.hops));
    bindings.relays.serve(program, stream).await;
    sleep(REMEMBERED).await;
    bindings.accepted.borrow_mut().forget(source, number);
}

/// Who has come, as the program is to know it: where it has asked for a name, the proxy lets nobody in but that name's host, which the program knows by
/// a stand-in alone.
fn shown(bound: Option<Target>, destination: SocketAddr) -> SocketAddr {
    let port = bound.map_or(destination.port(), |bound| bound.port);
    let known_as = SocketAddr::new(destination.ip(), port);
    match kind(destination.ip()) {
        standin::Kind::StandIn(_) | standin::Kind::Reserved => known_as,
        standin::Kind::Ordinary => bound.and_then(usable).unwrap_or(known_as),
    }
}

/// Connects to the program's listener, once there is one, from an address that nobody else has meanwhile; with it, the number by which to forget it.
async fn bring(
    bindings: &Bindings,
    binding: &Binding,
    peer: SocketAddr,
) -> io::Result<(TcpStream, SocketAddr, u64)> {
    let listener = binding.until(Binding::listener).await;
    // Another may have the port by now. (Afterwards there is no telling: who accepts one connection alone closes the listener at once.)
    if !binding.identity.listens(listener) {
        return Err(Errno::CONNREFUSED.into());
    }
    let (source, to) = ends(listener.ip(), binding.external.ip());
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Whatever becomes of the listener's address, nothing leaves. All kernels since 5.7 permit this.
    let _ = stay_on_loopback(socket.as_fd());
    socket.bind((source, 0).into())?;
    let source = socket.local_addr()?;
    // The program may be quick, and ask before connect() has returned here.
    let number = bindings.accepted.borrow_mut().expect(source, Come { peer, external: binding.external });
    let connected = socket.connect(SocketAddr::new(to, listener.port()));
    let connected = timeout(bindings.limit, connected).await;
    let stream = connected.unwrap_or_else(|_| Err(Errno::TIMEDOUT.into()));
    if stream.is_err() {
        bindings.accepted.borrow_mut().forget(source, number);
    }
    let stream = stream?;
    // What is passed on goes at once, as it came.
    stream.set_nodelay(true)?;
    Ok((stream, source, number))
}

/// Between which addresses a listener is reached from here. One for both families hears IPv4 as well, and there may be no IPv6.
fn ends(listener: IpAddr, external: IpAddr) -> (IpAddr, IpAddr) {
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    match listener.to_canonical() {
        IpAddr::V4(own) => (V4, if own.is_unspecified() { V4 } else { own.into() }),
        IpAddr::V6(own) if own.is_unspecified() && external.to_canonical().is_ipv4() => (V4, V4),
        IpAddr::V6(own) => (V6, if own.is_unspecified() { V6 } else { own.into() }),
    }
}

/// There is nobody to take the connection: as a closed port would, it resets it.
fn refuse(stream: &Stream) {
    if let Some(stream) = stream.innermost() {
        let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use presocks_proto::name::Name;
    use presocks_proto::target::Host;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_listener_is_reached_where_it_hears_and_an_ipv6_one_without_ipv6_too() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (v4, v6) = (ip("127.0.0.1"), ip("::1"));
        for (listener, external, source, to) in [
            ("0.0.0.0", "203.0.113.9", v4, v4),
            ("10.0.0.1", "203.0.113.9", v4, ip("10.0.0.1")),
            ("::ffff:10.0.0.1", "203.0.113.9", v4, ip("10.0.0.1")),
            ("::", "203.0.113.9", v4, v4),
            ("::", "2001:db8::9", v6, v6),
            ("fd00::1", "2001:db8::9", v6, ip("fd00::1")),
        ] {
            assert_eq!(ends(ip(listener), ip(external)), (source, to), "{listener} {external}");
        }
    }

    #[test]
    fn who_has_come_is_shown_as_the_program_knows_it() {
        let reply = |host, port| Some(Target { host, port });
        let address = reply(Host::Address([192, 0, 2, 7].into()), 20);
        let name = reply(Host::Name(Name::new(b"origin.test").unwrap()), 20);
        let zeros = reply(Host::Address([0, 0, 0, 0].into()), 20);
        let standin = at("198.18.3.4:21");
        assert!(matches!(kind(standin.ip()), standin::Kind::StandIn(_)));
        for (bound, destination, expected) in [
            (address, at("192.0.2.7:21"), "192.0.2.7:20"),
            (address, standin, "198.18.3.4:20"),
            (name, at("192.0.2.7:21"), "192.0.2.7:20"),
            (zeros, at("192.0.2.7:21"), "192.0.2.7:20"),
            (None, at("192.0.2.7:21"), "192.0.2.7:21"),
        ] {
            assert_eq!(shown(bound, destination), at(expected), "{bound:?}");
        }
    }
}
