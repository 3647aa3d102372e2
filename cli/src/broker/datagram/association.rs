//! SOCKS5 UDP ASSOCIATE (RFC 1928 section 7): the way of datagrams between the gates and the proxy's relay.
//!
//! A program's socket has one association, opened by its first datagram, and kept for as long as the socket is open: it lasts while its TCP
//! connection does. When the proxy ends it, the next datagram opens another. What cannot be sent is dropped, as by any network.
//!
//! A destination may travel as a name, but its datagrams come back with an address. An unknown address belongs to the name of that port. Two
//! names of the same port that have not answered yet could not be told apart: the second one gets an association of its own.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use presocks_proto::frame::Family;
use presocks_proto::socks5::datagram::{Header, MAX_HEADER, decode};
use presocks_proto::socks5::{Host, Target};
use presocks_proto::standin::{Kind, kind};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg, sockopt};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, timeout};

use super::flows::Cookie;
use crate::broker::Broker;
use crate::broker::connect::associate;
use crate::broker::failure::Failure;
use crate::broker::socket::{canonical, watch};

/// Datagrams, and bytes, that wait for an association to open; the rest is dropped.
const MOST_WAITING: usize = 64;
const MOST_WAITING_BYTES: usize = 1 << 20;

/// Most associations of one socket. Beyond, names of the same port may be confused.
const MOST_OF_A_SOCKET: usize = 8;

/// An association that ended is not opened anew before this has passed since it was.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a failure is remembered that may pass.
const REMEMBERED: Duration = Duration::from_secs(5);

/// A relay that speaks without pause lets others speak after so many datagrams.
const TURN: usize = 64;

/// When the proxy has said nothing for so long it is asked whether it lives (tcp(7), `TCP_KEEPIDLE`).
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A session's associations.
#[derive(Default)]
pub(super) struct Associations {
    of: RefCell<HashMap<Cookie, OfSocket>>,
    service: Cell<Service>,
    /// Where a datagram is put together, or taken apart. Nothing stays in it.
    room: RefCell<Vec<u8>>,
}

/// Whether the proxy takes datagrams, as far as is known.
#[derive(Clone, Copy, Default)]
enum Service {
    #[default]
    Unknown,
    Served,
    /// Until then; without a time, for good.
    Refused(Option<Instant>),
}

#[derive(Default)]
struct OfSocket {
    open: Vec<Rc<Association>>,
    opened: Option<Instant>,
}

struct Association {
    cookie: Cookie,
    state: RefCell<State>,
    changed: Notify,
    names: RefCell<Names>,
    /// The program's socket is gone.
    let_go: Notify,
}

enum State {
    Opening { waiting: VecDeque<(SocketAddr, Vec<u8>)>, bytes: usize },
    Open(Rc<UdpSocket>),
    Over,
}

impl Associations {
    /// Is it known that the proxy takes datagrams?
    pub(super) fn is_served(&self) -> bool {
        matches!(self.service.get(), Service::Served)
    }

    /// Is it known that it does not?
    pub(super) fn is_refused(&self) -> bool {
        match self.service.get() {
            Service::Refused(until) => until.is_none_or(|until| Instant::now() < until),
            Service::Unknown | Service::Served => false,
        }
    }

    /// Returns when it is known whether the proxy takes datagrams: the first who asks waits until this socket's association is open.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn find_out(&self, broker: &Rc<Broker>, cookie: Cookie) -> Result<(), Refused> {
        if self.is_served() {
            return Ok(());
        }
        if self.is_refused() {
            return Err(Refused);
        }
        let association = self.first(broker, cookie).ok_or(Refused)?;
        loop {
            let changed = association.changed.notified();
            match &*association.state.borrow() {
                State::Opening { .. } => {}
                State::Open(_) => return Ok(()),
                State::Over => return Err(Refused),
            }
            changed.await;
        }
    }

    /// Sends a program's datagram, as soon as there is an association.
    pub(super) fn send(&self, broker: &Rc<Broker>, cookie: Cookie, destination: SocketAddr, payload: &[u8]) {
        let is_name = matches!(kind(destination.ip()), Kind::StandIn(_));
        let association =
            if is_name { self.for_name(broker, cookie, destination) } else { self.first(broker, cookie) };
        if let Some(association) = association {
            association.send(broker, destination, payload);
        }
    }

    /// The program's socket is gone, and its associations with it.
    pub(super) fn let_go(&self, cookie: Cookie) {
        if let Some(of_socket) = self.of.borrow_mut().remove(&cookie) {
            for association in of_socket.open {
                association.let_go.notify_one();
            }
        }
    }

    fn first(&self, broker: &Rc<Broker>, cookie: Cookie) -> Option<Rc<Association>> {
        let first = self.of.borrow().get(&cookie).and_then(|all| all.open.first().cloned());
        first.or_else(|| self.begin(broker, cookie))
    }

    fn for_name(&self, broker: &Rc<Broker>, cookie: Cookie, name: SocketAddr) -> Option<Rc<Association>> {
        let all = self.of.borrow().get(&cookie).map(|all| all.open.clone()).unwrap_or_default();
        let known = all.iter().find(|association| association.names.borrow().has(name));
        let free = || all.iter().find(|association| association.names.borrow_mut().take(name));
        if let Some(association) = known.or_else(free) {
            return Some(Rc::clone(association));
        }
        let association = if all.len() < MOST_OF_A_SOCKET { self.begin(broker, cookie) } else { None };
        let association = association.or_else(|| all.first().cloned())?;
        association.names.borrow_mut().asked.push((name, false));
        Some(association)
    }

    /// `None` too soon after the last one.
    fn begin(&self, broker: &Rc<Broker>, cookie: Cookie) -> Option<Rc<Association>> {
        let mut of = self.of.borrow_mut();
        let of_socket = of.entry(cookie).or_default();
        let is_too_soon = of_socket.opened.is_some_and(|opened| opened.elapsed() < PAUSE);
        if self.is_refused() || is_too_soon && of_socket.open.is_empty() {
            return None;
        }
        let association = Rc::new(Association {
            cookie,
            state: RefCell::new(State::Opening { waiting: VecDeque::new(), bytes: 0 }),
            changed: Notify::new(),
            names: RefCell::default(),
            let_go: Notify::new(),
        });
        of_socket.opened = Some(Instant::now());
        of_socket.open.push(Rc::clone(&association));
        spawn_local(Rc::clone(&association).live(Rc::clone(broker)));
        Some(association)
    }

    fn note(&self, broker: &Broker, failure: &Failure) {
        let until = if failure.is_lasting() { None } else { Some(Instant::now() + REMEMBERED) };
        self.service.set(Service::Refused(until));
        broker.report.no_association(failure);
    }
}

/// The proxy does not take datagrams, for good or for now; it has been reported.
#[derive(Debug)]
pub(super) struct Refused;

impl Association {
    /// From its first datagram to its last.
    async fn live(self: Rc<Self>, broker: Rc<Broker>) {
        let all = &broker.datagrams.associations;
        tokio::select! {
            () = self.let_go.notified() => {}
            opened = open(&broker) => match opened {
                Ok((control, relay)) => {
                    all.service.set(Service::Served);
                    let relay = Rc::new(relay);
                    self.begin(&broker, &relay);
                    tokio::select! {
                        () = end_of(control) => {}
                        () = self.let_go.notified() => {}
                        () = self.receive(&broker, &relay) => {}
                    }
                }
                Err(failure) => all.note(&broker, &failure),
            },
        }
        self.change(State::Over);
        if let Some(of_socket) = all.of.borrow_mut().get_mut(&self.cookie) {
            of_socket.open.retain(|other| !Rc::ptr_eq(other, &self));
        }
    }

    fn change(&self, state: State) -> State {
        let before = self.state.replace(state);
        self.changed.notify_waiters();
        before
    }

    /// The relay is there: what waited for it goes first.
    fn begin(&self, broker: &Broker, relay: &Rc<UdpSocket>) {
        if let State::Opening { waiting, .. } = self.change(State::Open(Rc::clone(relay))) {
            for (destination, payload) in waiting {
                pass_on(broker, relay, destination, &payload);
            }
        }
    }

    fn send(&self, broker: &Broker, destination: SocketAddr, payload: &[u8]) {
        match &mut *self.state.borrow_mut() {
            State::Open(relay) => pass_on(broker, relay, destination, payload),
            State::Opening { waiting, bytes } => {
                if waiting.len() < MOST_WAITING && *bytes + payload.len() <= MOST_WAITING_BYTES {
                    *bytes += payload.len();
                    waiting.push_back((destination, payload.to_vec()));
                }
            }
            State::Over => {}
        }
    }

    /// Takes what the relay sends, until there is no relay.
    async fn receive(&self, broker: &Rc<Broker>, relay: &UdpSocket) {
        while relay.readable().await.is_ok() {
            for _ in 0..TURN {
                match self.take(broker, relay) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The relay's host says that nobody is there any more.
                    Err(_) => return,
                }
            }
            yield_now().await;
        }
    }

    /// Takes one datagram to the program.
    fn take(&self, broker: &Rc<Broker>, relay: &UdpSocket) -> io::Result<()> {
        let mut room = broker.datagrams.associations.room.borrow_mut();
        room.resize(MAX_HEADER + 65_536, 0);
        let len = relay.try_recv(&mut room)?;
        match decode(room.get(..len).unwrap_or(&[])) {
            Ok((source, payload)) => {
                if let Some(source) = self.shown(broker, &source) {
                    super::deliver(broker, self.cookie, source, payload);
                }
            }
            Err(why) => broker.report.datagram_dropped(&why),
        }
        Ok(())
    }

    /// The source as the program knows it.
    fn shown(&self, broker: &Broker, source: &Target) -> Option<SocketAddr> {
        let address = match source.host {
            Host::Address(address) => SocketAddr::new(address.to_canonical(), source.port),
            Host::Name(name) => {
                let addresses = broker.names.borrow_mut().resolve(&name, Family::Any).ok()?;
                let stand_ins = || addresses.iter().map(|address| SocketAddr::new(address, source.port));
                let asked = stand_ins().find(|stand_in| self.names.borrow().has(*stand_in));
                return asked.or_else(|| stand_ins().next());
            }
        };
        // One that the program wrote to by its address has its own flow.
        if broker.datagrams.knows(self.cookie, address) {
            return Some(address);
        }
        Some(self.names.borrow_mut().of(address).unwrap_or(address))
    }
}

/// The names that a socket has sent to by one association.
#[derive(Default)]
struct Names {
    /// Stand-ins, and whether each has answered.
    asked: Vec<(SocketAddr, bool)>,
    /// The addresses that turned out to be theirs.
    known: HashMap<SocketAddr, SocketAddr>,
}

impl Names {
    fn has(&self, name: SocketAddr) -> bool {
        self.asked.iter().any(|(asked, _)| *asked == name)
    }

    /// Takes a name, unless there is one of this port that has not answered.
    fn take(&mut self, name: SocketAddr) -> bool {
        let is_free =
            !self.asked.iter().any(|(asked, has_answered)| asked.port() == name.port() && !has_answered);
        if is_free {
            self.asked.push((name, false));
        }
        is_free
    }

    /// The name whose address this is.
    fn of(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        if let Some(name) = self.known.get(&address) {
            return Some(*name);
        }
        let of_port = || self.asked.iter().filter(|(asked, _)| asked.port() == address.port());
        let silent = of_port().find(|(_, has_answered)| !has_answered);
        // A name may have several addresses.
        let only = if of_port().count() == 1 { of_port().next() } else { None };
        let (name, _) = *silent.or(only)?;
        self.known.insert(address, name);
        for (asked, has_answered) in &mut self.asked {
            *has_answered |= *asked == name;
        }
        Some(name)
    }
}

/// Sends one datagram to the relay.
fn pass_on(broker: &Broker, relay: &UdpSocket, destination: SocketAddr, payload: &[u8]) {
    let host = match kind(destination.ip()) {
        Kind::StandIn(index) => broker.names.borrow().name(index).map(Host::Name),
        Kind::Reserved => None,
        Kind::Ordinary => Some(Host::Address(destination.ip())),
    };
    let Some(host) = host else { return };
    let header = Header::new(&Target { host, port: destination.port() });
    let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
    // As in any network, a datagram may be lost. Its receiver, should it be gone, is noticed by `receive`.
    // Not by the runtime, which takes a new socket for unready until it has asked the kernel.
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = sendmsg(relay, &parts, &mut SendAncillaryBuffer::default(), flags);
}

/// Opens an association: its TCP connection, and a socket that hears the relay alone.
async fn open(broker: &Rc<Broker>) -> Result<(TcpStream, UdpSocket), Failure> {
    let mut last = Failure::ProxyUnreachable(rustix::io::Errno::NETUNREACH.into());
    for proxy in &broker.settings.proxy_addresses {
        match open_at(broker, *proxy).await {
            Err(failure) if failure.is_of_one_address() => last = failure,
            result => return result,
        }
    }
    Err(last)
}

async fn open_at(broker: &Rc<Broker>, proxy: SocketAddr) -> Result<(TcpStream, UdpSocket), Failure> {
    let limit = broker.settings.connect_timeout;
    let control = match timeout(limit, TcpStream::connect(proxy)).await {
        Ok(result) => result.map_err(Failure::ProxyUnreachable)?,
        Err(_) => return Err(Failure::ProxyTimeout(limit)),
    };
    // A proxy behind a translator of addresses may be forgotten there when nothing is said. Where that cannot be set, nothing is lost yet.
    let _ = sockopt::set_socket_keepalive(&control, true);
    let _ = sockopt::set_tcp_keepidle(&control, KEEP_ALIVE);
    // The runtime watches it as a bare descriptor for the handshake.
    let control = control.into_std().map_err(Failure::Socket)?;
    let bound = {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let watched = watch(control.as_fd(), interest).map_err(Failure::Socket)?;
        associate(broker, &watched).await?
    };
    let relay = relay_of(bound, proxy)?;
    let mut own = control.local_addr().map_err(Failure::Socket)?;
    own.set_port(0);
    if own.is_ipv4() != relay.is_ipv4() {
        own = if relay.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    }
    let socket = std::net::UdpSocket::bind(own).map_err(Failure::Socket)?;
    socket.connect(relay).map_err(Failure::Socket)?;
    socket.set_nonblocking(true).map_err(Failure::Socket)?;
    let socket = UdpSocket::from_std(socket).map_err(Failure::Socket)?;
    Ok((TcpStream::from_std(control).map_err(Failure::Socket)?, socket))
}

/// Where the relay is. An unspecified address means the proxy's own; so does a loopback address, which is that of the proxy's host.
fn relay_of(bound: Option<Target>, proxy: SocketAddr) -> Result<SocketAddr, Failure> {
    let bound = bound.ok_or(Failure::NoRelay(None))?;
    let unusable = || Failure::NoRelay(Some(Box::new(bound)));
    let Host::Address(address) = bound.host else { return Err(unusable()) };
    if bound.port == 0 {
        return Err(unusable());
    }
    let address = address.to_canonical();
    let is_the_proxys = address.is_unspecified()
        || address.is_loopback() && !proxy.ip().to_canonical().is_loopback()
        || address == proxy.ip().to_canonical();
    match address {
        // With its scope, should it have one.
        _ if is_the_proxys => {
            let mut relay = canonical(proxy);
            relay.set_port(bound.port);
            Ok(relay)
        }
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Err(unusable()),
        IpAddr::V6(v6) if v6.is_multicast() => Err(unusable()),
        address => Ok(SocketAddr::new(address, bound.port)),
    }
}

/// Returns when the proxy ends the association. It has nothing to say on this connection.
async fn end_of(mut control: TcpStream) {
    let mut room = [0; 64];
    while control.read(&mut room).await.is_ok_and(|len| len > 0) {}
}
