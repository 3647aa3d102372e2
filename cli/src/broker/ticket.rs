//! One ticket: a request in, a reply out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use presocks_abi::socket::Kind;
use presocks_proto::frame::{self, Malformed, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, connect_unspec, recv};
use tokio::io::Interest;
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::OwnedAncillaryMessage;

use super::Broker;
use super::bindings;
use super::connect;
use super::connecting::GivenUp;
use super::datagram::{self, Connected, Opened, Sent};
use super::device;
use super::failure::Failure;
use super::readiness::until_closed;
use super::report::Program;
use super::socket::{Socket, kind};
use super::strangers::Admission;

/// The shim sends at once; who does not is no shim, and must not hold a descriptor for ever.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Room for one descriptor in a control message, aligned for its header (cmsg(3)).
#[repr(align(16))]
struct Control([u8; 64]);

/// Serves a ticket. Whoever does not know the token, or sends no frame, gets no answer: the shim takes that for a failure.
pub(super) async fn serve(broker: Rc<Broker>, ticket: UnixSeqpacket, admission: Admission) {
    let Ok(Ok((packet, len, socket))) = timeout(REQUEST_LIMIT, receive(&ticket)).await else {
        return;
    };
    let packet = packet.get(..len).unwrap_or(&[]);
    // Its program was killed before it could ask, say.
    if packet.is_empty() && socket.is_none() {
        return;
    }
    let request = match Request::decode(packet, &broker.session.token) {
        Ok(request) if request.carries_socket() == socket.is_some() => request,
        Ok(_) => return broker.report.refused_ticket("its socket did not arrive"),
        Err(Malformed::WrongSecret) => {
            return broker.report.refused_ticket("it does not know this session's token");
        }
        Err(Malformed::NotAFrame | Malformed::BadField) => {
            return broker.report.refused_ticket("it is not in this version's format");
        }
    };
    // It has shown the token.
    drop(admission);
    let program = Program::Behind(&ticket);
    let reply = match (request, socket) {
        (request, Some(socket)) if !is_meant(&request, socket.as_fd()) => Reply::Done { errno: libc::EBADF },
        (Request::Connect { destination, cookie }, Some(socket)) => {
            let errno = match Socket::new(socket) {
                Ok(socket) if socket.cookie() != cookie => Some(libc::EBADF),
                Ok(socket) => {
                    connect::serve(&broker, socket, destination, &program, is_given_up(&ticket)).await
                }
                Err(error) => Some(Failure::Socket(error).errno()),
            };
            // Nobody is left to be told; or the program waits until its socket is its own.
            Reply::Done { errno: errno.unwrap_or(libc::ECONNABORTED) }
        }
        (Request::Resolve { name, family }, _) => match broker.names.borrow_mut().resolve(&name, family) {
            Ok(addresses) => Reply::Addresses(addresses),
            Err(errno) => Reply::Done { errno },
        },
        (Request::Reverse { address }, _) => broker
            .names
            .borrow_mut()
            .reverse(address)
            .map_or(Reply::Done { errno: libc::ENOENT }, Reply::Name),
        (Request::Peer { cookie, actual }, _) => {
            peer(&broker, cookie, actual).map_or(Reply::Done { errno: libc::ENOENT }, Reply::Address)
        }
        (Request::DatagramConnect { destination }, Some(socket)) => {
            match datagram::connect(&broker, socket.as_fd(), destination, &program) {
                Ok(Connected::Sink(sink)) => Reply::Address(sink),
                Ok(Connected::Gate { address, is_open }) => Reply::Gate { address, is_open },
                Ok(Connected::There | Connected::Token) => Reply::Done { errno: 0 },
                Err(error) => failed(&error),
            }
        }
        (Request::DatagramSend { destination, is_impatient }, Some(socket)) => {
            match datagram::send(&broker, socket.as_fd(), destination, is_impatient, &program).await {
                Ok(Sent::Direct) => Reply::Direct,
                Ok(Sent::Token(token)) => Reply::Address(token),
                Err(error) => failed(&error),
            }
        }
        (Request::DatagramOpen { is_impatient }, Some(socket)) => {
            match datagram::open(&broker, socket.as_fd(), is_impatient, &program).await {
                Ok(Opened::All) => Reply::Done { errno: 0 },
                Ok(Opened::One) => Reply::Direct,
                Err(error) => failed(&error),
            }
        }
        (Request::DatagramDissolve, Some(socket)) => {
            let errno = connect_unspec(&socket).err().map_or(0, Errno::raw_os_error);
            Reply::Done { errno }
        }
        (Request::Device { level, name, value }, Some(socket)) => {
            let option = (level.cast_signed(), name.into());
            match device::set(&broker, socket.as_fd(), option, value.as_bytes()) {
                Ok(()) => Reply::Done { errno: 0 },
                Err(error) => failed(&error),
            }
        }
        (Request::Bind { address }, Some(socket)) => {
            broker.bindings.instead_of(socket.as_fd(), address).map_or(Reply::Direct, Reply::Address)
        }
        (Request::Listen { backlog }, Some(socket)) => {
            tokio::select! {
                listens = bindings::listen(&broker, socket, backlog, &program) => match listens {
                    Ok(true) => Reply::Done { errno: 0 },
                    Ok(false) => Reply::Direct,
                    Err(errno) => Reply::Done { errno },
                },
                _ = is_given_up(&ticket) => return,
            }
        }
        (Request::OwnAddress, Some(socket)) => {
            tokio::select! {
                address = bindings::own_address(&broker, socket, &program) => {
                    address.map_or(Reply::Direct, Reply::Address)
                }
                _ = is_given_up(&ticket) => return,
            }
        }
        (Request::Await { cookie, is_impatient: true }, _) => {
            let is_under_way = broker.connecting.has(cookie);
            Reply::Done { errno: if is_under_way { libc::EINPROGRESS } else { libc::ENOENT } }
        }
        (Request::Await { cookie, is_impatient: false }, _) => {
            match broker.connecting.end(cookie, is_given_up(&ticket)).await {
                Some(errno) => Reply::Done { errno },
                None => return,
            }
        }
        (
            Request::Connect { .. }
            | Request::DatagramConnect { .. }
            | Request::DatagramSend { .. }
            | Request::DatagramOpen { .. }
            | Request::DatagramDissolve
            | Request::Device { .. }
            | Request::Bind { .. }
            | Request::Listen { .. }
            | Request::OwnAddress,
            None,
        ) => return,
    };
    // A program that is gone needs no answer.
    let _ = ticket.send(&reply.encode(&broker.session.proof)).await;
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
        Request::Resolve { .. } | Request::Reverse { .. } | Request::Peer { .. } | Request::Await { .. } => {
            true
        }
    }
}

/// Ready when no process holds the program's end of the ticket any more, or the shim has shut it, as it does before it dissolves the socket. It sends
/// nothing after its request.
async fn is_given_up(ticket: &UnixSeqpacket) -> GivenUp {
    let look = || Ok(recv(ticket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(drop)?);
    // A Unix socket that is closed is closed for good; whatever else comes is no shim's.
    let _ = until_closed(ticket.as_async_fd(), Interest::READABLE, look).await;
    let mut polled = [PollFd::new(ticket, PollFlags::empty())];
    let is_held = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|told| told == 0);
    if is_held { GivenUp::Dissolved } else { GivenUp::Left }
}

async fn receive(ticket: &UnixSeqpacket) -> io::Result<([u8; frame::LEN + 1], usize, Option<OwnedFd>)> {
    // One byte more than a frame, so that a longer packet is not taken for one.
    let mut packet = [0; frame::LEN + 1];
    let mut control = Control([0; 64]);
    let (info, attached) = ticket.recv_with_ancillary(&mut packet, &mut control.0).await?;
    let mut socket = None;
    for message in attached.into_messages() {
        if let OwnedAncillaryMessage::FileDescriptors(descriptors) = message {
            socket = descriptors.into_iter().next().or(socket);
        }
    }
    Ok((packet, info.bytes_read(), socket))
}

fn failed(error: &io::Error) -> Reply {
    Reply::Done { errno: error.raw_os_error().unwrap_or(libc::ENETUNREACH) }
}

/// Whom `actual` stands for to the socket with this cookie.
pub(super) fn peer(broker: &Broker, cookie: u64, actual: SocketAddr) -> Option<SocketAddr> {
    let asked = broker.peers.borrow().destination(cookie, actual);
    let has_come = || broker.bindings.peer(cookie, actual);
    asked.or_else(has_come).or_else(|| broker.datagrams.origin(cookie, actual))
}
