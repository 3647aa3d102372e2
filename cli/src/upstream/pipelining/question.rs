//! The question whether a proxy takes greeting and request in one flight.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use presocks_proto::handshake::{Error, Handshake};
use presocks_proto::socks5;
use presocks_proto::target::{Host, Target};
use tokio::task::spawn_local;

use super::State;
use crate::proxy::Kind;
use crate::upstream::failure::Failure;
use crate::upstream::first_hop::connect_tcp;
use crate::upstream::hop::Hop;
use crate::upstream::limits::{Limits, Timeouts};
use crate::upstream::negotiate::negotiate;
use crate::upstream::stream::Stream;

/// A session with fewer connects would not get the question's cost back.
const CONNECTS_BEFORE_ASKING: u32 = 4;

/// Who waits for the request that it has lost may close the connection as well, but not so soon.
const PROMPT: Duration = Duration::from_secs(2);

/// A connect through the proxy has succeeded; asks, when enough have.
pub(crate) fn count(timeouts: Timeouts, hop: &Rc<Hop>, address: SocketAddr) {
    let connects = hop.pipelining.connects.get().saturating_add(1);
    hop.pipelining.connects.set(connects);
    let may_serve = hop.proxy.kind() == Kind::Socks5 && hop.proxy.is_open();
    if connects == CONNECTS_BEFORE_ASKING && may_serve {
        spawn_local(ask(timeouts.begin(), Rc::clone(hop), address));
    }
}

async fn ask(limits: Limits, hop: Rc<Hop>, address: SocketAddr) {
    let started = Instant::now();
    let answer = limits.within(limits.connect, try_once(&limits, address)).await;
    hop.pipelining.state.set(match answer {
        Ok(Ok(()) | Err(Failure::Handshake(Error::Socks5(socks5::Error::Refused(_))))) => State::Proven,
        Ok(Err(Failure::NoReply)) if started.elapsed() < PROMPT => State::Promising,
        _ => State::Unknown,
    });
}

async fn try_once(limits: &Limits, proxy: SocketAddr) -> Result<(), Failure> {
    let mut stream = Stream::Tcp(connect_tcp(limits, proxy).await?);
    let itself = Target { host: Host::Address(proxy.ip()), port: proxy.port() };
    let mut handshake = Handshake::Socks5(socks5::Handshake::pipelined(itself));
    negotiate(&mut stream, &mut handshake, limits, true).await.map_err(|broken| broken.failure)
}
