//! One connect: its socket, its ticket, and what has become of it.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use libc::c_int;
use presocks_proto::frame::Reply;

use super::owner::Owner;
use super::{REGISTRATIONS, table};
use crate::claim::{Claimable, Phase, Use};
use crate::epoll::{self, Registration};
use crate::errno::Errno;
use crate::sys;
use crate::ticket::{Outcome, Ticket};

/// The kernel has the outcome, as the answer was success, or a refusal that the kernel has seen as well: kept until the slot is free, for a process that is forked in between.
const SETTLED: Errno = -1;

/// The answer was a failure, and somebody was told who may not end the slot.
const TOLD: Errno = -2;

/// What a look at a slot has found.
pub(super) enum Seen {
    Ordinary,
    Waiting,
    Failed,
    /// The ticket is not here.
    NoTicket,
}

/// One connect that is under way, or has failed and not yet been asked why.
pub(crate) struct Slot {
    pub(super) claim: Claimable,
    pub(super) owner: Owner,
    /// Which sweep does not find the socket.
    pub(super) missing: MissingCell,
    cookie: AtomicU64,
    /// The number under which connect() was called; when that was closed, another one that means the socket.
    fd: AtomicI32,
    ticket: AtomicI32,
    ticket_cookie: AtomicU64,
    /// When the connect was begun (`coarse_milliseconds`).
    begun: AtomicU64,
    /// 0 while there is no answer.
    errno: AtomicI32,
    /// Was a copy of the socket sent to another process?
    is_handed_on: AtomicBool,
    /// Is a signal to tell of the end (fcntl(2), `O_ASYNC`)?
    is_async: AtomicBool,
    registrations: [Registration; REGISTRATIONS],
}

impl Slot {
    pub(super) const fn new() -> Self {
        Self {
            claim: Claimable::new(),
            owner: Owner::new(),
            missing: MissingCell(AtomicU32::new(0)),
            cookie: AtomicU64::new(0),
            fd: AtomicI32::new(0),
            ticket: AtomicI32::new(0),
            ticket_cookie: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            errno: AtomicI32::new(0),
            is_handed_on: AtomicBool::new(false),
            is_async: AtomicBool::new(false),
            registrations: [const { Registration::new() }; REGISTRATIONS],
        }
    }

    /// Fills a free slot that nobody else can take.
    pub(super) fn fill(&self, fd: c_int, cookie: u64, ticket: Ticket, ticket_cookie: u64) {
        self.owner.take();
        self.is_handed_on.store(false, Ordering::Relaxed);
        self.is_async.store(sys::is_async(fd), Ordering::Relaxed);
        self.cookie.store(cookie, Ordering::Relaxed);
        self.fd.store(fd, Ordering::Relaxed);
        self.begun.store(sys::coarse_milliseconds(), Ordering::Relaxed);
        self.errno.store(0, Ordering::Relaxed);
        self.ticket_cookie.store(ticket_cookie, Ordering::Relaxed);
        self.ticket.store(ticket.into_number(), Ordering::Relaxed);
    }

    /// The socket's `SO_COOKIE`.
    pub(super) fn cookie(&self) -> u64 {
        self.cookie.load(Ordering::Relaxed)
    }

    /// The number that means the socket, as far as is known.
    pub(super) fn fd(&self) -> c_int {
        self.fd.load(Ordering::Relaxed)
    }

    /// For how many milliseconds it has been under way, or settled.
    pub(super) fn age(&self) -> u64 {
        sys::coarse_milliseconds().saturating_sub(self.begun.load(Ordering::Relaxed))
    }

    /// Under a claim: from now on the socket is looked for under this number.
    pub(super) fn move_to(&self, fd: c_int) {
        table::count(fd);
        table::discount(self.fd.swap(fd, Ordering::Relaxed));
    }

    /// A copy of the socket is on its way to another process, or to this one: it may be nowhere for a while.
    pub(super) fn hand_on(&self) {
        self.is_handed_on.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_handed_on(&self) -> bool {
        self.is_handed_on.load(Ordering::Relaxed)
    }

    pub(super) fn set_async(&self, is_on: bool) {
        self.is_async.store(is_on, Ordering::Relaxed);
    }

    pub(super) fn is_async(&self) -> bool {
        self.is_async.load(Ordering::Relaxed)
    }

    fn errno(&self) -> Errno {
        self.errno.load(Ordering::Relaxed)
    }

    /// This slot's place in the table.
    pub(crate) fn number(&self) -> usize {
        table::number(self)
    }

    /// Which use of the slot this is.
    pub(crate) fn turn(&self) -> Use {
        self.claim.turn()
    }

    /// The masked registrations; to be touched under a claim.
    pub(crate) fn registrations(&self) -> &[Registration; REGISTRATIONS] {
        &self.registrations
    }

    /// The ticket's descriptor; `None` when it is not here: the program has closed it under us, or it is another thread's.
    pub(crate) fn ticket(&self) -> Option<c_int> {
        let fd = self.ticket.load(Ordering::Relaxed);
        (sys::cookie(fd) == Ok(self.ticket_cookie.load(Ordering::Relaxed))).then_some(fd)
    }

    /// Does something with the ticket, which stays the slot's; `None` when it is not here.
    pub(super) fn with_ticket<T>(&self, act: impl FnOnce(&Ticket) -> T) -> Option<T> {
        let ticket = ManuallyDrop::new(self.ticket().and_then(Ticket::from_number)?);
        Some(act(&ticket))
    }

    /// Does this number still mean our socket?
    pub(crate) fn is_socket(&self, fd: c_int) -> bool {
        sys::cookie(fd) == Ok(self.cookie())
    }

    /// Under a claim: takes the answer in if it has come; what the socket is, and the next phase. `by` is a number that means the socket, if one is known.
    pub(super) fn look(&self, phase: Phase, by: Option<c_int>) -> (Phase, Seen) {
        // A process that was forked while its parent was just here finds the answer, but no ticket.
        let errno = match self.errno() {
            0 => match self.answer(by) {
                Some(errno) => errno,
                None => return (phase, Seen::NoTicket),
            },
            known => known,
        };
        self.errno.store(errno, Ordering::Relaxed);
        match errno {
            0 => (Phase::Waiting, Seen::Waiting),
            SETTLED | TOLD if self.may_end() => {
                self.end();
                (Phase::Free, Seen::Ordinary)
            }
            SETTLED | TOLD => (phase, Seen::Ordinary),
            _ => (Phase::Failed, Seen::Failed),
        }
    }

    /// Under a claim: the error of a failure, for the first who asks, and the next phase.
    pub(super) fn take_error(&self, phase: Phase) -> (Phase, Option<Errno>) {
        let errno = self.errno();
        if phase != Phase::Failed || errno == TOLD {
            return (phase, None);
        }
        if self.may_end() {
            self.end();
            return (Phase::Free, Some(errno));
        }
        self.errno.store(TOLD, Ordering::Relaxed);
        (phase, Some(errno))
    }

    /// Under a claim: nothing will be heard of this connect any more, so it has failed.
    pub(super) fn fail(&self, by: Option<c_int>) -> Phase {
        self.reset_socket(by);
        self.errno.store(libc::ENETUNREACH, Ordering::Relaxed);
        Phase::Failed
    }

    /// Under a claim: this ticket will bring the answer, in the place of one that is no more. It comes back if that is still there.
    pub(super) fn renew(&self, ticket: Ticket) -> Result<(), Ticket> {
        let Ok(ticket_cookie) = sys::cookie(ticket.number()) else { return Err(ticket) };
        if self.ticket().is_some() {
            return Err(ticket);
        }
        self.ticket_cookie.store(ticket_cookie, Ordering::Relaxed);
        self.ticket.store(ticket.into_number(), Ordering::Relaxed);
        epoll::mask_again(self);
        Ok(())
    }

    /// May the calling thread end the slot? Where there is no telling whose its descriptors are, it may.
    pub(crate) fn may_end(&self) -> bool {
        self.owner.is_us() != Some(false)
    }

    /// What the ticket says: 0 for nothing yet, [`SETTLED`], or an errno; `None` when it is not here.
    fn answer(&self, by: Option<c_int>) -> Option<Errno> {
        let outcome = self.with_ticket(Ticket::peek)?;
        Some(match outcome {
            Outcome::NotYet => 0,
            Outcome::Reply(Reply::Done { errno: 0 }) => SETTLED,
            Outcome::Reply(Reply::Done { errno: libc::ECONNREFUSED }) if self.has_error(by) => SETTLED,
            // It had ended when this ticket was opened.
            Outcome::Reply(Reply::Done { errno: libc::ENOENT }) if self.is_connected(by) => SETTLED,
            Outcome::Reply(Reply::Done { errno: libc::ENOENT }) => libc::ENETUNREACH,
            Outcome::Reply(Reply::Done { errno }) => errno,
            // No answer that can be believed.
            Outcome::Reply(_) | Outcome::Broken => {
                self.reset_socket(by);
                libc::ENETUNREACH
            }
        })
    }

    fn is_connected(&self, by: Option<c_int>) -> bool {
        sys::is_connected(by.unwrap_or_else(|| self.fd()))
    }

    fn has_error(&self, by: Option<c_int>) -> bool {
        let fd = by.unwrap_or_else(|| self.fd());
        self.is_socket(fd) && sys::has_error(fd)
    }

    /// Nobody will finish the handshake, or tell us of it: the socket must not carry the program's bytes into it.
    pub(super) fn reset_socket(&self, by: Option<c_int>) {
        let fd = by.unwrap_or_else(|| self.fd());
        if self.is_socket(fd) {
            // Both may fail only on a socket that is closed already, which is what they are for.
            let _ = sys::dissolve(fd);
            let _ = sys::option(fd, libc::SOL_SOCKET, libc::SO_ERROR);
        }
    }

    /// Under a claim, before the slot is free: gives back what it holds; nobody finds it any more.
    pub(super) fn end(&self) {
        epoll::unmask(self);
        self.close();
    }

    /// As [`Slot::end`], for a socket that has no descriptor here any more.
    pub(super) fn end_lost(&self) {
        // The parent may have it, and share the epoll sets.
        if self.owner.is_copy() {
            epoll::forget(self);
        } else {
            epoll::unmask(self);
        }
        self.close();
    }

    fn close(&self) {
        if let Some(fd) = self.ticket() {
            sys::close(fd);
        }
        self.ticket_cookie.store(0, Ordering::Relaxed);
        table::leave(self, self.cookie());
        table::discount(self.fd());
    }
}

/// A sweep, and the use of the slot that it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) sweep: u16,
    pub(super) turn: Use,
}

/// In one word, so that neither can be told without the other.
pub(super) struct MissingCell(AtomicU32);

impl MissingCell {
    pub(super) fn get(&self) -> Missing {
        let word = self.0.load(Ordering::Relaxed);
        Missing { sweep: (word >> u16::BITS) as u16, turn: Use(word as u16) }
    }

    pub(super) fn set(&self, missing: Missing) {
        self.0.store(u32::from(missing.sweep) << u16::BITS | u32::from(missing.turn.0), Ordering::Relaxed);
    }
}
