//! SOCKS5 UDP ASSOCIATE (RFC 1928 section 7): the way of datagrams between the gates and the proxy's relay.
//!
//! A program's socket has one association, opened by its first datagram, and kept for as long as the socket is open: it lasts while its TCP
//! connection does. When the proxy ends it, the next datagram opens another. What cannot be sent is dropped, as by any network.
//!
//! A destination may travel as a name, but its datagrams come back with an address that nobody here knows. So on one association a port is one
//! name's, or it is for any number of addresses; a socket that needs more than that has more associations.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use presocks_proto::frame::Family;
use presocks_proto::socks5::datagram::decode;
use presocks_proto::socks5::{Host, Target};
use presocks_proto::standin::{Kind, kind};
use rustix::net::sockopt;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Datagrams;
use super::bound::relay_of;
use super::flows::Cookie;
use super::relay::Relay;
use crate::policy::is_at;
use crate::policy::route::{Chain, NoDatagrams};
use crate::upstream::dialer::Associated;
use crate::upstream::failure::Failure;
use crate::upstream::hop::Hop;

/// Datagrams, and bytes, that wait for an association to open; the rest is dropped.
const MOST_WAITING: usize = 64;
const MOST_WAITING_BYTES: usize = 1 << 20;

/// Most associations of one socket: so many names can it write to at one port. The rest is dropped, rather than taken for another's.
const MOST_OF_A_SOCKET: usize = 32;

/// An association that ended is not opened anew before this has passed since it was.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a failure is remembered that may pass.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The longest datagram that there is.
const LONGEST: usize = 65_536;

/// A relay that speaks without pause lets others speak after so many datagrams.
const TURN: usize = 64;

/// When the proxy has said nothing for so long it is asked whether it lives (tcp(7), `TCP_KEEPIDLE`).
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A session's associations by one chain.
pub(super) struct Associations {
    /// The chain's index.
    chain: usize,
    /// How its proxy, or else the chain, is called.
    shown: String,
    of: RefCell<HashMap<Cookie, OfSocket>>,
    service: Cell<Service>,
    has_served: Cell<bool>,
    /// Where datagrams are taken apart. Nothing stays in it.
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
    all: Rc<Associations>,
    cookie: Cookie,
    begun: Instant,
    state: RefCell<State>,
    changed: Notify,
    /// Whose datagrams go to these ports by this association, and come from them.
    ports: RefCell<HashMap<u16, Whose>>,
    /// The program's socket is gone.
    let_go: Notify,
}

/// Whom a port of the far side belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// All who have an address.
    Addresses,
    /// Who is meant by this, and answers from an address that nobody here knows: a name, or what a rewrite has made of it.
    One(SocketAddr),
}

enum State {
    Opening { waiting: VecDeque<(Target, Vec<u8>)>, bytes: usize },
    Open(Rc<Relay>),
    Over,
}

impl Associations {
    pub(super) fn new(index: usize, chain: &Chain) -> Self {
        Self {
            chain: index,
            shown: chain.shown(),
            of: RefCell::default(),
            service: Cell::default(),
            has_served: Cell::default(),
            room: RefCell::default(),
        }
    }

    /// Do datagrams wait for an association?
    pub(super) fn is_awaited(&self) -> bool {
        let is_opening = |one: &Rc<Association>| matches!(*one.state.borrow(), State::Opening { .. });
        self.of.borrow().values().any(|of_socket| of_socket.open.iter().any(is_opening))
    }

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

    /// Is it known that it does not take those of this socket? An association that there is goes on when the proxy opens no more.
    pub(super) fn is_refused_to(&self, cookie: Cookie) -> bool {
        self.is_refused() && self.of.borrow().get(&cookie).is_none_or(|of_socket| of_socket.open.is_empty())
    }

    /// Returns when it is known whether the proxy takes datagrams, by whether this socket's association opens; or when that takes longer than
    /// `patience` since it was begun. Datagrams wait for it longer than their senders.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn find_out(
        self: &Rc<Self>,
        datagrams: &Rc<Datagrams>,
        cookie: Cookie,
        patience: Duration,
    ) -> Result<(), Refused> {
        if self.is_served() {
            return Ok(());
        }
        if self.is_refused_to(cookie) {
            return Err(Refused);
        }
        let association = self.first(datagrams, cookie).ok_or(Refused)?;
        let until = association.begun + patience;
        loop {
            let changed = association.changed.notified();
            match &*association.state.borrow() {
                State::Opening { .. } => {}
                State::Open(_) => return Ok(()),
                State::Over => return Err(Refused),
            }
            if timeout_at(until, changed).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Sends a program's datagram, as soon as there is an association.
    pub(super) fn send(
        self: &Rc<Self>,
        datagrams: &Rc<Datagrams>,
        cookie: Cookie,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        let Some(target) = datagrams.policy.meant(destination) else { return };
        let whose = if is_at(&target, destination) { Whose::Addresses } else { Whose::One(destination) };
        if let Some(association) = self.towards(datagrams, cookie, target.port, whose) {
            association.send(target, payload);
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

    fn first(self: &Rc<Self>, datagrams: &Rc<Datagrams>, cookie: Cookie) -> Option<Rc<Association>> {
        let first = self.of.borrow().get(&cookie).and_then(|all| all.open.first().cloned());
        first.or_else(|| self.begin(datagrams, cookie))
    }

    /// The association by which datagrams go to a port of the far side, and come back.
    fn towards(
        self: &Rc<Self>,
        datagrams: &Rc<Datagrams>,
        cookie: Cookie,
        port: u16,
        whose: Whose,
    ) -> Option<Rc<Association>> {
        let all = self.of.borrow().get(&cookie).map(|all| all.open.clone()).unwrap_or_default();
        let is_whose = |association: &&Rc<Association>| association.ports.borrow().get(&port) == Some(&whose);
        let is_free = |association: &&Rc<Association>| !association.ports.borrow().contains_key(&port);
        if let Some(association) = all.iter().find(is_whose) {
            return Some(Rc::clone(association));
        }
        let association = all.iter().find(is_free).cloned();
        let one_more = || if all.len() < MOST_OF_A_SOCKET { self.begin(datagrams, cookie) } else { None };
        let association = association.or_else(one_more)?;
        association.ports.borrow_mut().insert(port, whose);
        Some(association)
    }

    /// `None` when it is known that there will be none.
    fn begin(self: &Rc<Self>, datagrams: &Rc<Datagrams>, cookie: Cookie) -> Option<Rc<Association>> {
        if self.is_refused() {
            return None;
        }
        let mut of = self.of.borrow_mut();
        let of_socket = of.entry(cookie).or_default();
        // One after the other, but not those that are needed at the same time.
        let not_before = of_socket.opened.filter(|_| of_socket.open.is_empty()).map(|opened| opened + PAUSE);
        let association = Rc::new(Association {
            all: Rc::clone(self),
            cookie,
            begun: Instant::now(),
            state: RefCell::new(State::Opening { waiting: VecDeque::new(), bytes: 0 }),
            changed: Notify::new(),
            ports: RefCell::default(),
            let_go: Notify::new(),
        });
        of_socket.opened = Some(Instant::now());
        of_socket.open.push(Rc::clone(&association));
        spawn_local(Rc::clone(&association).live(Rc::clone(datagrams), not_before));
        Some(association)
    }

    fn note(&self, datagrams: &Datagrams, failure: &Failure) {
        // One that has served may have too many associations now.
        let is_for_good = failure.is_lasting() && !self.has_served.get();
        let until = if is_for_good { None } else { Some(Instant::now() + REMEMBERED) };
        self.service.set(Service::Refused(until));
        datagrams.report.no_association(self.chain, &self.shown, failure);
    }
}

/// The proxy does not take datagrams, for good or for now; it has been reported.
#[derive(Debug)]
pub(super) struct Refused;

impl Association {
    /// From its first datagram to its last.
    async fn live(self: Rc<Self>, datagrams: Rc<Datagrams>, not_before: Option<Instant>) {
        let all = &self.all;
        let opened = async {
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
            open(&datagrams, self.all.chain).await
        };
        tokio::select! {
            () = self.let_go.notified() => {}
            opened = opened => match opened {
                Ok((control, relay)) => {
                    all.service.set(Service::Served);
                    all.has_served.set(true);
                    let relay = Rc::new(relay);
                    self.begin(&relay);
                    tokio::select! {
                        () = end_of(control) => self.receive_rest(&datagrams, &relay),
                        () = self.let_go.notified() => {}
                        () = self.receive(&datagrams, &relay) => {}
                    }
                }
                Err(failure) => all.note(&datagrams, &failure),
            },
        }
        self.change(State::Over);
        if let Some(of_socket) = all.of.borrow_mut().get_mut(&self.cookie) {
            of_socket.open.retain(|other| !Rc::ptr_eq(other, &self));
        }
        // One that has no flow, as its datagram was refused, is never swept.
        if !datagrams.has(self.cookie) {
            all.let_go(self.cookie);
        }
    }

    fn change(&self, state: State) -> State {
        let before = self.state.replace(state);
        self.changed.notify_waiters();
        before
    }

    /// The relay is there: what waited for it goes first.
    fn begin(&self, relay: &Rc<Relay>) {
        if let State::Opening { waiting, .. } = self.change(State::Open(Rc::clone(relay))) {
            for (target, payload) in waiting {
                relay.send(&target, &payload);
            }
        }
    }

    fn send(&self, target: Target, payload: &[u8]) {
        match &mut *self.state.borrow_mut() {
            State::Open(relay) => relay.send(&target, payload),
            State::Opening { waiting, bytes } => {
                if waiting.len() < MOST_WAITING && *bytes + payload.len() <= MOST_WAITING_BYTES {
                    *bytes += payload.len();
                    waiting.push_back((target, payload.to_vec()));
                }
            }
            State::Over => {}
        }
    }

    /// Takes what the relay sends, until there is no relay.
    async fn receive(&self, datagrams: &Rc<Datagrams>, relay: &Relay) {
        while relay.socket.readable().await.is_ok() {
            let mut result = Ok(());
            for _ in 0..TURN {
                result = relay.try_receive(|| self.take(datagrams, relay));
                if result.is_err() {
                    break;
                }
            }
            match result {
                Ok(()) => yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// What the relay has sent before the proxy ended the association.
    fn receive_rest(&self, datagrams: &Rc<Datagrams>, relay: &Relay) {
        for _ in 0..TURN {
            if self.take(datagrams, relay).is_err() {
                return;
            }
        }
    }

    /// Takes one datagram to the program.
    fn take(&self, datagrams: &Rc<Datagrams>, relay: &Relay) -> io::Result<()> {
        let mut room = self.all.room.borrow_mut();
        room.resize(LONGEST, 0);
        let Some(datagram) = relay.receive(&mut room)? else { return Ok(()) };
        match decode(&datagram) {
            Ok((source, payload)) => {
                if let Some(source) = self.shown(datagrams, &source) {
                    datagrams.deliver(self.cookie, self.all.chain, source, payload);
                }
            }
            Err(why) => datagrams.report.datagram_dropped(&self.all.shown, &why),
        }
        Ok(())
    }

    /// The source as the program knows it.
    fn shown(&self, datagrams: &Datagrams, source: &Target) -> Option<SocketAddr> {
        if let Some(Whose::One(destination)) = self.ports.borrow().get(&source.port) {
            return Some(*destination);
        }
        let address = match source.host {
            // A stand-in is an address that nobody has.
            Host::Address(address) if kind(address) != Kind::Ordinary => return None,
            Host::Address(address) => address.to_canonical(),
            Host::Name(name) => datagrams.policy.names().resolve(&name, Family::Any).ok()?.iter().next()?,
        };
        Some(SocketAddr::new(address, source.port))
    }
}

/// Opens an association by the first of the chain's proxies that is there: its TCP connection, and a socket that hears the relay alone.
async fn open(datagrams: &Rc<Datagrams>, chain: usize) -> Result<(TcpStream, Relay), Failure> {
    let declared = match datagrams.policy.routes.chain(chain) {
        Some(_) if datagrams.dialer.isolates() => Err(NoDatagrams::Isolation),
        Some(chain) => chain.for_datagrams(),
        None => Err(NoDatagrams::Protocol),
    };
    let proxies = declared.map_err(Failure::NoDatagrams)?;
    let mut last = Failure::ProxyUnreachable(rustix::io::Errno::NETUNREACH.into());
    for hop in proxies.into_iter().filter_map(|place| datagrams.dialer.hop(chain, place)) {
        let addresses = match hop.addresses().await {
            Ok(addresses) => addresses,
            Err(failure) => {
                last = failure;
                continue;
            }
        };
        for proxy in addresses.iter() {
            match open_at(datagrams, hop, *proxy).await {
                Err(failure) if failure.is_of_one_address() => last = failure,
                result => return result,
            }
        }
    }
    Err(last)
}

async fn open_at(
    datagrams: &Rc<Datagrams>,
    hop: &Hop,
    proxy: SocketAddr,
) -> Result<(TcpStream, Relay), Failure> {
    let Associated { control, seal, bound } = datagrams.dialer.associate(hop, proxy).await?;
    // A proxy behind a translator of addresses may be forgotten there when nothing is said. Where that cannot be set, nothing is lost yet.
    let _ = sockopt::set_socket_keepalive(&control, true);
    let _ = sockopt::set_tcp_keepidle(&control, KEEP_ALIVE);
    let relay = relay_of(bound, proxy)?;
    let mut own = control.local_addr().map_err(Failure::Socket)?;
    own.set_port(0);
    if own.is_ipv4() != relay.is_ipv4() {
        own = if relay.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    }
    let relay = Relay::new(own, relay, seal).map_err(Failure::Socket)?;
    Ok((control, relay))
}

/// Returns when the proxy ends the association. It has nothing to say on this connection.
async fn end_of(mut control: TcpStream) {
    let mut room = [0; 64];
    while control.read(&mut room).await.is_ok_and(|len| len > 0) {}
}
