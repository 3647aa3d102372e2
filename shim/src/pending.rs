//! The connects of this process that are under way.
//!
//! A fixed table, found by the socket's `SO_COOKIE`, so that a duplicated or inherited descriptor is the same socket and a
//! reused number is not. A slot holds the ticket that will bring the answer and the registrations in epoll sets that the
//! ticket stands in for meanwhile (see `epoll`). Slots are claimed, not locked (see `claim`): for a few system calls,
//! never across a wait.

mod adopted;
mod elsewhere;
mod owner;
mod slot;
mod sweep;
mod table;

use libc::c_int;
use presocks_proto::frame::{Reply, Request};

use crate::claim::{Phase, Use};
use crate::errno::Errno;
use crate::sys;
use crate::ticket::{Outcome, Ticket};
pub(crate) use adopted::{adopt_inherited, adopt_received};
pub(crate) use elsewhere::is_under_way_elsewhere;
use slot::Seen;
pub(crate) use slot::Slot;
pub(crate) use sweep::{before_a_wait, sweep};
pub(crate) use table::{any, may_be, note_copy};

/// Most connects under way at once in a process; one more fails with `ENETUNREACH`.
pub(crate) const SLOTS: usize = 4096;
/// Most epoll sets that can hold one pending socket; one more gives `ENOSPC`.
pub(crate) const REGISTRATIONS: usize = 4;

/// A slot in one use of it: what is done through it does not touch the next connect that gets the slot.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    slot: &'static Slot,
    turn: Use,
}

/// What a socket is at this moment.
pub(crate) enum State {
    /// Not one of ours, or connected: the kernel's answer is the true one.
    Ordinary,
    /// Still connecting.
    Waiting(Pending),
    /// Failed, and the error not yet fetched.
    Failed(Pending),
}

/// Looks a descriptor up and takes the answer in if it has come.
pub(crate) fn state(fd: c_int) -> State {
    if !any() {
        return State::Ordinary;
    }
    match sys::cookie(fd).ok().and_then(table::find) {
        None => State::Ordinary,
        Some(pending) => pending.look(Some(fd)),
    }
}

/// Enters a connect that starts now, with a ticket that is connected. The caller sends the request afterwards, or takes it
/// out again by [`Pending::abandon`].
///
/// # Errors
/// `ENETUNREACH` when there is no room, or the descriptor is not a socket; `EPERM` or `EACCES` when a sandbox forbids to ask; `EALREADY` when another thread was faster.
pub(crate) fn insert(fd: c_int, ticket: Ticket) -> Result<Pending, Errno> {
    let cookie = sys::cookie(fd).map_err(|error| match error {
        libc::EPERM | libc::EACCES => error,
        _ => libc::ENETUNREACH,
    })?;
    let ticket_cookie = sys::cookie(ticket.number()).map_err(|_| libc::ENETUNREACH)?;
    sweep::sweep_now_and_then();
    let slot = match table::take() {
        Some(slot) => slot,
        None => {
            sweep::sweep();
            table::take().ok_or(libc::ENETUNREACH)?
        }
    };
    slot.fill(fd, cookie, ticket, ticket_cookie);
    table::count(fd);
    let pending = Pending { slot, turn: slot.claim.begin() };
    if !table::enter(slot, cookie) {
        pending.abandon();
        return Err(libc::ENETUNREACH);
    }
    // Two threads may have come so far with one socket: the first place decides, and both see it.
    match table::find(cookie) {
        Some(first) if core::ptr::eq(first.slot, slot) => Ok(pending),
        _ => {
            pending.abandon();
            Err(libc::EALREADY)
        }
    }
}

/// The connect that is under way, or has failed, on this very descriptor: for a close() that comes next.
pub(crate) fn begun_as(fd: c_int) -> Option<Pending> {
    if !table::may_be_begun_as(fd) {
        return None;
    }
    sys::cookie(fd).ok().and_then(table::find).filter(|pending| pending.slot.fd() == fd)
}

/// A copy of this descriptor is about to be sent to another process, or to this one: for a while nobody may have it.
pub(crate) fn hand_on(fd: c_int) {
    note_copy(fd);
    if let State::Waiting(pending) = state(fd)
        && !pending.slot.is_handed_on()
    {
        pending.slot.hand_on();
        adopted::send_on(pending, fd);
    }
}

/// The connect that an event names by slot and use.
pub(crate) fn numbered(number: usize, turn: Use) -> Option<Pending> {
    let slot = table::slot(number)?;
    (slot.claim.current() == Some(turn)).then_some(Pending { slot, turn })
}

impl Pending {
    /// Sends the request that the ticket was opened for.
    ///
    /// # Errors
    /// `ENETUNREACH` when the broker cannot be told.
    pub(crate) fn send(self, request: &Request, socket: c_int) -> Result<(), Errno> {
        self.slot.with_ticket(|ticket| ticket.send(request, Some(socket))).unwrap_or(Err(libc::ENETUNREACH))
    }

    /// The socket's `SO_COOKIE`.
    pub(crate) fn cookie(self) -> u64 {
        self.slot.cookie()
    }

    /// From now on a wait for the answer takes so long at most; 0 is for ever.
    pub(crate) fn limit(self, time: &libc::timeval) {
        // The ticket is an ordinary socket: this fails on none.
        let _ = self.slot.with_ticket(|ticket| sys::set_receive_timeout(ticket.number(), time));
    }

    /// Is a signal to tell of the end (fcntl(2), `O_ASYNC`)?
    pub(crate) fn is_async(self) -> bool {
        self.slot.is_async()
    }

    /// Whether a signal is to tell of the end.
    pub(crate) fn set_async(self, is_on: bool) {
        self.slot.set_async(is_on);
    }

    /// Waits for the answer as connect() on the blocking socket `fd` does, and returns it: an errno, 0 for success. The slot does not know it yet.
    ///
    /// # Errors
    /// `EINTR` and `EAGAIN` as [`Ticket::wait`]; the connect goes on.
    pub(crate) fn wait(self, fd: c_int) -> Result<Errno, Errno> {
        let outcome = self.slot.with_ticket(Ticket::wait);
        let outcome =
            outcome.unwrap_or_else(|| self.await_end().map_or(Ok(Outcome::Broken), |ticket| ticket.wait()));
        Ok(match outcome? {
            Outcome::Reply(Reply::Done { errno: libc::ENOENT }) if sys::is_connected(fd) => 0,
            Outcome::Reply(Reply::Done { errno }) if errno != libc::ENOENT => errno,
            Outcome::Reply(_) | Outcome::NotYet | Outcome::Broken => libc::ENETUNREACH,
        })
    }

    /// Its descriptor was closed.
    pub(crate) fn closed(self) {
        // To others it means nothing: the process that we share our memory with, say.
        if self.slot.owner.is_us() == Some(true) {
            sweep::closed();
        }
    }

    /// May the calling thread end it? Not one with a table of descriptors of its own.
    pub(crate) fn may_end(self) -> bool {
        self.slot.may_end()
    }

    /// The ticket's descriptor; `None` when it is not here: another thread has it, in a table of its own.
    pub(crate) fn ticket(self) -> Option<c_int> {
        self.slot.ticket()
    }

    /// Takes the answer in if it has come. Success gives the epoll sets the program's registrations back; a failure is kept, and
    /// the ticket shows it there, for whoever asks.
    pub(crate) fn refresh(self) -> State {
        self.look(None)
    }

    /// As [`Pending::refresh`]; `by` is a number that means the socket, if one is known.
    fn look(self, by: Option<c_int>) -> State {
        let mut seen = None;
        let phase = self.claimed(|phase| {
            let (next, what) = self.slot.look(phase, by);
            seen = Some(what);
            next
        });
        match (seen, phase) {
            (Some(Seen::Waiting), _) | (None, Some(Phase::Waiting)) => State::Waiting(self),
            (Some(Seen::Failed), _) | (None, Some(Phase::Failed)) => State::Failed(self),
            (Some(Seen::NoTicket), _) => self.look_without_ticket(by),
            (Some(Seen::Ordinary), _) | (None, _) => State::Ordinary,
        }
    }

    /// Runs `edit` while nobody else can settle the connect. `None` when it has succeeded, or its error was taken.
    pub(crate) fn while_unsettled<T>(self, edit: impl FnOnce(&Slot) -> T) -> Option<T> {
        let mut result = None;
        self.claimed(|phase| {
            result = Some(edit(self.slot));
            phase
        });
        result
    }

    /// Ends the slot after a failure: the error, which only the first to ask gets. `None` for the others.
    pub(crate) fn take_error(self) -> Option<Errno> {
        let mut taken = None;
        self.claimed(|phase| {
            let (next, errno) = self.slot.take_error(phase);
            taken = errno;
            next
        });
        taken
    }

    /// Takes a connect out that the program dissolves: when this returns, the broker touches the socket no more.
    pub(crate) fn dissolve(self) {
        let is_here = self.slot.with_ticket(Ticket::call_off).is_some();
        // Else it is in another table of descriptors.
        if !is_here && let Some(ticket) = self.await_end() {
            ticket.call_off();
        }
        self.abandon();
    }

    /// Takes a connect out that could not be started, or whose failure was forgotten.
    pub(crate) fn abandon(self) {
        self.claimed(|phase| {
            if !self.slot.may_end() {
                return phase;
            }
            self.slot.end();
            Phase::Free
        });
    }
}

impl Pending {
    /// See [`Claimable::claimed`].
    fn claimed(self, edit: impl FnOnce(Phase) -> Phase) -> Option<Phase> {
        let phase = self.slot.claim.claimed(self.turn, edit);
        if phase == Some(Phase::Free) {
            table::give_back(self.slot);
        }
        phase
    }
}
