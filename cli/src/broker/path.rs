//! A connection along a chain: to its first proxy, then from each to the next, then to the destination.
//!
//! On the program's own socket where nothing of ours need stand between it and the proxies; else on a connection of the broker's, and a
//! relay. When the chain's order permits, an attempt goes on without a proxy that fails it; whoever fails is named.

mod fault;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use presocks_proto::handshake::Handshake;
use presocks_proto::standin::{Kind, kind};
use presocks_proto::target::{Host, Target};
use rustix::io::Errno;
use tokio::io::Interest;

use super::chain::Blame;
use super::dial::{dial, knock};
use super::failure::Failure;
use super::gssapi::Use;
use super::hop::Hop;
use super::isolation::Stranger;
use super::limits::Limits;
use super::negotiate::{Wire, negotiate};
use super::pipelining::question;
use super::readiness::Watched;
use super::socket::source::NotConnected;
use super::socket::{SetAside, Socket};
use super::stream::Stream;
use super::{Broker, gssapi, tls};
use crate::proxy::{self, Place};
use crate::route::Unproxied;
use fault::Fault;

/// What an attempt along a chain has come to.
pub(super) struct Outcome<T> {
    /// The proxies that were to be gone through, as the user knows them.
    pub(super) path: String,
    pub(super) result: Result<T, Failure>,
}

/// How a program's socket is connected.
pub(super) struct Carried {
    /// The proxies that it goes through.
    pub(super) hops: Vec<Rc<Hop>>,
    /// Where the connection of the last one comes from, as that one has it.
    pub(super) bound: Option<Target>,
}

/// A proxy that listens.
pub(super) struct Listening {
    /// The connection to it, on which its second reply comes.
    pub(super) stream: Stream,
    /// Where it listens.
    pub(super) at: SocketAddr,
    pub(super) second_reply: Handshake<'static>,
}

/// Connects a program's socket.
pub(super) async fn connect(
    broker: &Rc<Broker>,
    socket: &Socket,
    chain: usize,
    target: &Target,
    stranger: Option<&Stranger>,
) -> Outcome<Carried> {
    let way = &Way::new(broker, chain, *target, stranger);
    way.try_plans(chain, async |hops| {
        let outcome = way.carry(socket, hops).await;
        if outcome.as_ref().is_err_and(|fault| !fault.is_of_the_socket()) {
            socket.reset();
        }
        outcome.map(|()| Carried { hops: hops.to_vec(), bound: way.bound.get() })
    })
    .await
}

/// Has the last of these proxies listen for the target.
///
/// # Errors
/// [`Failure`] as the proxies or the clock have it.
pub(super) async fn bind(
    broker: &Rc<Broker>,
    hops: &[Rc<Hop>],
    target: Target,
    stranger: Option<&Stranger>,
) -> Result<Listening, Failure> {
    let way = &Way { stranger, ..Way::alone(broker, target, true) };
    let bind = async {
        way.can_be_asked(hops)?;
        let stream = way.own_connection(hops, None).await?;
        let asked = way.handshake(hops, hops.len().saturating_sub(1))?;
        Ok((stream, asked.second_reply()))
    };
    let (stream, second_reply) = bind.await.map_err(|fault: Fault| fault.failure)?;
    let second_reply = second_reply.ok_or(Failure::NoBind)?;
    let bound = way.bound.get();
    let at = listens_at(bound, &stream, hops).ok_or(Failure::NoListener(bound.map(Box::new)))?;
    Ok(Listening { stream, at, second_reply })
}

/// Where the proxy listens. RFC 1928 leaves it open what an address of zeros means; servers that do not know their own say so, and it is the one by which we
/// have reached them.
fn listens_at(bound: Option<Target>, stream: &Stream, hops: &[Rc<Hop>]) -> Option<SocketAddr> {
    let Target { host: Host::Address(address), port } = bound.filter(|bound| bound.port > 0)? else {
        return None;
    };
    let address = address.to_canonical();
    if !address.is_unspecified() {
        let is_one = kind(address) == Kind::Ordinary && Unproxied::of_address(address).is_none();
        return is_one.then(|| SocketAddr::new(address, port));
    }
    let own = match hops {
        [_] => stream.innermost()?.peer_addr().ok()?.ip(),
        [.., last] => last.proxy.address()?,
        [] => return None,
    };
    Some(SocketAddr::new(own.to_canonical(), port))
}

/// A connection of the broker's own.
pub(super) async fn reach(broker: &Rc<Broker>, chain: usize, target: Target) -> Outcome<Stream> {
    // Nobody's: programs share it.
    let stranger = broker.isolation.map(|how| Stranger::new(how, &broker.mark, || None, &target));
    let way = &Way::new(broker, chain, target, stranger.as_ref());
    way.try_plans(chain, async |hops| {
        way.can_be_asked(hops)?;
        way.own_connection(hops, None).await
    })
    .await
}

/// What all attempts for one connection share.
struct Way<'a> {
    broker: &'a Rc<Broker>,
    limits: Limits,
    target: Target,
    stranger: Option<&'a Stranger>,
    /// Are there other ways when one fails?
    has_choice: bool,
    /// Has a proxy of this path told us from others?
    is_told_apart: Cell<bool>,
    /// Is the last one to listen for the target (BIND), rather than to connect to it?
    is_bind: bool,
    /// The address in the last one's reply.
    bound: Cell<Option<Target>>,
}

impl<'a> Way<'a> {
    fn new(broker: &'a Rc<Broker>, chain: usize, target: Target, stranger: Option<&'a Stranger>) -> Self {
        let has_choice = broker.chains.get(chain).is_some_and(|line| line.has_choice());
        Self { stranger, has_choice, ..Self::alone(broker, target, false) }
    }

    /// For nobody in particular, and without a choice.
    fn alone(broker: &'a Rc<Broker>, target: Target, is_bind: bool) -> Self {
        Self {
            broker,
            limits: broker.timeouts.begin(),
            target,
            stranger: None,
            has_choice: false,
            is_told_apart: Cell::default(),
            is_bind,
            bound: Cell::default(),
        }
    }

    /// Plans and attempts, until one succeeds or no other is left.
    async fn try_plans<T>(
        &self,
        chain: usize,
        attempt: impl AsyncFn(&[Rc<Hop>]) -> Result<T, Fault>,
    ) -> Outcome<T> {
        let nowhere = |failure| Outcome { path: String::new(), result: Err(failure) };
        let Some(line) = self.broker.chains.get(chain) else { return nowhere(unreachable()) };
        let mut turn = line.begin();
        let mut last: Option<(String, Rc<Hop>, Failure)> = None;
        while let Some(hops) = line.plan(&turn) {
            if let Some((_, hop, failure)) = last.take() {
                self.broker.report.passed_over(&hop.proxy, &failure);
            }
            let path = shown(&hops);
            let Fault { failure, blame, .. } = match beyond_doubt(&hops, &attempt).await {
                Ok(done) => {
                    line.succeed(&turn, &hops);
                    return Outcome { path, result: Ok(done) };
                }
                Err(fault) => fault,
            };
            // When all the time is gone, nobody is left to be tried, and it is nobody's who came last.
            let passed = if self.limits.are_over() { None } else { line.pass_over(&mut turn, &hops, blame) };
            let Some(hop) = passed else { return Outcome { path, result: Err(failure) } };
            last = Some((path, hop, failure));
        }
        match last {
            Some((path, _, failure)) => Outcome { path, result: Err(failure) },
            None => nowhere(unreachable()),
        }
    }

    /// Connects the program's socket to the target by way of these proxies.
    async fn carry(&self, socket: &Socket, hops: &[Rc<Hop>]) -> Result<(), Fault> {
        let [first, ..] = hops else { return Err(Fault::nobodys(unreachable())) };
        self.can_be_asked(hops)?;
        let is_plain = matches!(first.proxy.place(), Place::Tcp(..));
        if !is_plain || hops.iter().any(|hop| hop.proxy.changes_bytes()) {
            return Box::pin(self.relay(socket, hops, None)).await;
        }
        let addresses = self.addresses(first).await.map_err(|failure| Fault::of_first(hops, failure))?;
        let mut last = Fault::of_first(hops, unreachable());
        let mut taken = None;
        // The addresses that the socket itself can reach come first.
        for (address, reached) in addresses.iter().filter_map(|at| Some((at, socket.reach(*at)?))) {
            match self.on_socket(socket, reached, hops).await {
                Ok(()) => {
                    if self.broker.isolation.is_none() {
                        // Connections that are kept apart have credentials, and a question without any would be apart from nobody.
                        question::count(self.broker.timeouts, first, *address);
                    }
                    return Ok(());
                }
                Err(fault) if fault.is_of_one_address() => last = fault,
                // From its port there is a connection to the proxy already: for another destination, to its program.
                Err(fault) if socket.has_port() && fault.is_of_the_port() => taken = Some(fault),
                Err(fault) => return Err(fault),
            }
            socket.reset();
        }
        if let Some(taken) = taken {
            // A listener of ours is at an address of its own. A socket that cannot reach that is told what the kernel says of the proxy's.
            let relayed = Box::pin(self.relay(socket, hops, None)).await;
            let is_ours = |fault: &Fault| fault.blame == Blame::Nobody && !fault.is_of_the_socket();
            return relayed.map_err(|fault| if is_ours(&fault) { taken } else { fault });
        }
        let others: Vec<_> = addresses.iter().copied().filter(|at| socket.reach(*at).is_none()).collect();
        if others.is_empty() { Err(last) } else { Box::pin(self.relay(socket, hops, Some(&others))).await }
    }

    /// Is there a way to ask each for the next? What cannot be asked for is not worth a packet.
    fn can_be_asked(&self, hops: &[Rc<Hop>]) -> Result<(), Fault> {
        self.is_told_apart.set(false);
        if self.stranger.is_some() && !hops.iter().any(|hop| hop.proxy.tells_strangers()) {
            return Err(Fault { failure: Failure::NotApart, blame: Blame::Unlucky(0), doubted: None });
        }
        (0..hops.len()).try_for_each(|index| self.handshake(hops, index).map(|_| ()))
    }

    /// The request by which the proxy with this index is to connect us to the next one, or the last to the target.
    fn handshake<'b>(&'b self, hops: &'b [Rc<Hop>], index: usize) -> Result<Handshake<'b>, Fault> {
        let Some(hop) = hops.get(index) else { return Err(Fault::nobodys(unreachable())) };
        let stranger = self.stranger_for(hops, index);
        match hops.get(index + 1) {
            None => {
                let ask = if self.is_bind { Hop::binding } else { Hop::handshake };
                ask(hop, self.target, stranger)
                    .map_err(|failure| Fault::at(index, hops, failure, Blame::Unlucky(index)))
            }
            Some(next) => {
                let target = next.proxy.as_target().ok_or_else(unreachable);
                let handshake = target.and_then(|target| hop.handshake(target, stranger));
                handshake.map_err(|failure| Fault::of_next(index, hops, failure))
            }
        }
    }

    /// Who we are to the proxy with this index. One of them must tell us from others: the last that can, if none before it has.
    fn stranger_for(&self, hops: &[Rc<Hop>], index: usize) -> Option<proxy::Stranger<'_>> {
        let credentials = self.stranger.and_then(Stranger::credentials)?;
        let is_last = hops.iter().rposition(|hop| hop.proxy.tells_strangers()) == Some(index);
        Some(proxy::Stranger { credentials, must_be_told: is_last && !self.is_told_apart.get() })
    }

    async fn addresses(&self, hop: &Hop) -> Result<Rc<[SocketAddr]>, Failure> {
        let found = self.limits.within(self.limits.connect, hop.addresses()).await;
        found.unwrap_or_else(|_| Err(Failure::ProxyName(Errno::TIMEDOUT.into())))
    }

    /// Connects the program's socket to the first proxy at `address`, and negotiates with all of them on it.
    async fn on_socket(&self, socket: &Socket, address: SocketAddr, hops: &[Rc<Hop>]) -> Result<(), Fault> {
        let own = socket.bound();
        let connected = self.limits.within(self.limits.connect, socket.connect(address)).await;
        let connected = connected.map(|result| match result {
            Err(NotConnected::Bound(own)) => Err(Failure::Bound(own)),
            Err(NotConnected::Kernel(error)) => Ok(Err(error)),
            Ok(()) => Ok(Ok(())),
        });
        match connected.unwrap_or_else(|limit| Err(Failure::ProxyTimeout(limit))) {
            Ok(Ok(())) => {}
            // Not the proxy's doing: the socket was bound where no route to the proxy begins, or listens, or the like.
            Ok(Err(error)) if is_own_fault(&error, own) => {
                return Err(Fault::nobodys(Failure::Socket(error)));
            }
            // Another socket may have a way.
            Ok(Err(error)) if own.is_some() => {
                return Err(Fault::at(0, hops, Failure::ProxyUnreachable(error), Blame::Unlucky(0)));
            }
            Ok(Err(error)) => return Err(Fault::of_first(hops, Failure::ProxyUnreachable(error))),
            Err(failure @ Failure::Bound(_)) => return Err(Fault::of_the_source(hops, failure)),
            Err(_) if socket.is_its_programs(address) => return Err(Fault::dissolved()),
            Err(failure) => return Err(Fault::of_first(hops, failure)),
        }
        let negotiated = self.negotiate_on(socket, hops).await;
        // A proxy that seems to have closed the connection, say, has nothing to do with it.
        if negotiated.is_err() && socket.is_dissolved() {
            return Err(Fault::dissolved());
        }
        if negotiated.is_err() && socket.is_shut() {
            return Err(Fault::nobodys(Failure::Socket(Errno::CONNRESET.into())));
        }
        negotiated?;
        socket.settle(address);
        Ok(())
    }

    /// Negotiates with all of them on the program's socket, which is connected to the first.
    async fn negotiate_on(&self, socket: &Socket, hops: &[Rc<Hop>]) -> Result<(), Fault> {
        let _set_aside = SetAside::of(socket.as_fd());
        let watched = Watched::new(socket.as_fd(), Interest::READABLE);
        let mut watched = watched.map_err(|error| Fault::nobodys(Failure::Socket(error)))?;
        for (index, hop) in hops.iter().enumerate() {
            if let Some(gssapi) = hop.proxy.gssapi() {
                let turns = &self.broker.kerberos;
                let naming = gssapi::naming(index);
                let authenticating =
                    gssapi::authenticate(turns, gssapi, Use::Stream, naming, &self.limits, &mut watched);
                Box::pin(authenticating).await.map_err(|failure| Fault::of_gssapi(index, hops, failure))?;
            }
            self.negotiate_with(&mut watched, hops, index).await?;
        }
        Ok(())
    }

    /// Connects the program's socket to the broker, and the broker to the target. `addresses`: where the first proxy is, if only those are
    /// left.
    async fn relay(
        &self,
        socket: &Socket,
        hops: &[Rc<Hop>],
        addresses: Option<&[SocketAddr]>,
    ) -> Result<(), Fault> {
        let place = self.broker.relays.place().await.map_err(Fault::nobodys)?;
        let met = self.broker.relays.meet(socket).await;
        let downstream = met.map_err(|failure| match failure {
            Failure::Bound(_) => Fault::of_the_source(hops, failure),
            failure => Fault::nobodys(failure),
        })?;
        let upstream = self.own_connection(hops, addresses).await?;
        self.broker.relays.begin(place, downstream, upstream);
        Ok(())
    }

    /// A connection of the broker's own by way of these proxies.
    async fn own_connection(
        &self,
        hops: &[Rc<Hop>],
        addresses: Option<&[SocketAddr]>,
    ) -> Result<Stream, Fault> {
        let [first, ..] = hops else { return Err(Fault::nobodys(unreachable())) };
        if let Place::Unix(path) = first.proxy.place() {
            let connected = self.limits.within(self.limits.connect, knock(path)).await;
            let connected = connected.map_err(Failure::ProxyTimeout);
            let stream = connected.and_then(|result| result.map_err(Failure::ProxyUnreachable));
            return self
                .along(Stream::Unix(stream.map_err(|failure| Fault::of_first(hops, failure))?), hops)
                .await;
        }
        let found = match addresses {
            Some(addresses) => addresses.into(),
            None => self.addresses(first).await.map_err(|failure| Fault::of_first(hops, failure))?,
        };
        let mut last = Fault::of_first(hops, unreachable());
        for address in found.iter() {
            match dial(&self.limits, *address).await {
                Ok(stream) => return self.along(Stream::Tcp(stream), hops).await,
                Err(failure) => last = Fault::of_first(hops, failure),
            }
        }
        Err(last)
    }

    /// Negotiates with all of them, in TLS or under GSSAPI with those who want it.
    async fn along(&self, mut stream: Stream, hops: &[Rc<Hop>]) -> Result<Stream, Fault> {
        for (index, hop) in hops.iter().enumerate() {
            if let Some(tls) = hop.proxy.tls() {
                let wrapping = tls::wrap(&self.broker.authorities, tls, stream);
                let wrapped = self.limits.within(self.limits.handshake, wrapping).await;
                let wrapped = wrapped.unwrap_or_else(|limit| Err(Failure::AnswerTimeout(limit)));
                let blame = if index == 0 { Blame::Dead(0) } else { Blame::Suspect(index) };
                stream = wrapped.map_err(|failure| Fault::at(index, hops, failure, blame))?;
            }
            if let Some(gssapi) = hop.proxy.gssapi() {
                let (turns, naming) = (&self.broker.kerberos, gssapi::naming(index));
                stream = gssapi::wrap(turns, gssapi, Use::Stream, naming, &self.limits, stream)
                    .await
                    .map_err(|failure| Fault::of_gssapi(index, hops, failure))?;
            }
            self.negotiate_with(&mut stream, hops, index).await?;
        }
        Ok(stream)
    }

    /// Has the proxy with this index connect us to the next one, or the last to the target.
    async fn negotiate_with(
        &self,
        wire: &mut impl Wire,
        hops: &[Rc<Hop>],
        index: usize,
    ) -> Result<(), Fault> {
        let mut handshake = self.handshake(hops, index)?;
        let has_next = index + 1 < hops.len();
        // While there are other ways, the last one's answer is not waited for until all time is gone; nor is that of one that need only listen.
        let may_take_all = !has_next && !self.has_choice && !self.is_bind;
        let negotiation = negotiate(wire, &mut handshake, &self.limits, may_take_all).await;
        let tells = hops.get(index).is_some_and(|hop| hop.proxy.tells_strangers());
        if self.stranger.is_some() && tells && handshake.is_authenticated() {
            self.is_told_apart.set(true);
        }
        self.bound.set(handshake.bound());
        let must_be_told = self.stranger_for(hops, index).is_some_and(|stranger| stranger.must_be_told);
        let (hop, is_pipelined) = (hops.get(index), handshake.is_pipelined());
        if let (Ok(()), Some(hop), true) = (&negotiation, hop, is_pipelined) {
            hop.pipelining.prove();
        }
        negotiation.map_err(|mut broken| {
            if must_be_told && broken.failure.is_about_the_method() {
                broken.failure = Failure::NotApart;
            }
            if let (Failure::AnswerTimeout(_), Some(hop)) = (&broken.failure, hop) {
                hop.pipelining.disprove();
            }
            let doubted = hop.filter(|hop| is_pipelined && hop.pipelining.doubts(&broken.failure));
            Fault::of_negotiation(index, hops, broken).doubting(doubted)
        })
    }
}

/// Attempts it; in turns, where it may have failed because it was pipelined.
async fn beyond_doubt<T>(
    hops: &[Rc<Hop>],
    attempt: &impl AsyncFn(&[Rc<Hop>]) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let outcome = attempt(hops).await;
    let Some(hop) = outcome.as_ref().err().and_then(|fault| fault.doubted.clone()) else { return outcome };
    let doubt = hop.pipelining.doubt();
    let again = attempt(hops).await;
    if again.as_ref().is_err_and(|fault| fault.failure.is_no_reply()) {
        doubt.dispel();
    }
    again
}

/// The proxies, as the user knows them.
pub(super) fn shown(hops: &[Rc<Hop>]) -> String {
    hops.iter().map(|hop| hop.proxy.to_string()).collect::<Vec<_>>().join(" -> ")
}

fn unreachable() -> Failure {
    Failure::ProxyUnreachable(Errno::NETUNREACH.into())
}

/// Is it the program's socket that does not serve? One that it has not bound can be connected to whatever there is a way to.
fn is_own_fault(error: &std::io::Error, bound: Option<SocketAddr>) -> bool {
    match error.raw_os_error() {
        Some(libc::EISCONN | libc::EAFNOSUPPORT | libc::ECONNABORTED) => true,
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EINVAL) => bound.is_some(),
        _ => false,
    }
}
