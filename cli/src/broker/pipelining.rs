//! Whether a SOCKS5 proxy takes greeting and request in one flight, which saves a round trip of every connect.
//!
//! Most servers do; some lose the request and never answer, so it is not guessed on a program's connection. A session that has made a few
//! connects asks once, in the background, on a connection of its own: the proxy is to connect to itself, and any reply at all proves
//! that it read the request. Where it does not, or where a password is needed, the handshake takes its turns.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;

use presocks_proto::handshake::{Error, Handshake};
use presocks_proto::socks5;
use presocks_proto::target::{Host, Target};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Broker;
use super::connect::{self, converse};
use super::failure::Failure;
use super::socket::watch;
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
pub(super) fn count(broker: &Rc<Broker>, proxy: SocketAddr) {
    let connects = broker.pipelining.connects.get().saturating_add(1);
    broker.pipelining.connects.set(connects);
    let may_serve = connect::proxy(broker).is_ok_and(|proxy| proxy.kind() == Kind::Socks5 && proxy.is_open());
    if connects == CONNECTS_BEFORE_ASKING && may_serve {
        spawn_local(ask(Rc::clone(broker), proxy));
    }
}

async fn ask(broker: Rc<Broker>, proxy: SocketAddr) {
    let limit = broker.settings.connect_timeout;
    let answer = timeout(limit, try_once(proxy)).await;
    let is_reply =
        matches!(answer, Ok(Ok(()) | Err(Failure::Handshake(Error::Socks5(socks5::Error::Refused(_))))));
    broker.pipelining.is_proven.set(is_reply);
}

async fn try_once(proxy: SocketAddr) -> Result<(), Failure> {
    let stream = TcpStream::connect(proxy).await.map_err(Failure::ProxyUnreachable)?;
    let stream = stream.into_std().map_err(Failure::Socket)?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    let watched = watch(stream.as_fd(), interest).map_err(Failure::Socket)?;
    let itself = Target { host: Host::Address(proxy.ip()), port: proxy.port() };
    converse(&watched, Handshake::Socks5(socks5::Handshake::pipelined(itself))).await
}
