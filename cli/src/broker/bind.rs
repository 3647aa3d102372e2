//! Programs that listen beside a connection through a proxy (`--bind`): the proxy listens for the connection's peer (BIND of RFC 1928), and what
//! comes there is brought to the program's own listener, by a relay over loopback. So waiting and accepting are the kernel's.
//!
//! A listener is the program's as long as nothing says otherwise: where there is no proxied connection, or the listener is on loopback, it is
//! left alone. Where the proxy is to listen and does not, listen() fails. The network never reaches a listener for which a proxy listens: a
//! filter keeps it out.
//!
//! `connections.rs` says beside which connection a program listens; `binding.rs` has one BIND from its first reply to the relay;
//! `accepted.rs` who has come; `sockets.rs` which sockets are still open; `cookies.rs` remembers what was done to some.

mod accepted;
mod binding;
mod connections;
mod cookies;
mod sockets;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use presocks_abi::socket::{is_loopback, may_leave};
use presocks_proto::standin::{Kind, kind};
use presocks_proto::target::{Host, Target};
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::sync::Notify;

use super::connecting::Connecting;
use super::peers::Peers;
use super::program::Program;
use super::report::Report;
use crate::kernel_route::is_of_this_machine;
use crate::options::Bind;
use crate::socket::source::rebind;
use crate::socket::{Socket, has_spoken, hear_all, hear_loopback_alone, leaves_loopback, stay_on_loopback};
use crate::upstream::dialer::{Dialer, shown};
use crate::upstream::failure::Failure;
use crate::upstream::relay::Relays;
use accepted::Accepted;
use binding::Binding;
pub(super) use connections::Way;
use connections::{Connection, Connections};
use cookies::Cookies;

/// Most refusals that are remembered.
const MOST_REFUSED: usize = 1024;

/// What is known of listening in a session.
pub(super) struct Bindings {
    /// For whom proxies are to listen.
    mode: Bind,
    /// How long a listener on this machine may take.
    limit: Duration,
    peers: Rc<Peers>,
    connecting: Rc<Connecting>,
    dialer: Rc<Dialer>,
    relays: Rc<Relays>,
    report: Rc<Report>,
    connections: RefCell<Connections>,
    /// By the listener's cookie, until it is closed.
    listeners: RefCell<HashMap<u64, Rc<Binding>>>,
    /// Cookies of the sockets for which a proxy is being asked.
    asking: RefCell<HashSet<u64>>,
    has_asked: Notify,
    accepted: RefCell<Accepted>,
    /// What listen() is to say at once, as the proxy has said it to getsockname().
    refused: RefCell<HashMap<u64, i32>>,
    /// Sockets that were bound to any address, where their programs meant the proxy's.
    moved: RefCell<Cookies>,
    /// Sockets that were to be connected, whatever has become of that: they are no listeners until they listen.
    connected: RefCell<Cookies>,
    /// Sockets that we have hear loopback alone.
    apart: RefCell<Cookies>,
    is_swept: Cell<bool>,
}

impl Bindings {
    /// `mode`: for whom proxies are to listen; `limit`: how long a listener on this machine may take.
    pub(super) fn new(
        (mode, limit): (Bind, Duration),
        peers: Rc<Peers>,
        connecting: Rc<Connecting>,
        dialer: Rc<Dialer>,
        relays: Rc<Relays>,
        report: Rc<Report>,
    ) -> Self {
        Self {
            mode,
            limit,
            peers,
            connecting,
            dialer,
            relays,
            report,
            connections: RefCell::default(),
            listeners: RefCell::default(),
            asking: RefCell::default(),
            has_asked: Notify::new(),
            accepted: RefCell::default(),
            refused: RefCell::default(),
            moved: RefCell::default(),
            connected: RefCell::default(),
            apart: RefCell::default(),
            is_swept: Cell::default(),
        }
    }

    /// A program's socket is connected, so that it may listen beside it.
    pub(super) fn note(
        &self,
        socket: &Socket,
        process: impl FnOnce() -> Option<i32>,
        destination: SocketAddr,
        way: Option<Way>,
    ) {
        if self.mode == Bind::Off {
            return;
        }
        let Some(process) = process() else { return };
        self.connections.borrow_mut().insert(Connection::new(socket, process, destination, way));
    }

    /// The socket is being connected.
    pub(super) fn connects(&self, socket: &Socket) {
        if self.mode == Bind::Off {
            return;
        }
        self.forget(socket);
        self.connected.borrow_mut().insert(socket.cookie());
    }

    /// The socket is being connected, or listens for others: for it no proxy listens, and it hears whoever speaks to it.
    fn forget(&self, socket: &Socket) {
        if let Some(binding) = self.listeners.borrow_mut().remove(&socket.cookie()) {
            binding.abandon();
        }
        self.refused.borrow_mut().remove(&socket.cookie());
        if self.apart.borrow_mut().remove(socket.cookie()) {
            // Nothing is lost where that fails: then it hears nobody.
            let _ = hear_all(socket.as_fd());
        }
    }

    /// Who has connected, by the address from which we have brought it; `None` where we have not.
    pub(super) fn peer(&self, cookie: u64, actual: SocketAddr) -> Option<SocketAddr> {
        self.accepted.borrow_mut().get(cookie, actual).map(|accepted| accepted.peer)
    }

    /// Has nobody come yet of whom that could be asked?
    pub(super) fn has_none(&self) -> bool {
        self.accepted.borrow().is_empty()
    }

    /// Is there nothing beside which a program could listen?
    pub(super) fn is_idle(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Where this socket is to be bound that its program would bind to this address: to any, if this is one that the broker has shown as
    /// its own, and that is the proxy's.
    pub(super) fn instead_of(&self, socket: BorrowedFd<'_>, address: SocketAddr) -> Option<SocketAddr> {
        let is_shown = self.connections.borrow().have_shown(address.ip());
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let is_proxys = || !is_of_this_machine(address.ip().to_canonical());
        if !is_shown || !is_proxys() {
            return None;
        }
        self.moved.borrow_mut().insert(sockopt::socket_cookie(socket).ok()?);
        Some(SocketAddr::new(any, address.port()))
    }

    /// What getsockname() is to say; `None`: what the kernel says.
    pub(super) async fn own_address(
        self: &Rc<Self>,
        fd: OwnedFd,
        program: &Program<'_>,
    ) -> Option<SocketAddr> {
        let socket = Socket::new(fd).ok()?;
        if let Some(actual) = socket.peer_address() {
            let accepted = self.accepted.borrow_mut().get(socket.cookie(), actual);
            let shown = match accepted {
                Some(accepted) => Some(accepted.external),
                None if self.peers.destination(socket.cookie(), actual).is_none() => None,
                None => self.connections.borrow_mut().own_address(&socket, program.process()),
            };
            return shown.and_then(|address| in_its_family(address, &socket));
        }
        socket.local_address().ok().filter(|own| own.port() > 0 && self.may_listen(&socket, *own))?;
        let listens = sockopt::socket_acceptconn(socket.as_fd()).unwrap_or(false);
        let known = self.listeners.borrow().get(&socket.cookie()).cloned();
        let is_refused = self.refused.borrow().contains_key(&socket.cookie());
        let external = known.as_deref().and_then(|binding| in_its_family(binding.external, &socket));
        match &known {
            Some(binding) if !binding.is_used_up(&socket) => return external,
            // One that listened before there was a proxied connection is the program's own.
            None if listens => return None,
            // Of a connection that was, it is the address that it had.
            None if has_spoken(socket.as_fd()) || self.connected.borrow().has(socket.cookie()) => {
                return None;
            }
            // Nobody is asked each time.
            _ if is_refused => return external,
            _ => {}
        }
        let Some(connection) = self.beside(program) else { return external };
        match self.bind(&socket, &connection, program).await {
            Ok(binding) => {
                if listens {
                    binding.listen(&socket);
                }
                in_its_family(binding.external, &socket)
            }
            // It may never listen. If it does, it fails; one that listens keeps the address that it had.
            Err(errno) => {
                let mut refused = self.refused.borrow_mut();
                // Nobody tells of those that are closed.
                if refused.len() >= MOST_REFUSED {
                    refused.clear();
                }
                refused.insert(socket.cookie(), errno);
                external
            }
        }
    }

    /// A program's listen(): true when the proxy listens, and the socket does; false when it is the program's alone.
    ///
    /// # Errors
    /// An errno.
    pub(super) async fn listen(
        self: &Rc<Self>,
        fd: OwnedFd,
        backlog: i32,
        program: &Program<'_>,
    ) -> Result<bool, i32> {
        let Ok(socket) = Socket::new(fd) else { return Ok(false) };
        let own = socket.local_address().ok().filter(|own| self.may_listen(&socket, *own));
        if own.is_none()
            || socket.is_connected()
            || sockopt::socket_acceptconn(socket.as_fd()).unwrap_or(true)
        {
            return Ok(false);
        }
        let known = self.listeners.borrow().get(&socket.cookie()).cloned();
        if let Some(errno) = self.refused.borrow_mut().remove(&socket.cookie()) {
            return Err(errno);
        }
        let binding = match (known, self.beside(program)) {
            (Some(binding), _) if !binding.is_used_up(&socket) => binding,
            (_, Some(connection)) => self.bind(&socket, &connection, program).await?,
            // The address that its program means is not this machine's.
            (_, None) if self.moved.borrow().has(socket.cookie()) => return Err(libc::EADDRNOTAVAIL),
            (_, None) => {
                self.forget(&socket);
                return Ok(false);
            }
        };
        // What is brought to it comes from loopback; and IPv6 would send that after an address that has left this machine.
        let fd = socket.as_fd();
        if let Some(own) = own.filter(|own| may_leave(own.ip()))
            && rebind(fd, (Ipv6Addr::LOCALHOST, 0).into()).is_err()
        {
            self.report.cannot_be_brought(program, own.ip());
            self.forget(&socket);
            return Err(libc::EADDRNOTAVAIL);
        }
        // Not every kernel lets the unprivileged have a filter on TCP, nor any on MPTCP. By the device, strangers are refused as where nobody listens; by
        // the filter they are not answered at all.
        let apart = hear_loopback_alone(fd).map(|()| true).or_else(|_| stay_on_loopback(fd).map(|()| false));
        // By another device nothing would come to it that we bring.
        let apart =
            apart.and_then(|how| if leaves_loopback(fd) { Err(Errno::NODEV.into()) } else { Ok(how) });
        match apart {
            Ok(true) => self.apart.borrow_mut().insert(socket.cookie()),
            Ok(false) => {}
            Err(error) => {
                self.report.not_set_apart(program, &error);
                self.forget(&socket);
                return Err(libc::EADDRNOTAVAIL);
            }
        }
        if let Err(error) = rustix::net::listen(fd, backlog) {
            self.forget(&socket);
            return Err(error.raw_os_error());
        }
        binding.listen(&socket);
        Ok(true)
    }

    /// Is it the broker's business that this socket listens? Not on loopback.
    fn may_listen(&self, socket: &Socket, own: SocketAddr) -> bool {
        !own.ip().to_canonical().is_loopback() && !self.connecting.has(socket.cookie())
    }

    /// The connection beside which the program listens, if it goes by a proxy.
    fn beside(&self, program: &Program<'_>) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.beside(program.process()?).filter(|connection| connection.way.is_some())
    }

    /// A BIND for this socket: the one that there is, as long as nobody has come by it whom the program has not accepted yet, or another.
    async fn bind(
        self: &Rc<Self>,
        socket: &Socket,
        connection: &Rc<Connection>,
        program: &Program<'_>,
    ) -> Result<Rc<Binding>, i32> {
        let cookie = socket.cookie();
        let _turn = Turn::wait_for(self, cookie).await;
        let known = self.listeners.borrow().get(&cookie).cloned();
        if let Some(binding) = known.filter(|binding| !binding.is_used_up(socket)) {
            return Ok(binding);
        }
        let way = connection.way.as_ref().ok_or(libc::EADDRNOTAVAIL)?;
        let started = Instant::now();
        let target = if self.mode == Bind::Any { anybody(socket) } else { way.target };
        let bound = self.dialer.bind(&way.hops, target, way.isolation_key.as_ref()).await;
        let bound = bound.and_then(|bound| match in_its_family(bound.at, socket) {
            Some(_) => Ok(bound),
            None => Err(Failure::OtherFamily(bound.at)),
        });
        let shown = shown(&way.hops);
        let outcome = bound.as_ref().map(|bound| bound.at);
        self.report.listening(program, &target, &shown, started.elapsed(), outcome);
        match bound {
            Ok(bound) => {
                // A listener at loopback would be taken for one of this machine's.
                if !is_loopback(bound.at.ip()) {
                    connection.listens_at(bound.at.ip());
                }
                Ok(binding::begin(self, socket, connection, target, bound, program.process()))
            }
            Err(failure) if failure.errno() == libc::EACCES => Err(libc::EACCES),
            Err(_) => Err(libc::EADDRNOTAVAIL),
        }
    }
}

/// Instead of a peer: zeros, by which SOCKS servers that permit it take whoever comes.
fn anybody(socket: &Socket) -> Target {
    let zeros: IpAddr = match Families::of(socket) {
        Families::V6 => Ipv6Addr::UNSPECIFIED.into(),
        Families::V4 | Families::Both => Ipv4Addr::UNSPECIFIED.into(),
    };
    Target { host: Host::Address(zeros), port: 0 }
}

/// While it lives, nobody else asks a proxy to listen for the socket with this cookie.
struct Turn<'a> {
    bindings: &'a Bindings,
    cookie: u64,
}

impl<'a> Turn<'a> {
    async fn wait_for(bindings: &'a Bindings, cookie: u64) -> Self {
        loop {
            // Registered before the look, so that no end is missed.
            let has_asked = bindings.has_asked.notified();
            if bindings.asking.borrow_mut().insert(cookie) {
                return Self { bindings, cookie };
            }
            has_asked.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.bindings.asking.borrow_mut().remove(&self.cookie);
        self.bindings.has_asked.notify_waiters();
    }
}

/// The address as this socket can have it; `None` when it cannot.
fn in_its_family(address: SocketAddr, socket: &Socket) -> Option<SocketAddr> {
    Families::of(socket).show(address)
}

/// Of which families a socket's addresses can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    V4,
    V6,
    /// IPv6, with IPv4 mapped.
    Both,
}

impl Families {
    fn of(socket: &Socket) -> Self {
        match (socket.is_v6(), sockopt::ipv6_v6only(socket.as_fd())) {
            (false, _) => Self::V4,
            (true, Ok(false)) => Self::Both,
            (true, _) => Self::V6,
        }
    }

    fn show(self, address: SocketAddr) -> Option<SocketAddr> {
        let port = address.port();
        match (address.ip().to_canonical(), self) {
            (IpAddr::V4(v4), Self::V4) => Some((v4, port).into()),
            (IpAddr::V4(v4), Self::Both) => Some((v4.to_ipv6_mapped(), port).into()),
            (IpAddr::V6(v6), Self::V6 | Self::Both) => Some((v6, port).into()),
            (IpAddr::V4(_), Self::V6) | (IpAddr::V6(_), Self::V4) => None,
        }
    }
}

/// The address of a reply, if it is one that others can be told.
fn usable(bound: Target) -> Option<SocketAddr> {
    let Host::Address(address) = bound.host else { return None };
    let address = address.to_canonical();
    let is_one = kind(address) == Kind::Ordinary && !address.is_multicast() && address != Ipv4Addr::BROADCAST;
    (is_one && !is_loopback(address)).then(|| SocketAddr::new(address, bound.port))
}
