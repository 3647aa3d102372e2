//! Tickets: for each a request in, a reply out.
//!
//! Here is what is answered at once; `turn.rs` has what takes as long as a proxy does. Tickets for either come on a socket of their own ([`Queue`]).

mod arrivals;
mod request;
mod turn;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use presocks_abi::socket::Kind;
use presocks_proto::frame::{Reply, Request};
use presocks_proto::session::{Queue, Session};
use rustix::io::Errno;
use rustix::net::connect_unspec;
use tokio::task::spawn_local;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use super::admission::{Admission, AdmissionControl};
use super::bind::Bindings;
use super::connect::Connector;
use super::connecting::Connecting;
use super::datagram::{Connected, Datagrams, Opened, Sent};
use super::device::Devices;
use super::peer_names::PeerNames;
use super::program::Program;
use super::report::Report;
use crate::descriptors::{Descriptors, Held, PAUSE, Permit};
use crate::policy::Policy;
use crate::socket::kind;
pub(crate) use arrivals::{Arrivals, BACKLOG};

/// Answers the requests of shims.
pub(super) struct Tickets {
    pub(super) session: Session,
    pub(super) policy: Rc<Policy>,
    pub(super) connector: Rc<Connector>,
    pub(super) connecting: Rc<Connecting>,
    pub(super) datagrams: Rc<Datagrams>,
    pub(super) devices: Rc<Devices>,
    pub(super) bindings: Rc<Bindings>,
    pub(super) peer_names: Rc<PeerNames>,
    pub(super) descriptors: Rc<Descriptors>,
    pub(super) arrivals: Arrivals,
    pub(super) report: Rc<Report>,
}

impl Tickets {
    /// Takes in the tickets of a queue for as long as the broker lives.
    pub(super) async fn accept(self: Rc<Self>, queue: Queue, mut listener: UnixSeqpacketListener) {
        let (at_once, in_turn) = self.descriptors.unadmitted();
        let admission_control = AdmissionControl::new(match queue {
            Queue::AtOnce => at_once,
            Queue::InTurn => in_turn,
        });
        loop {
            let permit = match queue {
                Queue::AtOnce => self.descriptors.question().await,
                Queue::InTurn => self.descriptors.ticket().await,
            };
            let Some(permit) = permit else { return };
            match listener.accept().await {
                Ok(ticket) => {
                    let Some(admission) = admission_control.admit(&ticket) else { continue };
                    let tickets = Rc::clone(&self);
                    match queue {
                        Queue::AtOnce => drop(spawn_local(tickets.serve(ticket, admission, permit))),
                        Queue::InTurn => {
                            self.arrivals.take_in(turn::serve(tickets, ticket, admission, permit)).await;
                        }
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Serves a ticket for what is answered at once.
    async fn serve(self: Rc<Self>, ticket: UnixSeqpacket, admission: Admission, permit: Permit) {
        let Some((request, socket)) = self.question(&ticket).await else { return };
        // It has shown the token.
        drop(admission);
        let program = Program::Behind(&ticket);
        let _held = match request {
            Request::DatagramSend { .. } | Request::DatagramOpen { .. } => {
                self.descriptors.at_leisure(permit, || program.process())
            }
            _ => Held::Permit(permit),
        };
        // It may be among those that are not taken in yet: who has begun it asks here from another program.
        if let Request::Await { cookie, .. } = request
            && !self.connecting.has(cookie)
        {
            self.arrivals.all_taken_in(&self.descriptors).await;
        }
        let reply = match (request, socket) {
            (request, Some(socket)) if !is_meant(&request, socket.as_fd()) => {
                Reply::Done { errno: libc::EBADF }
            }
            (Request::DatagramSend { destination, is_impatient }, Some(socket)) => {
                match self.datagrams.send(socket.as_fd(), destination, is_impatient, &program).await {
                    Ok(Sent::Direct) => Reply::Direct,
                    Ok(Sent::Token(token)) => Reply::Address(token),
                    Err(error) => failed(&error),
                }
            }
            (Request::DatagramHere { source }, _) => {
                let refused = self.datagrams.send_here(source, &program).err();
                Reply::Done { errno: refused.map_or(0, Errno::raw_os_error) }
            }
            (Request::DatagramOpen { is_impatient }, Some(socket)) => {
                match self.datagrams.open(socket.as_fd(), is_impatient, &program).await {
                    Ok(Opened::All) => Reply::Done { errno: 0 },
                    Ok(Opened::One) => Reply::Direct,
                    Err(error) => failed(&error),
                }
            }
            (request, socket) => match self.answer(request, socket, &program) {
                Some(reply) => reply,
                None => return,
            },
        };
        // A program that is gone needs no answer.
        let _ = ticket.send(&reply.encode(&self.session.proof)).await;
    }

    /// The request and its socket; `None` when it is no question of a shim's.
    async fn question(&self, ticket: &UnixSeqpacket) -> Option<(Request, Option<OwnedFd>)> {
        let request = request::read(self, ticket).await?;
        if request.queue() != Queue::AtOnce {
            self.report.refused_ticket("it is for the other queue");
            return None;
        }
        let socket = request::take(self, ticket, request.carries_socket()).await?;
        Some((request, socket))
    }

    /// What needs no waiting.
    fn answer(&self, request: Request, socket: Option<OwnedFd>, program: &Program<'_>) -> Option<Reply> {
        Some(match (request, socket) {
            (Request::Resolve { name, family }, _) => match self.policy.names().resolve(&name, family) {
                Ok(addresses) => Reply::Addresses(addresses),
                Err(errno) => Reply::Done { errno },
            },
            (Request::Reverse { address }, _) => {
                self.policy.names().reverse(address).map_or(Reply::Done { errno: libc::ENOENT }, Reply::Name)
            }
            (Request::Peer { cookie, actual }, _) => {
                self.peer_names.of(cookie, actual).map_or(Reply::Done { errno: libc::ENOENT }, Reply::Address)
            }
            (Request::DatagramConnect { destination }, Some(socket)) => {
                match self.datagrams.connect(socket.as_fd(), destination, program) {
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
                match self.devices.set(socket.as_fd(), option, value.as_bytes()) {
                    Ok(()) => Reply::Done { errno: 0 },
                    Err(error) => failed(&error),
                }
            }
            (Request::Bind { address }, Some(socket)) => {
                self.bindings.instead_of(socket.as_fd(), address).map_or(Reply::Direct, Reply::Address)
            }
            (Request::Await { cookie, .. }, _) => {
                // One that is not known may be among those that are not taken in yet.
                let may_be_under_way = self.connecting.has(cookie) || self.descriptors.holds_back();
                Reply::Done { errno: if may_be_under_way { libc::EINPROGRESS } else { libc::ENOENT } }
            }
            (Request::HandOn { cookie }, _) => {
                let is_known = self.connecting.hand_on(cookie) || self.descriptors.holds_back();
                Reply::Done { errno: if is_known { 0 } else { libc::ENOENT } }
            }
            (Request::Signal { cookie, number, is_on }, _) => {
                let is_known = self.connecting.set_signal(cookie, is_on.then_some(number));
                Reply::Done { errno: if is_known { 0 } else { libc::ENOENT } }
            }
            _ => return None,
        })
    }
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
