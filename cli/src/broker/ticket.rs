//! Tickets: for each a request in, a reply out.
//!
//! Here is what is answered at once; `turn.rs` has what takes as long as a proxy does. Tickets for either come on a socket of their own ([`Queue`]).

mod request;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use presocks_abi::socket::Kind;
use presocks_proto::frame::{Reply, Request};
use presocks_proto::session::Queue;
use rustix::io::Errno;
use rustix::net::connect_unspec;
use tokio::task::spawn_local;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use super::Broker;
use super::datagram::{Connected, Opened, Sent};
use super::descriptors::{Held, PAUSE, Permit};
use super::program::Program;
use super::socket::kind;
use super::strangers::{Admission, Strangers};

/// Takes in the tickets of a queue for as long as the broker lives.
pub(super) async fn accept(broker: Rc<Broker>, queue: Queue, mut listener: UnixSeqpacketListener) {
    let (at_once, in_turn) = broker.descriptors.strangers();
    let strangers = Strangers::new(match queue {
        Queue::AtOnce => at_once,
        Queue::InTurn => in_turn,
    });
    loop {
        let permit = match queue {
            Queue::AtOnce => broker.descriptors.question().await,
            Queue::InTurn => broker.descriptors.ticket().await,
        };
        let Some(permit) = permit else { return };
        match listener.accept().await {
            Ok(ticket) => {
                let Some(admission) = strangers.admit(&ticket) else { continue };
                let broker = Rc::clone(&broker);
                match queue {
                    Queue::AtOnce => drop(spawn_local(serve(broker, ticket, admission, permit))),
                    Queue::InTurn => drop(spawn_local(turn::serve(broker, ticket, admission, permit))),
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Serves a ticket for what is answered at once.
async fn serve(broker: Rc<Broker>, ticket: UnixSeqpacket, admission: Admission, permit: Permit) {
    let Some((request, socket)) = question(&broker, &ticket).await else { return };
    // It has shown the token.
    drop(admission);
    let program = Program::Behind(&ticket);
    let _held = match request {
        Request::DatagramSend { .. } | Request::DatagramOpen { .. } => {
            broker.descriptors.at_leisure(permit, || program.process())
        }
        _ => Held::Permit(permit),
    };
    let reply = match (request, socket) {
        (request, Some(socket)) if !is_meant(&request, socket.as_fd()) => Reply::Done { errno: libc::EBADF },
        (Request::DatagramSend { destination, is_impatient }, Some(socket)) => {
            match broker.datagrams.send(socket.as_fd(), destination, is_impatient, &program).await {
                Ok(Sent::Direct) => Reply::Direct,
                Ok(Sent::Token(token)) => Reply::Address(token),
                Err(error) => failed(&error),
            }
        }
        (Request::DatagramHere { source }, _) => {
            let refused = broker.datagrams.send_here(source, &program).err();
            Reply::Done { errno: refused.map_or(0, Errno::raw_os_error) }
        }
        (Request::DatagramOpen { is_impatient }, Some(socket)) => {
            match broker.datagrams.open(socket.as_fd(), is_impatient, &program).await {
                Ok(Opened::All) => Reply::Done { errno: 0 },
                Ok(Opened::One) => Reply::Direct,
                Err(error) => failed(&error),
            }
        }
        (request, socket) => match answer(&broker, request, socket, &program) {
            Some(reply) => reply,
            None => return,
        },
    };
    // A program that is gone needs no answer.
    let _ = ticket.send(&reply.encode(&broker.session.proof)).await;
}

/// The request and its socket; `None` when it is no question of a shim's.
async fn question(broker: &Broker, ticket: &UnixSeqpacket) -> Option<(Request, Option<OwnedFd>)> {
    let request = request::read(broker, ticket).await?;
    if request.queue() != Queue::AtOnce {
        broker.report.refused_ticket("it is for the other queue");
        return None;
    }
    let socket = request::take(broker, ticket, request.carries_socket()).await?;
    Some((request, socket))
}

/// What needs no waiting.
fn answer(
    broker: &Rc<Broker>,
    request: Request,
    socket: Option<OwnedFd>,
    program: &Program<'_>,
) -> Option<Reply> {
    Some(match (request, socket) {
        (Request::Resolve { name, family }, _) => match broker.policy.names().resolve(&name, family) {
            Ok(addresses) => Reply::Addresses(addresses),
            Err(errno) => Reply::Done { errno },
        },
        (Request::Reverse { address }, _) => {
            broker.policy.names().reverse(address).map_or(Reply::Done { errno: libc::ENOENT }, Reply::Name)
        }
        (Request::Peer { cookie, actual }, _) => {
            peer(broker, cookie, actual).map_or(Reply::Done { errno: libc::ENOENT }, Reply::Address)
        }
        (Request::DatagramConnect { destination }, Some(socket)) => {
            match broker.datagrams.connect(socket.as_fd(), destination, program) {
                Ok(Connected::Sink(sink)) => Reply::Address(sink),
                Ok(Connected::Gate { address, is_open }) => Reply::Gate { address, is_open },
                Ok(Connected::There | Connected::Token) => Reply::Done { errno: 0 },
                Err(error) => failed(&error),
            }
        }
        (Request::DatagramDissolve, Some(socket)) => {
            let errno = connect_unspec(&socket).err().map_or(0, Errno::raw_os_error);
            Reply::Done { errno }
        }
        (Request::Device { level, name, value }, Some(socket)) => {
            let option = (level.cast_signed(), name.into());
            match broker.devices.set(socket.as_fd(), option, value.as_bytes()) {
                Ok(()) => Reply::Done { errno: 0 },
                Err(error) => failed(&error),
            }
        }
        (Request::Bind { address }, Some(socket)) => {
            broker.bindings.instead_of(socket.as_fd(), address).map_or(Reply::Direct, Reply::Address)
        }
        (Request::Await { cookie, .. }, _) => {
            // One that is not known may be among those that are not taken in yet.
            let may_be_under_way = broker.connecting.has(cookie) || broker.descriptors.holds_back();
            Reply::Done { errno: if may_be_under_way { libc::EINPROGRESS } else { libc::ENOENT } }
        }
        (Request::HandOn { cookie }, _) => {
            let is_known = broker.connecting.hand_on(cookie) || broker.descriptors.holds_back();
            Reply::Done { errno: if is_known { 0 } else { libc::ENOENT } }
        }
        (Request::Signal { cookie, number, is_on }, _) => {
            let is_known = broker.connecting.set_signal(cookie, is_on.then_some(number));
            Reply::Done { errno: if is_known { 0 } else { libc::ENOENT } }
        }
        _ => return None,
    })
}

/// Is this a socket of the kind that the request is about? The shim has looked, but a program's thread may have given the number to another socket since. (That of a
/// stream's request is looked at where it is taken, [`Socket::new`].)
fn is_meant(request: &Request, socket: BorrowedFd<'_>) -> bool {
    let is = |kinds: &[Kind]| kind(socket).is_ok_and(|kind| kinds.contains(&kind));
    match request {
        Request::DatagramConnect { .. }
        | Request::DatagramSend { .. }
        | Request::DatagramOpen { .. }
        | Request::DatagramDissolve => is(&[Kind::Datagram]),
        Request::Device { .. } | Request::Bind { .. } => is(&[Kind::Stream, Kind::Datagram]),
        Request::Connect { .. } | Request::Listen { .. } | Request::OwnAddress => true,
        Request::Resolve { .. }
        | Request::Reverse { .. }
        | Request::Peer { .. }
        | Request::Await { .. }
        | Request::DatagramHere { .. }
        | Request::HandOn { .. }
        | Request::Signal { .. } => true,
    }
}

fn failed(error: &io::Error) -> Reply {
    Reply::Done { errno: error.raw_os_error().unwrap_or(libc::ENETUNREACH) }
}

/// Whom `actual` stands for to the socket with this cookie.
pub(super) fn peer(broker: &Broker, cookie: u64, actual: SocketAddr) -> Option<SocketAddr> {
    let asked = broker.peers.destination(cookie, actual);
    let has_come = || broker.bindings.peer(cookie, actual);
    asked.or_else(has_come).or_else(|| broker.datagrams.origin(cookie, actual))
}
