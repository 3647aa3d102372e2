//! One proxy of a chain, and what the session has learnt of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use presocks_proto::handshake::Handshake;
use presocks_proto::socks5;
use presocks_proto::target::Target;
use rustix::io::Errno;

use super::failure::Failure;
use super::pipelining::Pipelining;
use crate::policy::route::Unproxied;
use crate::proxy::{Host, IsolationCredentials, Place, Proxy};

/// For how long a proxy that was found dead is used only when there is no other.
const COOLDOWN: Duration = Duration::from_secs(30);

/// One proxy of a chain.
pub(crate) struct Hop {
    pub(crate) proxy: Proxy,
    pub(crate) pipelining: Pipelining,
    /// Of a proxy at a TCP port; `None` until it has been asked for.
    addresses: RefCell<Option<Rc<[SocketAddr]>>>,
    cooldown_end: Cell<Option<Instant>>,
}

impl Hop {
    /// A proxy of which nothing is known yet but its addresses, if they are.
    pub(crate) fn new(proxy: Proxy, addresses: Option<&[SocketAddr]>) -> Self {
        Self {
            proxy,
            pipelining: Pipelining::default(),
            addresses: RefCell::new(addresses.map(Rc::from)),
            cooldown_end: Cell::default(),
        }
    }

    /// Where this machine reaches it; never empty. The look-up is this machine's: the one that is not a proxy's to make.
    ///
    /// # Errors
    /// [`Failure::ProxyName`]; [`Failure::ProxyUnreachable`] for one at a Unix socket.
    pub(crate) async fn addresses(&self) -> Result<Rc<[SocketAddr]>, Failure> {
        if let Some(known) = &*self.addresses.borrow() {
            return Ok(Rc::clone(known));
        }
        let Place::Tcp(host, port) = self.proxy.place() else {
            return Err(Failure::ProxyUnreachable(Errno::AFNOSUPPORT.into()));
        };
        let found: Rc<[SocketAddr]> = match host {
            Host::Address(address) => [SocketAddr::new(*address, *port)].into(),
            Host::Name(name) => {
                tokio::net::lookup_host((name.as_str(), *port)).await.map_err(Failure::ProxyName)?.collect()
            }
        };
        if found.is_empty() {
            return Err(Failure::ProxyName(Errno::HOSTUNREACH.into()));
        }
        self.addresses.replace(Some(Rc::clone(&found)));
        Ok(found)
    }

    /// A request to connect to `target`, in one flight where the proxy is known to take it.
    ///
    /// # Errors
    /// The proxy, or any, cannot be asked for this target.
    pub(crate) fn handshake<'a>(
        &'a self,
        target: Target,
        isolation: Option<IsolationCredentials<'a>>,
    ) -> Result<Handshake<'a>, Failure> {
        can_be_asked_for(&target)?;
        if isolation.is_none() && self.pipelining.may_serve() {
            return Ok(Handshake::Socks5(socks5::Handshake::pipelined(target)));
        }
        self.proxy.handshake(target, isolation).map_err(Failure::Handshake)
    }

    /// A request that it listen for `target`.
    ///
    /// # Errors
    /// Its protocol has none; the proxy, or any, cannot be asked for this target.
    pub(crate) fn binding<'a>(
        &'a self,
        target: Target,
        isolation: Option<IsolationCredentials<'a>>,
    ) -> Result<Handshake<'a>, Failure> {
        can_be_asked_for(&target)?;
        self.proxy.binding(target, isolation).map_err(Failure::Handshake)?.ok_or(Failure::NoBind)
    }

    /// Was it found dead less than [`COOLDOWN`] ago?
    pub(crate) fn is_cooling_down(&self) -> bool {
        self.cooldown_end.get().is_some_and(|until| Instant::now() < until)
    }

    /// It was found dead: its cooldown begins.
    pub(crate) fn cool_down(&self) {
        self.cooldown_end.set(Some(Instant::now() + COOLDOWN));
    }
}

/// Of a program's destinations this is known before: here comes what the configuration names as well, a name server, or another proxy.
fn can_be_asked_for(target: &Target) -> Result<(), Failure> {
    Unproxied::of(target).map_or(Ok(()), |why| Err(Failure::Unproxied(why)))
}
