//! Whether a SOCKS5 proxy takes greeting and request in one flight, which saves a round trip of every connect.
//!
//! Most servers do; some lose the request and never answer, so it is not guessed on a program's connection. A session that has made a few
//! connects asks once, in the background, on a connection of its own: the proxy is to connect to itself, and any reply at all proves
//! that it read the request. Where it does not, or where a password is needed, the handshake takes its turns.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use presocks_proto::handshake::{Error, Handshake};
use presocks_proto::socks5;
use presocks_proto::target::{Host, Target};
use tokio::task::spawn_local;

use super::failure::Failure;
use super::hop::Hop;
use super::negotiate::{Limits, negotiate};
use super::stream::Stream;
use super::{Broker, path};
use crate::proxy::Kind;

/// A session with fewer connects would not get the question's cost back.
const CONNECTS_BEFORE_ASKING: u32 = 4;

/// What is known of the proxy.
#[derive(Default)]
pub(super) struct Pipelining {
    is_proven: Cell<bool>,
    connects: Cell<u32>,
}

impl Pipelining {
    /// May a handshake be pipelined?
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven.get()
    }

    /// A pipelined handshake got no answer: not again.
    pub(super) fn disprove(&self) {
        self.is_proven.set(false);
    }
}

/// A connect through the proxy has succeeded; asks, when enough have.
pub(super) fn count(broker: &Rc<Broker>, hop: &Rc<Hop>, address: SocketAddr) {
    let connects = hop.pipelining.connects.get().saturating_add(1);
    hop.pipelining.connects.set(connects);
    // Connections that are kept apart have credentials, and a question without any would be apart from nobody.
    let is_needed = broker.settings.isolation.is_none();
    let may_serve = is_needed && hop.proxy.kind() == Kind::Socks5 && hop.proxy.is_open();
    if connects == CONNECTS_BEFORE_ASKING && may_serve {
        spawn_local(ask(Rc::clone(broker), Rc::clone(hop), address));
    }
}

async fn ask(broker: Rc<Broker>, hop: Rc<Hop>, address: SocketAddr) {
    let limits = Limits::new(&broker.settings);
    let answer = limits.within(limits.connect, try_once(&limits, address)).await;
    let is_reply =
        matches!(answer, Ok(Ok(()) | Err(Failure::Handshake(Error::Socks5(socks5::Error::Refused(_))))));
    hop.pipelining.is_proven.set(is_reply);
}

async fn try_once(limits: &Limits, proxy: SocketAddr) -> Result<(), Failure> {
    let mut stream = Stream::Tcp(path::dial(limits, proxy).await?);
    let itself = Target { host: Host::Address(proxy.ip()), port: proxy.port() };
    let mut handshake = Handshake::Socks5(socks5::Handshake::pipelined(itself));
    negotiate(&mut stream, &mut handshake, limits, true).await.map_err(|broken| broken.failure)
}
