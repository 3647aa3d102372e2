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
mod connect;
mod flows;
mod gate;
mod place;
pub(super) mod refusal;
mod relay;
pub(super) mod sink;
mod source;
mod sweep;
mod token;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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

use super::dns::{NameServer, Transport};
use super::peers::Peers;
use super::program::Program;
use super::report::Report;
use crate::options::Udp;
use crate::policy::{Addressed, Policy};
use crate::socket::source::may_be_answered_elsewhere;
use crate::socket::{canonical, leaves_loopback, network_namespace, own_address, peer_of};
use crate::upstream::dialer::Dialer;
use association::Associations;
pub(super) use connect::Connected;
use flows::{Cookie, Flows};
use gate::Gates;
pub(super) use place::Place;
use place::is_forbidden;
use refusal::Refusal;
use sink::Sinks;
use source::{connect_to_loopback, dissolve};
use token::identify;

/// Most queries to name servers that are being answered; more are lost, as by any server that has too many.
const MOST_QUERIES: usize = 4096;

/// How long a sender waits to learn whether the proxy takes datagrams, once a session; and one whose call is not to wait.
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_millis(250);

/// Between two looks at what is still to be sent when the last program has ended.
const TICK: Duration = Duration::from_millis(10);

/// How long the associations last when all is sent.
const AFTERMATH: Duration = Duration::from_millis(250);

/// What the broker keeps for datagrams.
pub(super) struct Datagrams {
    /// What becomes of those that no rule denies.
    udp: Udp,
    policy: Rc<Policy>,
    dialer: Rc<Dialer>,
    peers: Rc<Peers>,
    name_server: Rc<NameServer>,
    sinks: Sinks,
    report: Rc<Report>,
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
    pub(super) fn new(
        udp: Udp,
        policy: Rc<Policy>,
        dialer: Rc<Dialer>,
        peers: Rc<Peers>,
        name_server: Rc<NameServer>,
        sinks: Sinks,
        report: Rc<Report>,
    ) -> Self {
        let chains = policy.routes.chains.iter().enumerate();
        let associations = chains.map(|(index, chain)| Rc::new(Associations::new(index, chain))).collect();
        Self {
            udp,
            policy,
            dialer,
            peers,
            name_server,
            sinks,
            report,
            gates: Gates::default(),
            flows: RefCell::default(),
            associations,
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
                // A proxy that sees the association end first drops what it has not forwarded yet (RFC 1928 section 7).
                sleep(AFTERMATH).await;
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
    fn are_alike(&self) -> bool {
        self.associations.len() == 1 && !self.policy.routes.know_programs()
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

    /// Is there a sink at this address?
    pub(super) fn is_sink(&self, address: SocketAddr) -> bool {
        self.sinks.has(address)
    }

    /// Whom an address of ours stands for to this socket.
    pub(super) fn origin(&self, cookie: Cookie, address: SocketAddr) -> Option<SocketAddr> {
        self.flows.borrow_mut().origin(cookie, canonical(address))
    }

    /// For rules that tell programs apart.
    fn note_program(&self, cookie: Cookie, program: &Program<'_>) {
        if self.policy.routes.know_programs() {
            self.flows.borrow_mut().note_program(cookie, program.names());
        }
    }

    /// # Errors
    /// `ENETUNREACH` for a socket whose packets would not come to our loopback.
    fn must_be_here(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let own = *self.namespace.get_or_init(|| network_namespace(self.sinks.as_fd()));
        let is_elsewhere = own.is_some() && network_namespace(socket) != own;
        if is_elsewhere || leaves_loopback(socket) { Err(Errno::NETUNREACH.into()) } else { Ok(()) }
    }

    /// A datagram with a destination off the machine. The first one of a session waits a moment until it is known whether the proxy takes datagrams;
    /// a call that does not wait (`is_impatient`, or its socket is), a shorter one.
    ///
    /// # Errors
    /// `ENETUNREACH` when it may not be sent, `EACCES` when a rule denies it; `EHOSTUNREACH` for a stand-in of another session.
    pub(super) async fn send(
        self: &Rc<Self>,
        socket: BorrowedFd<'_>,
        destination: SocketAddr,
        is_impatient: bool,
        program: &Program<'_>,
    ) -> io::Result<Sent> {
        let refused = |why| Err(self.refuse(program, destination, &why));
        let via = match self.place(destination, program) {
            Place::Local | Place::Direct => return Ok(Sent::Direct),
            Place::Refused(why) if is_forbidden(socket, destination, &why) => {
                return Err(Errno::ACCESS.into());
            }
            Place::Refused(why) => return refused(why),
            // Where no datagram goes, none is told from the others.
            Place::Unknown if self.of_chain(0).is_ok_and(|all| all.is_refused()) => {
                return refused(Refusal::NotServed);
            }
            Place::Unknown => return Err(Errno::HOSTUNREACH.into()),
            Place::Resolver => None,
            Place::Behind(chain) => Some(chain),
        };
        speaks(socket, destination)?;
        if peer_of(socket).is_none() {
            self.forget_connection(socket)?;
        }
        let associations = match via.map(|chain| self.of_chain(chain)).transpose() {
            Ok(associations) => associations,
            Err(why) => return refused(why),
        };
        let cookie = sockopt::socket_cookie(socket)?;
        if associations.is_some_and(|all| all.is_refused_to(cookie)) {
            return refused(Refusal::NotServed);
        }
        self.must_be_here(socket)?;
        let who = identify(socket)?;
        let token = self.token(who, canonical(destination), via)?;
        self.note_program(cookie, program);
        let patience = patience(socket, is_impatient);
        if let Some(associations) = associations
            && associations.find_out(self, who.cookie, patience).await.is_err()
        {
            return refused(Refusal::NotServed);
        }
        Ok(Sent::Token(token))
    }

    /// Tells the user, and the program.
    fn refuse(&self, program: &Program<'_>, destination: SocketAddr, why: &Refusal) -> io::Error {
        let target = self.policy.target(destination);
        let shown: &dyn fmt::Display = target.as_ref().map_or(&destination, |target| target);
        self.report.datagram_refused(program, shown, why);
        why.errno().into()
    }

    /// The socket is not connected, but may have been. Linux lets a dissolved IPv6 socket hear the address of its former peer alone; of ours
    /// it is to hear the tokens'.
    fn forget_connection(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        const DISCARD: u16 = 9;
        let cookie = sockopt::socket_cookie(socket)?;
        let was_connected = self.flows.borrow_mut().forget_peer(cookie);
        if was_connected && sockopt::socket_domain(socket)? == AddressFamily::INET6 {
            // Sends nothing. Fails on a machine without IPv6, where there is nothing to hear.
            let _ = connect_to_loopback(socket, (Ipv6Addr::LOCALHOST, DISCARD).into());
            dissolve(socket);
        }
        Ok(())
    }

    /// A datagram on a socket that the broker has connected.
    ///
    /// # Errors
    /// As [`send`].
    pub(super) async fn open(
        self: &Rc<Self>,
        socket: BorrowedFd<'_>,
        is_impatient: bool,
        program: &Program<'_>,
    ) -> io::Result<Opened> {
        let cookie = sockopt::socket_cookie(socket)?;
        let actual = peer_of(socket).ok_or(Errno::DESTADDRREQ)?;
        let Some(destination) = self.peers.destination(cookie, actual) else {
            // The program has connected it elsewhere since it looked.
            return Ok(Opened::One);
        };
        let refused = |why| Err(self.refuse(program, destination, &why));
        let chain = match self.place(destination, program) {
            Place::Local | Place::Direct | Place::Resolver => return Ok(Opened::One),
            Place::Refused(why) => return refused(why),
            // Connected to a sink, as nothing was served.
            Place::Unknown => 0,
            Place::Behind(chain) => chain,
        };
        // As for a stream, what was found when it was connected holds for as long as it is.
        let chain = self.flows.borrow().peer_via(cookie).flatten().unwrap_or(chain);
        let associations = match self.of_chain(chain) {
            Ok(associations) => associations,
            Err(why) => return refused(why),
        };
        if associations.find_out(self, cookie, patience(socket, is_impatient)).await.is_err() {
            return refused(Refusal::NotServed);
        }
        // Not known yet: the datagram waits here.
        if !associations.is_served() && !self.sinks.has(actual) {
            return Ok(Opened::One);
        }
        // Connected when nothing could be sent: now it can.
        if self.sinks.has(actual) {
            self.connect(socket, destination, program)?;
        }
        Ok(if self.are_alike() { Opened::All } else { Opened::One })
    }

    /// A datagram goes from this address to loopback.
    ///
    /// # Errors
    /// `ENETUNREACH` when what loopback answers may leave.
    pub(super) fn send_here(&self, source: IpAddr, program: &Program<'_>) -> Result<(), Errno> {
        if !may_be_answered_elsewhere(source) {
            return Ok(());
        }
        let why = Refusal::Source(source.to_canonical());
        self.report.datagram_refused(program, &"loopback", &why);
        Err(why.errno())
    }

    /// Is the socket connected to an address of this machine that a packet must not leave for elsewhere: loopback's, its own, a sink's or a gate's?
    pub(super) fn stays_here(&self, socket: BorrowedFd<'_>) -> bool {
        peer_of(socket).is_some_and(|peer| {
            let is_own =
                || own_address(socket).is_some_and(|own| own.ip().to_canonical() == peer.ip().to_canonical());
            is_loopback(peer.ip()) || is_own() || self.sinks.has(peer) || self.is_gate(peer)
        })
    }

    /// A program's datagram has come to one of our addresses. It goes the way that was found when its flow was made.
    fn forward(self: &Rc<Self>, own: SocketAddr, from: SocketAddr, payload: &[u8]) {
        let recognised = self.flows.borrow_mut().recognise(own, from);
        match recognised {
            Some((cookie, destination, Some(chain))) => {
                if let Ok(associations) = self.of_chain(chain) {
                    associations.send(self, cookie, destination, payload);
                }
            }
            Some((cookie, server, None)) => {
                let program = self.flows.borrow().program(cookie);
                self.answer(own, from, Addressed { server, program }, payload);
            }
            None => {}
        }
    }

    /// A query to a name server.
    fn answer(self: &Rc<Self>, own: SocketAddr, from: SocketAddr, server: Addressed, query: &[u8]) {
        if self.queries.get() >= MOST_QUERIES {
            return;
        }
        self.queries.update(|queries| queries + 1);
        let (datagrams, query) = (Rc::clone(self), query.to_vec());
        spawn_local(async move {
            if let Some(answer) = datagrams.name_server.answer(&query, &server, Transport::Udp).await {
                datagrams.gates.send(own, from, &answer);
            }
            datagrams.queries.update(|queries| queries - 1);
        });
    }

    /// A datagram of `source`, by a chain, for a program's socket. Of those that it has sent nothing to, who could not be reached by this chain is not
    /// believed: a program trusts its own machine and network more than others.
    fn deliver(self: &Rc<Self>, cookie: Cookie, chain: usize, source: SocketAddr, payload: &[u8]) {
        let way = self.flows.borrow().way_back(cookie, source, Some(chain));
        let Some(way) = way else { return };
        let own = way.own.or_else(|| {
            let who = self.flows.borrow().who(cookie)?;
            let program = self.flows.borrow().program(cookie);
            let place = self.place_for(source, &|| program.to_vec());
            // An IPv4 socket has no room for an IPv6 address.
            let can_be_shown = (who.is_v6 || source.is_ipv4()) && source.port() != 0;
            if !can_be_shown || !matches!(place, Place::Behind(behind) if behind == chain) {
                return None;
            }
            self.unasked(who, source, Some(chain)).ok()
        });
        if let Some(own) = own {
            self.gates.send(own, way.to, payload);
        }
    }
}

/// Where a datagram goes.
pub(super) enum Sent {
    /// Where it was addressed to.
    Direct,
    /// To this token.
    Token(SocketAddr),
}

/// Which sockets that the broker has connected may send.
pub(super) enum Opened {
    /// All, from now on.
    All,
    /// This one.
    One,
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

/// How long a sender waits to learn whether the proxy takes datagrams.
fn patience(socket: BorrowedFd<'_>, is_impatient: bool) -> Duration {
    let is_impatient =
        is_impatient || fcntl_getfl(socket).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK));
    let limit = sockopt::socket_timeout(socket, Timeout::Send).ok().flatten();
    let patience = if is_impatient { IMPATIENCE } else { PATIENCE };
    limit.map_or(patience, |limit| limit.min(patience))
}
