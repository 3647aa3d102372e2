//! Programs' datagrams: where each may go, and the way there and back.
//!
//! A datagram goes to loopback, to a destination that the user declared direct, to the broker's name server, or through the proxy; else it
//! is refused. The program sends it to an address of the broker's (`gate`), which knows by its book whose it is and where it is to go
//! (`flows`), and hands it to the proxy (`association`). Payloads are never changed, so a program's own calls see datagrams as they are.
//!
//! Nothing leads a redirected packet off the loopback device: one for a token is sent by lo, whatever its socket is bound to; a socket that is connected
//! to us is refused every other device (`device`).

mod association;
mod bound;
mod flows;
mod gate;
mod place;
pub(super) mod refusal;
mod relay;
pub(super) mod source;
mod sweep;
mod token;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use presocks_abi::socket::is_loopback;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, sockopt};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Broker;
use super::device::stays_here;
use super::dns::Transport;
use super::program::Program;
use super::socket::{canonical, leaves_loopback, network_namespace, own_address, peer_of};
use crate::policy::Addressed;
use crate::route::{Routes, Unproxied};
use association::Associations;
use flows::{Cookie, Flows, Via};
use gate::Gates;
pub(super) use place::{Place, place};
use place::{is_forbidden, place_for};
use refusal::Refusal;
pub(super) use source::send_here;
use source::{connect_here, connect_to_loopback, dissolve, leave_source};
use sweep::keep_swept;
use token::{identify, token, unasked};

/// Most queries to name servers that are being answered; more are lost, as by any server that has too many.
const MOST_QUERIES: usize = 4096;

/// How long a sender waits to learn whether the proxy takes datagrams, once a session; and one whose call is not to wait.
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_millis(250);

/// Between two looks at what is still to be sent when the last program has ended.
const TICK: Duration = Duration::from_millis(10);

/// What the broker keeps for datagrams.
pub(super) struct Datagrams {
    gates: Gates,
    flows: RefCell<Flows>,
    /// Those of each chain.
    associations: Vec<Rc<Associations>>,
    is_swept: Cell<bool>,
    /// Queries to name servers that are being answered.
    queries: Cell<usize>,
    /// Our network namespace, where the kernel tells.
    namespace: OnceCell<Option<u64>>,
}

impl Datagrams {
    pub(super) fn new(routes: &Routes) -> Self {
        let chains = routes.chains.iter().enumerate();
        Self {
            gates: Gates::default(),
            flows: RefCell::default(),
            associations: chains.map(|(index, chain)| Rc::new(Associations::new(index, chain))).collect(),
            is_swept: Cell::default(),
            queries: Cell::default(),
            namespace: OnceCell::default(),
        }
    }

    /// Those by which the chain carries datagrams.
    ///
    /// # Errors
    /// There is no such chain: no proxy is configured.
    fn of_chain(&self, chain: usize) -> Result<&Rc<Associations>, Refusal> {
        self.associations.get(chain).ok_or(Refusal::NotServed)
    }

    /// Returns when what programs have sent before they ended is on its way, or has been waited for long enough.
    pub(super) async fn finish(&self) {
        let last = Instant::now() + PATIENCE;
        while self.is_used() && Instant::now() < last {
            // Those that a gate has not read yet come in meanwhile.
            sleep(TICK).await;
            if !self.associations.iter().any(|all| all.is_awaited()) {
                return;
            }
        }
    }

    /// The program's socket is gone, and its associations with it.
    fn let_go(&self, cookie: Cookie) {
        for associations in &self.associations {
            associations.let_go(cookie);
        }
    }

    /// May whatever was connected to a gate send when one may? Not where it may be another chain's, or another program's.
    fn are_alike(&self, routes: &Routes) -> bool {
        self.associations.len() == 1 && !routes.know_programs()
    }

    /// Have datagrams of this socket been redirected?
    pub(super) fn has(&self, cookie: Cookie) -> bool {
        self.flows.borrow().has(cookie)
    }

    /// Has anybody been redirected?
    pub(super) fn is_used(&self) -> bool {
        !self.flows.borrow().is_empty()
    }

    /// Is this an address of ours, to which sockets are connected?
    pub(super) fn is_gate(&self, address: SocketAddr) -> bool {
        self.gates.has(address)
    }

    /// Whom an address of ours stands for to this socket.
    pub(super) fn origin(&self, cookie: Cookie, address: SocketAddr) -> Option<SocketAddr> {
        self.flows.borrow_mut().origin(cookie, canonical(address))
    }
}

/// How a datagram socket was connected.
pub(super) enum Connected {
    /// To where the program asked for.
    There,
    /// To a sink: nothing may be sent.
    Sink(SocketAddr),
    Gate {
        address: SocketAddr,
        /// Whether it is known that the proxy takes datagrams.
        is_open: bool,
    },
    /// To a token.
    Token,
}

/// connect() on a datagram socket. Sends nothing, and does not wait: it is how programs learn their source address.
///
/// # Errors
/// Those of connect(2); `EHOSTUNREACH` for a stand-in of another session; `ENETUNREACH` for an address of a link that is not direct.
pub(super) fn connect(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
    program: &Program<'_>,
) -> io::Result<Connected> {
    let cookie = sockopt::socket_cookie(socket)?;
    let datagrams = &broker.datagrams;
    speaks(socket, destination)?;
    let place = place(broker, destination, program);
    // No proxy ever takes anything there: connect() itself says so, as where there is no route.
    if let Place::Refused(why @ Refusal::Unproxied(Unproxied::Link)) = &place {
        return Err(refuse(broker, program, destination, why));
    }
    datagrams.flows.borrow_mut().forget_peer(cookie);
    let serving = |chain| datagrams.of_chain(chain).ok().filter(|all| !all.is_refused());
    let (via, is_served) = match place {
        // Nobody is there, but getpeername(2) hides such a peer, by which it is known what is connected to this machine.
        Place::Local if destination.port() == 0 => return connect_to_sink(broker, socket, destination),
        Place::Local if !leave_source(socket) => {
            let own = own_address(socket).map_or(destination.ip(), |own| own.ip().to_canonical());
            return Err(refuse(broker, program, destination, &Refusal::Source(own)));
        }
        Place::Local | Place::Direct => return connect_there(broker, socket, destination),
        Place::Unknown if serving(0).is_some() => return Err(Errno::HOSTUNREACH.into()),
        Place::Resolver => (None, false),
        Place::Behind(chain) if let Some(all) = serving(chain) => (Some(chain), all.is_served()),
        Place::Behind(_) | Place::Refused(_) | Place::Unknown => {
            return connect_to_sink(broker, socket, destination);
        }
    };
    let address = connect_to_gate(broker, socket, destination, via)?;
    note_program(broker, cookie, program);
    broker.peers.insert(cookie, destination, address);
    if datagrams.origin(cookie, address).is_some() {
        return Ok(Connected::Token);
    }
    let is_open = is_served && datagrams.are_alike(&broker.policy.routes);
    Ok(Connected::Gate { address, is_open })
}

/// Where nothing may be sent.
fn connect_to_sink(
    broker: &Broker,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
) -> io::Result<Connected> {
    let is_gate = |address| broker.datagrams.is_gate(address);
    let sink = broker.sinks.connect(is_gate, socket, destination)?;
    broker.peers.insert(sockopt::socket_cookie(socket)?, destination, sink);
    Ok(Connected::Sink(sink))
}

/// Where the program asked for: as it would itself, but with nothing between the look at its device and the connect (`device`).
fn connect_there(broker: &Broker, socket: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<Connected> {
    // In two steps: a thread that writes meanwhile must not take a half of either address.
    if stays_here(broker, socket) && peer_of(socket).is_some_and(|peer| peer.ip() != destination.ip()) {
        dissolve(socket);
    }
    if is_loopback(destination.ip()) {
        connect_to_loopback(socket, destination)?;
    } else {
        rustix::net::connect(socket, &destination)?;
    }
    Ok(Connected::There)
}

/// For rules that tell programs apart.
fn note_program(broker: &Broker, cookie: Cookie, program: &Program<'_>) {
    if broker.policy.routes.know_programs() {
        broker.datagrams.flows.borrow_mut().note_program(cookie, program.names());
    }
}

/// Can the socket speak to addresses of this kind at all?
///
/// # Errors
/// As the kernel has them: `EAFNOSUPPORT`, `ENETUNREACH`.
fn speaks(socket: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<()> {
    let is_v6 = sockopt::socket_domain(socket)? == AddressFamily::INET6;
    let is_v4_inside = destination.ip().to_canonical().is_ipv4();
    match (is_v6, destination) {
        (false, SocketAddr::V6(_)) => Err(Errno::AFNOSUPPORT.into()),
        (true, SocketAddr::V4(_)) if sockopt::ipv6_v6only(socket)? => Err(Errno::AFNOSUPPORT.into()),
        (true, SocketAddr::V6(_)) if is_v4_inside && sockopt::ipv6_v6only(socket)? => {
            Err(Errno::NETUNREACH.into())
        }
        _ => Ok(()),
    }
}

fn connect_to_gate(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
    via: Via,
) -> io::Result<SocketAddr> {
    must_be_here(broker, socket)?;
    let gates = &broker.datagrams.gates;
    let is_ours = |address| broker.sinks.has(address) || broker.datagrams.is_gate(address);
    let gate = connect_here(is_ours, socket, destination, |source| {
        let source = source.map(|source| source.ip().to_canonical());
        let is_v6 = source.map_or(destination.ip().to_canonical().is_ipv6(), |source| source.is_ipv6());
        if is_v6 && let Ok(port) = gates.port(broker, true) {
            // Never at the source address, which may leave this machine: from then on the socket would speak to another.
            return Ok((Ipv6Addr::LOCALHOST, port).into());
        }
        let port = gates.port(broker, false)?;
        let source = source.filter(IpAddr::is_ipv4);
        Ok(SocketAddr::new(source.unwrap_or(Ipv4Addr::LOCALHOST.into()), port))
    })?;
    // Only now: dissolving an earlier connection may have given the port away.
    let who = identify(socket)?;
    let own = own_address(socket).map(canonical).ok_or(Errno::NETUNREACH)?;
    let mut flows = broker.datagrams.flows.borrow_mut();
    if !flows.is_taken(own, who.cookie) {
        flows.connect(who, (canonical(destination), via), canonical(gate), own);
        drop(flows);
        keep_swept(broker);
        return Ok(gate);
    }
    drop(flows);
    // Another socket shares its address (SO_REUSEPORT): a token tells them apart. It is at loopback, as an IPv6 gate is: a thread that writes
    // meanwhile finds no half of another address.
    let token = token(broker, who, canonical(destination), via)?;
    rustix::net::connect(socket, &token)?;
    Ok(token)
}

/// # Errors
/// `ENETUNREACH` for a socket whose packets would not come to our loopback.
fn must_be_here(broker: &Broker, socket: BorrowedFd<'_>) -> io::Result<()> {
    let own = *broker.datagrams.namespace.get_or_init(|| network_namespace(broker.sinks.as_fd()));
    let is_elsewhere = own.is_some() && network_namespace(socket) != own;
    if is_elsewhere || leaves_loopback(socket) { Err(Errno::NETUNREACH.into()) } else { Ok(()) }
}

/// Where a datagram goes.
pub(super) enum Sent {
    /// Where it was addressed to.
    Direct,
    /// To this token.
    Token(SocketAddr),
}

/// A datagram with a destination off the machine. The first one of a session waits a moment until it is known whether the proxy takes datagrams;
/// a call that does not wait (`is_impatient`, or its socket is), a shorter one.
///
/// # Errors
/// `ENETUNREACH` when it may not be sent, `EACCES` when a rule denies it; `EHOSTUNREACH` for a stand-in of another session.
pub(super) async fn send(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
    is_impatient: bool,
    program: &Program<'_>,
) -> io::Result<Sent> {
    let refused = |why| Err(refuse(broker, program, destination, &why));
    let via = match place(broker, destination, program) {
        Place::Local | Place::Direct => return Ok(Sent::Direct),
        Place::Refused(why) if is_forbidden(socket, destination, &why) => return Err(Errno::ACCESS.into()),
        Place::Refused(why) => return refused(why),
        // Where no datagram goes, none is told from the others.
        Place::Unknown if broker.datagrams.of_chain(0).is_ok_and(|all| all.is_refused()) => {
            return refused(Refusal::NotServed);
        }
        Place::Unknown => return Err(Errno::HOSTUNREACH.into()),
        Place::Resolver => None,
        Place::Behind(chain) => Some(chain),
    };
    speaks(socket, destination)?;
    if peer_of(socket).is_none() {
        forget_connection(broker, socket)?;
    }
    let associations = match via.map(|chain| broker.datagrams.of_chain(chain)).transpose() {
        Ok(associations) => associations,
        Err(why) => return refused(why),
    };
    let cookie = sockopt::socket_cookie(socket)?;
    if associations.is_some_and(|all| all.is_refused_to(cookie)) {
        return refused(Refusal::NotServed);
    }
    must_be_here(broker, socket)?;
    let who = identify(socket)?;
    let token = token(broker, who, canonical(destination), via)?;
    note_program(broker, cookie, program);
    let patience = patience(socket, is_impatient);
    if let Some(associations) = associations
        && associations.find_out(broker, who.cookie, patience).await.is_err()
    {
        return refused(Refusal::NotServed);
    }
    Ok(Sent::Token(token))
}

/// Tells the user, and the program.
fn refuse(broker: &Broker, program: &Program<'_>, destination: SocketAddr, why: &Refusal) -> io::Error {
    let target = broker.policy.target(destination);
    let shown: &dyn fmt::Display = target.as_ref().map_or(&destination, |target| target);
    broker.report.datagram_refused(program, shown, why);
    why.errno().into()
}

/// How long a sender waits to learn whether the proxy takes datagrams.
fn patience(socket: BorrowedFd<'_>, is_impatient: bool) -> Duration {
    let is_impatient =
        is_impatient || fcntl_getfl(socket).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK));
    let limit = sockopt::socket_timeout(socket, Timeout::Send).ok().flatten();
    let patience = if is_impatient { IMPATIENCE } else { PATIENCE };
    limit.map_or(patience, |limit| limit.min(patience))
}

/// The socket is not connected, but may have been. Linux lets a dissolved IPv6 socket hear the address of its former peer alone; of ours
/// it is to hear the tokens'.
fn forget_connection(broker: &Broker, socket: BorrowedFd<'_>) -> io::Result<()> {
    const DISCARD: u16 = 9;
    let cookie = sockopt::socket_cookie(socket)?;
    let was_connected = broker.datagrams.flows.borrow_mut().forget_peer(cookie);
    if was_connected && sockopt::socket_domain(socket)? == AddressFamily::INET6 {
        // Sends nothing. Fails on a machine without IPv6, where there is nothing to hear.
        let _ = connect_to_loopback(socket, (Ipv6Addr::LOCALHOST, DISCARD).into());
        dissolve(socket);
    }
    Ok(())
}

/// Which sockets that the broker has connected may send.
pub(super) enum Opened {
    /// All, from now on.
    All,
    /// This one.
    One,
}

/// A datagram on a socket that the broker has connected.
///
/// # Errors
/// As [`send`].
pub(super) async fn open(
    broker: &Rc<Broker>,
    socket: BorrowedFd<'_>,
    is_impatient: bool,
    program: &Program<'_>,
) -> io::Result<Opened> {
    let cookie = sockopt::socket_cookie(socket)?;
    let actual = peer_of(socket).ok_or(Errno::DESTADDRREQ)?;
    let Some(destination) = broker.peers.destination(cookie, actual) else {
        // The program has connected it elsewhere since it looked.
        return Ok(Opened::One);
    };
    let refused = |why| Err(refuse(broker, program, destination, &why));
    let chain = match place(broker, destination, program) {
        Place::Local | Place::Direct | Place::Resolver => return Ok(Opened::One),
        Place::Refused(why) => return refused(why),
        // Connected to a sink, as nothing was served.
        Place::Unknown => 0,
        Place::Behind(chain) => chain,
    };
    // As for a stream, what was found when it was connected holds for as long as it is.
    let chain = broker.datagrams.flows.borrow().peer_via(cookie).flatten().unwrap_or(chain);
    let associations = match broker.datagrams.of_chain(chain) {
        Ok(associations) => associations,
        Err(why) => return refused(why),
    };
    if associations.find_out(broker, cookie, patience(socket, is_impatient)).await.is_err() {
        return refused(Refusal::NotServed);
    }
    // Not known yet: the datagram waits here.
    if !associations.is_served() && !broker.sinks.has(actual) {
        return Ok(Opened::One);
    }
    // Connected when nothing could be sent: now it can.
    if broker.sinks.has(actual) {
        connect(broker, socket, destination, program)?;
    }
    Ok(if broker.datagrams.are_alike(&broker.policy.routes) { Opened::All } else { Opened::One })
}

/// A program's datagram has come to one of our addresses. It goes the way that was found when its flow was made.
fn forward(broker: &Rc<Broker>, own: SocketAddr, from: SocketAddr, payload: &[u8]) {
    let recognised = broker.datagrams.flows.borrow_mut().recognise(own, from);
    match recognised {
        Some((cookie, destination, Some(chain))) => {
            if let Ok(associations) = broker.datagrams.of_chain(chain) {
                associations.send(broker, cookie, destination, payload);
            }
        }
        Some((cookie, server, None)) => {
            let program = broker.datagrams.flows.borrow().program(cookie);
            answer(broker, own, from, Addressed { server, program }, payload);
        }
        None => {}
    }
}

/// A query to a name server.
fn answer(broker: &Rc<Broker>, own: SocketAddr, from: SocketAddr, server: Addressed, query: &[u8]) {
    let queries = &broker.datagrams.queries;
    if queries.get() >= MOST_QUERIES {
        return;
    }
    queries.update(|queries| queries + 1);
    let (broker, query) = (Rc::clone(broker), query.to_vec());
    spawn_local(async move {
        if let Some(answer) = broker.name_server.answer(&query, &server, Transport::Udp).await {
            broker.datagrams.gates.send(own, from, &answer);
        }
        broker.datagrams.queries.update(|queries| queries - 1);
    });
}

/// A datagram of `source`, by a chain, for a program's socket. Of those that it has sent nothing to, who could not be reached by this chain is not
/// believed: a program trusts its own machine and network more than others.
fn deliver(broker: &Rc<Broker>, cookie: Cookie, chain: usize, source: SocketAddr, payload: &[u8]) {
    let datagrams = &broker.datagrams;
    let way = datagrams.flows.borrow().way_back(cookie, source, Some(chain));
    let Some(way) = way else { return };
    let own = way.own.or_else(|| {
        let who = datagrams.flows.borrow().who(cookie)?;
        let program = datagrams.flows.borrow().program(cookie);
        let place = place_for(broker, source, &|| program.to_vec());
        // An IPv4 socket has no room for an IPv6 address.
        let can_be_shown = (who.is_v6 || source.is_ipv4()) && source.port() != 0;
        if !can_be_shown || !matches!(place, Place::Behind(behind) if behind == chain) {
            return None;
        }
        unasked(broker, who, source, Some(chain)).ok()
    });
    if let Some(own) = own {
        datagrams.gates.send(own, way.to, payload);
    }
}
