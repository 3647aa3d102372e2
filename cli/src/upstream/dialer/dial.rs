//! One connection along a chain: to its first proxy, then from each to the next, then to the destination.
//!
//! On the program's own socket where nothing of ours need stand between it and the proxies; else on a connection of the broker's, and a
//! relay. When the chain's order permits, an attempt goes on without a proxy that fails it; whoever fails is named.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use presocks_proto::handshake::Handshake;
use presocks_proto::target::Target;
use rustix::io::Errno;
use tokio::io::Interest;

use super::fault::Fault;
use super::{Dialer, Outcome, shown};
use crate::proxy::{self, Place};
use crate::readiness::Watched;
use crate::socket::source::NotConnected;
use crate::socket::{SetAside, Socket};
use crate::upstream::chain::Blame;
use crate::upstream::failure::Failure;
use crate::upstream::first_hop::{connect_tcp, connect_unix};
use crate::upstream::gssapi::{self, Use};
use crate::upstream::hop::Hop;
use crate::upstream::isolation::IsolationKey;
use crate::upstream::limits::Limits;
use crate::upstream::negotiate::{Wire, negotiate};
use crate::upstream::pipelining::question;
use crate::upstream::stream::Stream;
use crate::upstream::tls;

/// One connection by way of proxies: what all attempts for it share.
pub(super) struct Dial<'a> {
    dialer: &'a Dialer,
    limits: Limits,
    target: Target,
    isolation_key: Option<&'a IsolationKey>,
    /// Are there other ways when one fails?
    has_choice: bool,
    /// Has a proxy of this path taken the isolation key?
    is_isolated: Cell<bool>,
    /// Is the last one to listen for the target (BIND), rather than to connect to it?
    is_bind: bool,
    /// The address in the last one's reply.
    pub(super) bound: Cell<Option<Target>>,
}

impl<'a> Dial<'a> {
    pub(super) fn new(
        dialer: &'a Dialer,
        chain: usize,
        target: Target,
        isolation_key: Option<&'a IsolationKey>,
    ) -> Self {
        let has_choice = dialer.chains.get(chain).is_some_and(|chain_state| chain_state.has_choice());
        Self { isolation_key, has_choice, ..Self::alone(dialer, target, false) }
    }

    /// By which a proxy is to listen for the target.
    pub(super) fn to_listen(
        dialer: &'a Dialer,
        target: Target,
        isolation_key: Option<&'a IsolationKey>,
    ) -> Self {
        Self { isolation_key, ..Self::alone(dialer, target, true) }
    }

    /// For nobody in particular, and without a choice.
    fn alone(dialer: &'a Dialer, target: Target, is_bind: bool) -> Self {
        Self {
            dialer,
            limits: dialer.timeouts.begin(),
            target,
            isolation_key: None,
            has_choice: false,
            is_isolated: Cell::default(),
            is_bind,
            bound: Cell::default(),
        }
    }

    /// Plans and attempts, until one succeeds or no other is left.
    pub(super) async fn try_plans<T>(
        &self,
        chain: usize,
        attempt: impl AsyncFn(&[Rc<Hop>]) -> Result<T, Fault>,
    ) -> Outcome<T> {
        let nowhere = |failure| Outcome { path: String::new(), result: Err(failure) };
        let Some(chain_state) = self.dialer.chains.get(chain) else { return nowhere(unreachable()) };
        let mut tried = chain_state.begin();
        let mut last: Option<(String, Rc<Hop>, Failure)> = None;
        while let Some(hops) = chain_state.plan(&tried) {
            if let Some((_, hop, failure)) = last.take() {
                (self.dialer.passed_over)(&hop.proxy, &failure);
            }
            let path = shown(&hops);
            let Fault { failure, blame, .. } = match beyond_doubt(&hops, &attempt).await {
                Ok(done) => {
                    chain_state.succeed(&tried, &hops);
                    return Outcome { path, result: Ok(done) };
                }
                Err(fault) => fault,
            };
            // When all the time is gone, nobody is left to be tried, and it is nobody's who came last.
            let passed =
                if self.limits.are_over() { None } else { chain_state.pass_over(&mut tried, &hops, blame) };
            let Some(hop) = passed else { return Outcome { path, result: Err(failure) } };
            last = Some((path, hop, failure));
        }
        match last {
            Some((path, _, failure)) => Outcome { path, result: Err(failure) },
            None => nowhere(unreachable()),
        }
    }

    /// Connects the program's socket to the target by way of these proxies.
    pub(super) async fn carry(&self, socket: &Socket, hops: &[Rc<Hop>]) -> Result<(), Fault> {
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
                    if self.dialer.isolation.is_none() {
                        // Connections that are kept apart have credentials, and a question without any would be apart from nobody.
                        question::count(self.dialer.timeouts, first, *address);
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
    pub(super) fn can_be_asked(&self, hops: &[Rc<Hop>]) -> Result<(), Fault> {
        self.is_isolated.set(false);
        if self.isolation_key.is_some() && !hops.iter().any(|hop| hop.proxy.can_isolate()) {
            return Err(Fault { failure: Failure::NotApart, blame: Blame::Unlucky(0), doubted: None });
        }
        (0..hops.len()).try_for_each(|index| self.handshake(hops, index).map(|_| ()))
    }

    /// The request by which the proxy with this index is to connect us to the next one, or the last to the target.
    pub(super) fn handshake<'b>(&'b self, hops: &'b [Rc<Hop>], index: usize) -> Result<Handshake<'b>, Fault> {
        let Some(hop) = hops.get(index) else { return Err(Fault::nobodys(unreachable())) };
        let isolation = self.isolation_for(hops, index);
        match hops.get(index + 1) {
            None => {
                let ask = if self.is_bind { Hop::binding } else { Hop::handshake };
                ask(hop, self.target, isolation)
                    .map_err(|failure| Fault::at(index, hops, failure, Blame::Unlucky(index)))
            }
            Some(next) => {
                let target = next.proxy.as_target().ok_or_else(unreachable);
                let handshake = target.and_then(|target| hop.handshake(target, isolation));
                handshake.map_err(|failure| Fault::of_next(index, hops, failure))
            }
        }
    }

    /// The isolation key for the proxy with this index. One proxy of the path must take it: the last that can, if none before it has.
    fn isolation_for(&self, hops: &[Rc<Hop>], index: usize) -> Option<proxy::IsolationCredentials<'_>> {
        let credentials = self.isolation_key.and_then(IsolationKey::credentials)?;
        let is_last = hops.iter().rposition(|hop| hop.proxy.can_isolate()) == Some(index);
        Some(proxy::IsolationCredentials { credentials, is_required: is_last && !self.is_isolated.get() })
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
                let turns = &self.dialer.kerberos;
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
        let place = self.dialer.relays.place().await.map_err(Fault::nobodys)?;
        let met = self.dialer.relays.meet(socket).await;
        let downstream = met.map_err(|failure| match failure {
            Failure::Bound(_) => Fault::of_the_source(hops, failure),
            failure => Fault::nobodys(failure),
        })?;
        let upstream = self.own_connection(hops, addresses).await?;
        self.dialer.relays.begin(place, downstream, upstream);
        Ok(())
    }

    /// A connection of the broker's own by way of these proxies.
    pub(super) async fn own_connection(
        &self,
        hops: &[Rc<Hop>],
        addresses: Option<&[SocketAddr]>,
    ) -> Result<Stream, Fault> {
        let [first, ..] = hops else { return Err(Fault::nobodys(unreachable())) };
        if let Place::Unix(path) = first.proxy.place() {
            let connected = self.limits.within(self.limits.connect, connect_unix(path)).await;
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
            match connect_tcp(&self.limits, *address).await {
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
                let wrapping = tls::wrap(&self.dialer.authorities, tls, stream);
                let wrapped = self.limits.within(self.limits.handshake, wrapping).await;
                let wrapped = wrapped.unwrap_or_else(|limit| Err(Failure::AnswerTimeout(limit)));
                let blame = if index == 0 { Blame::Dead(0) } else { Blame::Suspect(index) };
                stream = wrapped.map_err(|failure| Fault::at(index, hops, failure, blame))?;
            }
            if let Some(gssapi) = hop.proxy.gssapi() {
                let (turns, naming) = (&self.dialer.kerberos, gssapi::naming(index));
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
        let can_isolate = hops.get(index).is_some_and(|hop| hop.proxy.can_isolate());
        if self.isolation_key.is_some() && can_isolate && handshake.is_authenticated() {
            self.is_isolated.set(true);
        }
        self.bound.set(handshake.bound());
        let is_required = self.isolation_for(hops, index).is_some_and(|isolation| isolation.is_required);
        let (hop, is_pipelined) = (hops.get(index), handshake.is_pipelined());
        if let (Ok(()), Some(hop), true) = (&negotiation, hop, is_pipelined) {
            hop.pipelining.prove();
        }
        negotiation.map_err(|mut broken| {
            if is_required && broken.failure.is_about_the_method() {
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

fn unreachable() -> Failure {
    Failure::ProxyUnreachable(Errno::NETUNREACH.into())
}

/// Is it the program's socket that does not serve? One that it has not bound can be connected to whatever there is a way to.
fn is_own_fault(error: &io::Error, bound: Option<SocketAddr>) -> bool {
    match error.raw_os_error() {
        Some(libc::EISCONN | libc::EAFNOSUPPORT | libc::ECONNABORTED) => true,
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EINVAL) => bound.is_some(),
        _ => false,
    }
}
