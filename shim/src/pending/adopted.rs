//! Connects that another process has begun: on a socket that was inherited across execve(2), or that has come in a message (unix(7), `SCM_RIGHTS`).
//!
//! What is pending is in the memory of the process that has begun it. So the broker is asked, by the socket's cookie, before the program can look at the
//! socket; and a ticket of this process' own brings the end, and keeps the attempt going.

use libc::c_int;
use presocks_proto::frame::Request;
use presocks_proto::session::Queue;

use super::elsewhere::{await_end, is_under_way};
use super::{Pending, State, insert, table};
use crate::socket::{self, Kind};
use crate::ticket::Ticket;
use crate::{descriptors, session, sys};

/// Where there is no /proc, numbers below this one are tried.
const FEW: c_int = 1024;

/// Takes in what this program was started with.
pub(crate) fn adopt_inherited() {
    if session::is_there() && descriptors::for_each(adopt).is_none() {
        (0..FEW).for_each(adopt);
    }
}

/// What marks a socket that was sent while its connect was under way. To sockets it means nothing, and a sandbox that forbids getsockopt(2) (Chromium's
/// ends the program) lets its programs read it.
const MARK: c_int = libc::O_APPEND;

/// Takes in a descriptor that has come in a message, if a program with the shim has sent it while its connect was under way.
pub(crate) fn adopt_received(fd: c_int) {
    table::note_copy(fd);
    if let Ok(flags) = sys::status_flags(fd)
        && flags & MARK != 0
    {
        adopt(fd);
    }
}

/// Takes in a descriptor that has come from another process, if it is a socket whose connect is under way.
fn adopt(fd: c_int) {
    let is_stream = socket::kind(fd) == Ok(Kind::Stream);
    if !is_stream {
        return;
    }
    // It may have two numbers here.
    table::note_copy(fd);
    if sys::option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1) {
        return;
    }
    let Ok(cookie) = sys::cookie(fd) else { return };
    // A broker that is gone has left what stands; who has begun an attempt ends it then.
    let Ok(ticket) = Ticket::open(Queue::AtOnce) else { return };
    if table::find(cookie).is_none() && is_under_way(ticket, cookie) == Ok(true) {
        let is_pending = await_end(cookie).and_then(|ticket| insert(fd, ticket).map(drop));
        // `EALREADY`: another thread was faster, with another copy.
        if is_pending.is_err_and(|error| error != libc::EALREADY) {
            // Here nothing could keep the program out of the handshake.
            let _ = sys::dissolve(fd);
        }
    }
}

/// Tells the broker that a copy of this socket is sent to another process, before it is: its connect goes on even if nobody has it for a while.
pub(super) fn send_on(pending: Pending, fd: c_int) {
    if let Ok(flags) = sys::status_flags(fd) {
        // Where it is refused the socket is received without us, as by a program without the shim.
        let _ = sys::set_status_flags(fd, flags | MARK);
    }
    // The request to connect is on its way, or the answer.
    while let State::Waiting(_) = pending.refresh() {
        let Ok(ticket) = Ticket::open(Queue::AtOnce) else { return };
        if ticket.ask(&Request::HandOn { cookie: pending.cookie() }, None) != Err(libc::ENOENT) {
            return;
        }
        sys::pause();
    }
}
