//! Connects whose ticket is not at its number: the program has closed what it did not know, or another thread has it, or the process from which we have
//! the socket. The broker knows how such a connect ends, by the socket's cookie.

use libc::c_int;
use presocks_proto::frame::Request;
use presocks_proto::session::Queue;

use super::{Pending, State};
use crate::claim::Phase;
use crate::errno::Errno;
use crate::sys;
use crate::ticket::{NoTicket, Ticket};

impl Pending {
    /// A ticket that brings the end of this connect; `None` when there is no descriptor, or no broker.
    pub(super) fn await_end(self) -> Option<Ticket> {
        await_end(self.slot.cookie()).ok()
    }

    /// What the socket is, when its ticket is not here.
    pub(super) fn look_without_ticket(self, by: Option<c_int>) -> State {
        if self.slot.owner.is_us() == Some(true) {
            return self.renew(by);
        }
        // The table in which it was begun is not ours, so the slot is not, either.
        let asked = Ticket::open(Queue::AtOnce).map_err(NoTicket::report);
        match asked.and_then(|ticket| is_under_way(ticket, self.slot.cookie())) {
            Ok(true) => State::Waiting(self),
            Ok(false) => {
                // Where there is no telling whose it is, it is nobody's any more.
                self.claimed(|phase| {
                    if !self.slot.may_end() {
                        return phase;
                    }
                    self.slot.end();
                    Phase::Free
                });
                State::Ordinary
            }
            Err(_) => {
                self.slot.reset_socket(by);
                State::Ordinary
            }
        }
    }

    /// The program has closed the ticket: a new one, while anybody keeps the attempt going, or tells that it is over.
    fn renew(self, by: Option<c_int>) -> State {
        let Some(ticket) = self.await_end() else {
            self.claimed(|phase| if phase == Phase::Waiting { self.slot.fail(by) } else { phase });
            return State::Failed(self);
        };
        // Another thread may have been faster; then this one is closed.
        let _ = self.while_unsettled(|slot| slot.renew(ticket).err());
        State::Waiting(self)
    }
}

/// A ticket that brings the end of the connect on the socket with this cookie.
///
/// # Errors
/// `ENETUNREACH` when there is no descriptor, or no broker.
pub(super) fn await_end(cookie: u64) -> Result<Ticket, Errno> {
    let mut ticket = Ticket::new().map_err(|why| why.report())?;
    ticket.move_up();
    ticket.connect(Queue::InTurn).map_err(|why| why.report())?;
    ticket.send(&Request::Await { cookie, is_impatient: false }, None)?;
    Ok(ticket)
}

/// Is another process connecting this stream socket, of which this one knows nothing? Only of a socket that has begun to connect is the broker asked.
pub(crate) fn is_under_way_elsewhere(fd: c_int) -> bool {
    let asked = || is_under_way(Ticket::open(Queue::AtOnce).ok()?, sys::cookie(fd).ok()?).ok();
    sys::has_begun_to_connect(fd) && asked() == Some(true)
}

/// Is a connect under way on the socket with this cookie, whoever has begun it?
///
/// # Errors
/// `ENETUNREACH` when the broker does not answer.
pub(super) fn is_under_way(ticket: Ticket, cookie: u64) -> Result<bool, Errno> {
    match ticket.ask(&Request::Await { cookie, is_impatient: true }, None) {
        Err(libc::EINPROGRESS) => Ok(true),
        Err(libc::ENOENT) => Ok(false),
        Ok(_) | Err(_) => Err(libc::ENETUNREACH),
    }
}
