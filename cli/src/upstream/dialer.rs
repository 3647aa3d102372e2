//! Connections by way of proxies: a program's own socket along a chain, a connection of the broker's, a proxy that listens (BIND), and one that takes
//! datagrams (UDP ASSOCIATE).

mod dial;
mod fault;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use presocks_proto::handshake::Handshake;
use presocks_proto::standin::{Kind, kind};
use presocks_proto::target::{Host, Target};
use tokio::net::TcpStream;

use super::chain::Chains;
use super::failure::Failure;
use super::first_hop::connect_tcp;
use super::gssapi::{self, Use};
use super::hop::Hop;
use super::isolation::{IsolationKey, SessionKey};
use super::limits::Timeouts;
use super::negotiate::negotiate;
use super::relay::Relays;
use super::stream::Stream;
use super::tls::Authorities;
use crate::policy::route::{Isolation, NoDatagrams, Unproxied};
use crate::proxy::Proxy;
use crate::socket::Socket;
use dial::Dial;
use fault::Fault;

/// What an attempt along a chain has come to.
pub(crate) struct Outcome<T> {
    /// The proxies that were to be gone through, as the user knows them.
    pub(crate) path: String,
    pub(crate) result: Result<T, Failure>,
}

/// How a program's socket is connected.
pub(crate) struct Carried {
    /// The proxies that it goes through.
    pub(crate) hops: Vec<Rc<Hop>>,
    /// Where the connection of the last one comes from, as that one has it.
    pub(crate) bound: Option<Target>,
}

/// A proxy that listens.
pub(crate) struct Listening {
    /// The connection to it, on which its second reply comes.
    pub(crate) stream: Stream,
    /// Where it listens.
    pub(crate) at: SocketAddr,
    pub(crate) second_reply: Handshake<'static>,
}

/// An association with a proxy.
pub(crate) struct Associated {
    /// It lasts as long as this connection.
    pub(crate) control: TcpStream,
    /// What protects its datagrams, if anything does.
    pub(crate) seal: Option<gssapi::Seal>,
    /// The relay's address as the proxy gave it.
    pub(crate) bound: Option<Target>,
}

/// What hears of a proxy that an attempt goes on without, and why.
type PassedOver = dyn Fn(&Proxy, &Failure);

/// Makes connections by way of proxies, for a session.
pub(crate) struct Dialer {
    timeouts: Timeouts,
    /// What is isolated: it gets SOCKS5 credentials of its own.
    isolation: Option<Isolation>,
    session_key: SessionKey,
    chains: Chains,
    authorities: Authorities,
    kerberos: gssapi::Turns,
    relays: Rc<Relays>,
    passed_over: Box<PassedOver>,
}

impl Dialer {
    /// # Errors
    /// Those of getrandom(2).
    pub(crate) fn new(
        chains: Chains,
        timeouts: Timeouts,
        isolation: Option<Isolation>,
        relays: Rc<Relays>,
        passed_over: impl Fn(&Proxy, &Failure) + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            timeouts,
            isolation,
            session_key: SessionKey::new()?,
            chains,
            authorities: Authorities::default(),
            kerberos: gssapi::Turns::default(),
            relays,
            passed_over: Box::new(passed_over),
        })
    }

    /// Are connections isolated?
    pub(crate) fn isolates(&self) -> bool {
        self.isolation.is_some()
    }

    /// The proxy at this place of a chain.
    pub(crate) fn hop(&self, chain: usize, place: usize) -> Option<&Rc<Hop>> {
        self.chains.get(chain)?.hop(place)
    }

    /// The key of a connection, if connections are isolated.
    pub(crate) fn isolation_key(
        &self,
        process: impl FnOnce() -> Option<i32>,
        target: &Target,
    ) -> Option<IsolationKey> {
        self.isolation.map(|isolation| IsolationKey::new(isolation, &self.session_key, process, target))
    }

    /// Connects a program's socket.
    pub(crate) async fn connect(
        &self,
        socket: &Socket,
        chain: usize,
        target: &Target,
        isolation_key: Option<&IsolationKey>,
    ) -> Outcome<Carried> {
        let dial = &Dial::new(self, chain, *target, isolation_key);
        dial.try_plans(chain, async |hops| {
            let outcome = dial.carry(socket, hops).await;
            if outcome.as_ref().is_err_and(|fault| !fault.is_of_the_socket()) {
                socket.reset();
            }
            outcome.map(|()| Carried { hops: hops.to_vec(), bound: dial.bound.get() })
        })
        .await
    }

    /// Has the last of these proxies listen for the target.
    ///
    /// # Errors
    /// [`Failure`] as the proxies or the clock have it.
    pub(crate) async fn bind(
        &self,
        hops: &[Rc<Hop>],
        target: Target,
        isolation_key: Option<&IsolationKey>,
    ) -> Result<Listening, Failure> {
        let dial = &Dial::to_listen(self, target, isolation_key);
        let bind = async {
            dial.can_be_asked(hops)?;
            let stream = dial.own_connection(hops, None).await?;
            let asked = dial.handshake(hops, hops.len().saturating_sub(1))?;
            Ok((stream, asked.second_reply()))
        };
        let (stream, second_reply) = bind.await.map_err(|fault: Fault| fault.failure)?;
        let second_reply = second_reply.ok_or(Failure::NoBind)?;
        let bound = dial.bound.get();
        let at = listens_at(bound, &stream, hops).ok_or(Failure::NoListener(bound.map(Box::new)))?;
        Ok(Listening { stream, at, second_reply })
    }

    /// A connection of the broker's own.
    pub(crate) async fn reach(&self, chain: usize, target: Target) -> Outcome<Stream> {
        // Programs share it, so it is of no process.
        let isolation_key = self.isolation_key(|| None, &target);
        let dial = &Dial::new(self, chain, target, isolation_key.as_ref());
        dial.try_plans(chain, async |hops| {
            dial.can_be_asked(hops)?;
            dial.own_connection(hops, None).await
        })
        .await
    }

    /// UDP ASSOCIATE with a proxy.
    ///
    /// # Errors
    /// [`Failure`] as the proxy or the clock has it.
    pub(crate) async fn associate(&self, hop: &Hop, proxy: SocketAddr) -> Result<Associated, Failure> {
        let mut association = hop.proxy.association().ok_or(Failure::NoDatagrams(NoDatagrams::Protocol))?;
        let limits = self.timeouts.begin();
        let mut control = Stream::Tcp(connect_tcp(&limits, proxy).await?);
        if let Some(gssapi) = hop.proxy.gssapi() {
            let naming = gssapi::naming(0);
            control = gssapi::wrap(&self.kerberos, gssapi, Use::Datagrams, naming, &limits, control).await?;
        }
        negotiate(&mut control, &mut association, &limits, true).await.map_err(|broken| broken.failure)?;
        let bound = association.bound();
        let (control, seal) = match control {
            Stream::Gssapi(sealed) => sealed.into_parts(),
            control => (control, None),
        };
        match control {
            Stream::Tcp(control) => Ok(Associated { control, seal, bound }),
            Stream::Unix(_) | Stream::Tls(_) | Stream::Gssapi(_) => {
                Err(Failure::NoDatagrams(NoDatagrams::Protocol))
            }
        }
    }
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

/// The proxies, as the user knows them.
pub(crate) fn shown(hops: &[Rc<Hop>]) -> String {
    hops.iter().map(|hop| hop.proxy.to_string()).collect::<Vec<_>>().join(" -> ")
}
