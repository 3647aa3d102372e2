//! A request on its way in. It is only looked at until there is room for its socket: a message that is received without is lost with what it carries
//! (recvmsg(2), `MSG_CTRUNC`).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use presocks_proto::frame::{self, Malformed, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recv, recvmsg};
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout};
use tokio_seqpacket::UnixSeqpacket;

use super::Tickets;
use crate::broker::connecting::GivenUp;
use crate::descriptors::PAUSE;
use crate::readiness::until_closed;

/// The shim sends at once; who does not is no shim, and must not hold a descriptor for ever.
const LIMIT: Duration = Duration::from_secs(30);

/// The request, which is still there afterwards. Whoever does not know the token, or sends no frame, gets no answer: the shim takes that for a failure.
pub(super) async fn read(tickets: &Tickets, ticket: &UnixSeqpacket) -> Option<Request> {
    // One byte more than a frame, so that a longer packet is not taken for one.
    let mut packet = [0; frame::LEN + 1];
    // As a rule it is there.
    let len = match recv(ticket, &mut packet, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, len)) => len,
        Err(_) => timeout(LIMIT, ticket.peek(&mut packet)).await.ok()?.ok()?.bytes_read(),
    };
    let packet = packet.get(..len).unwrap_or(&[]);
    match Request::decode(packet, &tickets.session.token) {
        Ok(request) => return Some(request),
        // Its program was killed before it could ask, say.
        Err(_) if packet.is_empty() => {}
        Err(Malformed::WrongSecret) => {
            tickets.report.refused_ticket("it does not know this session's token");
        }
        Err(Malformed::NotAFrame | Malformed::BadField) => {
            tickets.report.refused_ticket("it is not in this version's format");
        }
    }
    None
}

/// Receives the request that was read, and the socket that it is to carry. `None` when that is not so, or no room comes for it.
pub(super) async fn take(
    tickets: &Tickets,
    ticket: &UnixSeqpacket,
    carries_socket: bool,
) -> Option<Option<OwnedFd>> {
    let begun = Instant::now();
    loop {
        match attached(ticket) {
            Ok(Attached::NoRoom) if begun.elapsed() < LIMIT => sleep(PAUSE).await,
            Ok(Attached::Socket(socket)) if carries_socket => {
                discard(ticket);
                return Some(Some(socket));
            }
            Ok(Attached::Nothing) if !carries_socket => {
                discard(ticket);
                return Some(None);
            }
            Ok(_) => {
                tickets.report.refused_ticket("its socket did not arrive");
                return None;
            }
            Err(_) => return None,
        }
    }
}

/// Receives the request that was read, and lets its socket go. A ticket that is closed with it unreceived would tell that, and not what was answered.
pub(super) fn discard(ticket: &UnixSeqpacket) {
    let _ = recv(ticket, &mut [0; 1], RecvFlags::DONTWAIT);
}

enum Attached {
    Socket(OwnedFd),
    Nothing,
    NoRoom,
}

/// What is attached to the message that is there.
fn attached(ticket: &UnixSeqpacket) -> io::Result<Attached> {
    let mut byte = [0; 1];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(ticket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(socket) = descriptors.next()
        {
            return Ok(Attached::Socket(socket));
        }
    }
    Ok(if received.flags.contains(ReturnFlags::CTRUNC) { Attached::NoRoom } else { Attached::Nothing })
}

/// While the request waits to be received: ready when it is given up, as below.
pub(super) async fn is_given_up_early(ticket: &UnixSeqpacket) -> GivenUp {
    loop {
        match ticket.as_async_fd().readable().await {
            Ok(ready) if ready.ready().is_read_closed() => return why(ticket, frame::LEN),
            Ok(mut ready) => ready.clear_ready(),
            // The runtime has ended.
            Err(_) => return GivenUp::Left,
        }
    }
}

/// When the request is received: ready when no process holds the program's end of the ticket any more, or the shim has shut it, as it does before it
/// dissolves the socket. Then alone it may send something after its request. `early`: why it is given up already.
pub(super) async fn is_given_up(ticket: &UnixSeqpacket, early: Option<GivenUp>) -> GivenUp {
    if let Some(early) = early {
        return early;
    }
    let look = || Ok(recv(ticket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(drop)?);
    // A Unix socket that is closed is closed for good; whatever else comes is no shim's.
    let _ = until_closed(ticket.as_async_fd(), Interest::READABLE, look).await;
    why(ticket, 0)
}

/// Is a request that was just received given up already?
pub(super) fn was_given_up(ticket: &UnixSeqpacket) -> Option<GivenUp> {
    is_told(ticket, PollFlags::RDHUP).then(|| why(ticket, 0))
}

/// Why a ticket that is shut is so. `request`: what there is of its request yet. The shim that dissolves a socket waits for the answer, or has said so.
fn why(ticket: &UnixSeqpacket, request: usize) -> GivenUp {
    let says_so = ioctl_fionread(ticket).is_ok_and(|bytes| bytes > request as u64);
    if !says_so && is_told(ticket, PollFlags::empty()) { GivenUp::Left } else { GivenUp::Dissolved }
}

/// Do these events, or the end of the other side, hold at this moment?
fn is_told(ticket: &UnixSeqpacket, events: PollFlags) -> bool {
    let mut polled = [PollFd::new(ticket, events)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}
