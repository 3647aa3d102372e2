//! The connects of this process that are under way.
//!
//! A fixed table, found by the socket's `SO_COOKIE`, so that a duplicated or inherited descriptor is the same socket and a
//! reused number is not. A slot holds the ticket that will bring the answer and the registrations in epoll sets that the
//! ticket stands in for meanwhile (see `epoll`). Slots are claimed, not locked (see `claim`): for a few system calls,
//! never across a wait.

use core::sync::atomic::{AtomicI32, AtomicU16, AtomicU64, AtomicUsize, Ordering};

use libc::c_int;
use presocks_proto::frame::{Reply, Request};

use crate::claim::{Claimable, Phase, Use};
use crate::epoll::{self, Registration};
use crate::errno::Errno;
use crate::sys;
use crate::ticket::{Outcome, Ticket};

/// Most connects under way at once in a process; one more fails with `ENETUNREACH`.
pub(crate) const SLOTS: usize = 4096;
/// A cookie's place is among this many after the one that its hash names.
const WINDOW: usize = 32;
/// Most epoll sets that can hold one pending socket; one more gives `ENOSPC`.
pub(crate) const REGISTRATIONS: usize = 4;

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// A bit for each slot that is taken. The lowest free one is next, so that a process touches little of the table.
static TAKEN: [AtomicU64; SLOTS / 64] = [const { AtomicU64::new(0) }; SLOTS / 64];
/// Where a cookie's slot is: the cookie, and in the lowest bits the slot's number; 0 for nothing.
static PLACES: [AtomicU64; 2 * SLOTS] = [const { AtomicU64::new(0) }; 2 * SLOTS];
const NUMBER_BITS: u32 = SLOTS.ilog2();
/// Slots that are not free: the one load that every hook pays.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Abandoned slots are looked for once in so many insertions and fruitless looks.
const SWEEP_EVERY: usize = 64;
/// How many of them were begun under numbers with these lowest bits: reading and writing looks no further where there is none.
static NUMBERS: [AtomicU16; 1024] = [const { AtomicU16::new(0) }; 1024];
static SINCE_SWEEP: AtomicUsize = AtomicUsize::new(0);

/// The answer was success: kept until the slot is free, for a process that is forked in between.
const SUCCESS: Errno = -1;

/// One connect that is under way, or has failed and not yet been asked why.
pub(crate) struct Slot {
    claim: Claimable,
    cookie: AtomicU64,
    /// The number under which connect() was called.
    fd: AtomicI32,
    ticket: AtomicI32,
    ticket_cookie: AtomicU64,
    /// 0 while there is no answer.
    errno: AtomicI32,
    registrations: [Registration; REGISTRATIONS],
}

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

/// Is any connect under way? One relaxed load.
pub(crate) fn any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// May a connect on this very descriptor be under way? Two relaxed loads at most. A copy under another number is not seen.
pub(crate) fn may_be(fd: c_int) -> bool {
    any() && begun_under(fd).is_some_and(|count| count.load(Ordering::Relaxed) != 0)
}

fn begun_under(fd: c_int) -> Option<&'static AtomicU16> {
    NUMBERS.get(fd as usize % NUMBERS.len())
}

/// Looks a descriptor up and takes the answer in if it has come.
pub(crate) fn state(fd: c_int) -> State {
    if !any() {
        return State::Ordinary;
    }
    match sys::cookie(fd).ok().and_then(find) {
        None => State::Ordinary,
        Some(pending) => pending.refresh(),
    }
}

/// Enters a connect that starts now, with a ticket that is connected. The caller sends the request afterwards, or takes it
/// out again by [`Pending::abandon`].
///
/// # Errors
/// `ENETUNREACH` when there is no room, or the descriptor is not a socket; `EALREADY` when another thread was faster.
pub(crate) fn insert(fd: c_int, ticket: Ticket) -> Result<Pending, Errno> {
    let cookie = sys::cookie(fd).map_err(|_| libc::ENETUNREACH)?;
    let ticket_cookie = sys::cookie(ticket.number()).map_err(|_| libc::ENETUNREACH)?;
    sweep_now_and_then();
    let slot = match take_slot() {
        Some(slot) => slot,
        None => {
            sweep();
            take_slot().ok_or(libc::ENETUNREACH)?
        }
    };
    slot.cookie.store(cookie, Ordering::Relaxed);
    slot.fd.store(fd, Ordering::Relaxed);
    slot.errno.store(0, Ordering::Relaxed);
    slot.ticket_cookie.store(ticket_cookie, Ordering::Relaxed);
    slot.ticket.store(ticket.into_number(), Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Relaxed);
    if let Some(count) = begun_under(fd) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    let pending = Pending { slot, turn: slot.claim.begin() };
    if !places(cookie).any(|place| swap(place, 0, slot.place_entry())) {
        pending.abandon();
        return Err(libc::ENETUNREACH);
    }
    // Two threads may have come so far with one socket: the first place decides, and both see it.
    match find(cookie) {
        Some(first) if core::ptr::eq(first.slot, slot) => Ok(pending),
        _ => {
            pending.abandon();
            Err(libc::EALREADY)
        }
    }
}

/// The connect that an event names by slot and use.
pub(crate) fn numbered(number: usize, turn: Use) -> Option<Pending> {
    let slot = TABLE.get(number)?;
    (slot.claim.current() == Some(turn)).then_some(Pending { slot, turn })
}

/// A look among pending sockets found none of them: perhaps their owners are gone.
pub(crate) fn sweep_now_and_then() {
    if SINCE_SWEEP.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
        sweep();
    }
}

/// The places where a cookie can be. Cookies are counted up, so they are spread first.
fn places(cookie: u64) -> impl Iterator<Item = &'static AtomicU64> {
    let bits = u64::BITS - PLACES.len().ilog2();
    let first = (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> bits) as usize;
    (first..first + WINDOW).filter_map(|place| PLACES.get(place % PLACES.len()))
}

fn swap(place: &AtomicU64, from: u64, to: u64) -> bool {
    place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

fn find(cookie: u64) -> Option<Pending> {
    places(cookie).find_map(|place| {
        let entry = place.load(Ordering::Acquire);
        if entry == 0 || entry >> NUMBER_BITS != (cookie << NUMBER_BITS) >> NUMBER_BITS {
            return None;
        }
        let slot = TABLE.get(entry as usize % SLOTS)?;
        let turn = slot.claim.current()?;
        (slot.cookie.load(Ordering::Relaxed) == cookie).then_some(Pending { slot, turn })
    })
}

fn take_slot() -> Option<&'static Slot> {
    TAKEN.iter().enumerate().find_map(|(index, word)| {
        loop {
            let bits = word.load(Ordering::Relaxed);
            let bit = bits.trailing_ones();
            if bit == u64::BITS {
                return None;
            }
            if swap(word, bits, bits | 1 << bit) {
                return TABLE.get(index * 64 + bit as usize);
            }
        }
    })
}

/// Frees the slots whose connect was made under a number that no longer means the socket, and whose answer has come. (A copy under another
/// number then finds the error gone; the kernel's own would still be there.)
fn sweep() {
    for (index, word) in TAKEN.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != 0 {
            let slot = TABLE.get(index * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
            let Some((slot, turn)) = slot.and_then(|slot| Some((slot, slot.claim.current()?))) else {
                continue;
            };
            if slot.is_socket(slot.fd.load(Ordering::Relaxed)) {
                continue;
            }
            if let State::Failed(pending) = (Pending { slot, turn }).refresh() {
                pending.take_error();
            }
        }
    }
}

impl Pending {
    /// Sends the request that the ticket was opened for.
    ///
    /// # Errors
    /// `ENETUNREACH` when the broker cannot be told.
    pub(crate) fn send(self, request: &Request, socket: c_int) -> Result<(), Errno> {
        let ticket = self.slot.ticket().and_then(Ticket::from_number).ok_or(libc::ENETUNREACH)?;
        let result = ticket.send(request, Some(socket));
        let _ = ticket.into_number();
        result
    }

    /// The socket's `SO_COOKIE`.
    pub(crate) fn cookie(self) -> u64 {
        self.slot.cookie.load(Ordering::Relaxed)
    }

    /// Waits for the answer as connect() on a blocking socket does, and returns it: an errno, 0 for success. The slot does not know it yet.
    ///
    /// # Errors
    /// `EINTR` and `EAGAIN` as [`Ticket::wait`]; the connect goes on.
    pub(crate) fn wait(self) -> Result<Errno, Errno> {
        let Some(ticket) = self.slot.ticket().and_then(Ticket::from_number) else {
            return Ok(libc::ENETUNREACH);
        };
        let outcome = ticket.wait();
        let _ = ticket.into_number();
        Ok(match outcome? {
            Outcome::Reply(Reply::Done { errno }) => errno,
            Outcome::Reply(_) | Outcome::NotYet | Outcome::Broken => libc::ENETUNREACH,
        })
    }

    /// The ticket's descriptor; `None` when the program has closed it under us.
    pub(crate) fn ticket(self) -> Option<c_int> {
        self.slot.ticket()
    }

    /// Takes the answer in if it has come. Success gives the epoll sets the program's registrations back; a failure is kept, and
    /// the ticket shows it there, for whoever asks.
    pub(crate) fn refresh(self) -> State {
        match self.claimed(|phase| self.slot.settle(phase)) {
            Some(Phase::Waiting) => State::Waiting(self),
            Some(Phase::Failed) => State::Failed(self),
            Some(Phase::Free) | None => State::Ordinary,
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
        let mut errno = None;
        self.claimed(|phase| match phase {
            Phase::Failed => {
                errno = Some(self.slot.errno.load(Ordering::Relaxed));
                self.slot.end();
                Phase::Free
            }
            other => other,
        });
        errno
    }

    /// Takes a connect out that the program dissolves: when this returns, the broker touches the socket no more.
    pub(crate) fn dissolve(self) {
        if let Some(ticket) = self.slot.ticket().and_then(Ticket::from_number) {
            ticket.call_off();
            let _ = ticket.into_number();
        }
        self.abandon();
    }

    /// Takes a connect out that could not be started, or whose failure was forgotten.
    pub(crate) fn abandon(self) {
        self.claimed(|_| {
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
            self.slot.give_back();
        }
        phase
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            claim: Claimable::new(),
            cookie: AtomicU64::new(0),
            fd: AtomicI32::new(0),
            ticket: AtomicI32::new(0),
            ticket_cookie: AtomicU64::new(0),
            errno: AtomicI32::new(0),
            registrations: [const { Registration::new() }; REGISTRATIONS],
        }
    }

    /// This slot's place in the table.
    pub(crate) fn number(&self) -> usize {
        (core::ptr::from_ref(self).addr() - TABLE.as_ptr().addr()) / size_of::<Slot>()
    }

    /// Which use of the slot this is.
    pub(crate) fn turn(&self) -> Use {
        self.claim.turn()
    }

    /// The masked registrations; to be touched under a claim.
    pub(crate) fn registrations(&self) -> &[Registration; REGISTRATIONS] {
        &self.registrations
    }

    /// The ticket's descriptor; `None` when the program has closed it under us.
    pub(crate) fn ticket(&self) -> Option<c_int> {
        let fd = self.ticket.load(Ordering::Relaxed);
        (sys::cookie(fd) == Ok(self.ticket_cookie.load(Ordering::Relaxed))).then_some(fd)
    }

    /// Does this number still mean our socket?
    pub(crate) fn is_socket(&self, fd: c_int) -> bool {
        sys::cookie(fd) == Ok(self.cookie.load(Ordering::Relaxed))
    }

    /// Under a claim: takes the answer in if it has come; the next phase.
    fn settle(&self, phase: Phase) -> Phase {
        if phase != Phase::Waiting {
            return phase;
        }
        // A process that was forked while its parent was just here finds the answer, but no ticket.
        let known = self.errno.load(Ordering::Relaxed);
        let errno = if known != 0 { known } else { self.answer() };
        self.errno.store(errno, Ordering::Relaxed);
        match errno {
            0 => Phase::Waiting,
            SUCCESS => {
                self.end();
                Phase::Free
            }
            _ => Phase::Failed,
        }
    }

    /// What the ticket says: 0 for nothing yet, [`SUCCESS`], or an errno.
    fn answer(&self) -> Errno {
        let outcome = self.ticket().and_then(Ticket::from_number).map(|ticket| {
            let outcome = ticket.peek();
            let _ = ticket.into_number();
            outcome
        });
        match outcome {
            Some(Outcome::NotYet) => 0,
            Some(Outcome::Reply(Reply::Done { errno: 0 })) => SUCCESS,
            Some(Outcome::Reply(Reply::Done { errno })) => errno,
            // No answer that can be believed; or the program has closed the ticket, and will never hear one.
            Some(Outcome::Reply(_) | Outcome::Broken) | None => {
                self.reset_socket();
                libc::ENETUNREACH
            }
        }
    }

    /// Nobody will finish the handshake, or tell us of it: the socket must not carry the program's bytes into it.
    fn reset_socket(&self) {
        let fd = self.fd.load(Ordering::Relaxed);
        if self.is_socket(fd) {
            // Both may fail only on a socket that is closed already, which is what they are for.
            let _ = sys::dissolve(fd);
            let _ = sys::option(fd, libc::SOL_SOCKET, libc::SO_ERROR);
        }
    }

    /// Under a claim, before the slot is free: gives back what it holds; nobody finds it any more.
    fn end(&self) {
        epoll::unmask(self);
        if let Some(fd) = self.ticket() {
            sys::close(fd);
        }
        self.ticket_cookie.store(0, Ordering::Relaxed);
        let entry = self.place_entry();
        places(self.cookie.load(Ordering::Relaxed)).any(|place| swap(place, entry, 0));
        if let Some(count) = begun_under(self.fd.load(Ordering::Relaxed)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }

    /// When the slot is free: the next connect may have it.
    fn give_back(&self) {
        if let Some(word) = TAKEN.get(self.number() / 64) {
            word.fetch_and(!(1 << (self.number() % 64)), Ordering::Release);
        }
    }

    fn place_entry(&self) -> u64 {
        self.cookie.load(Ordering::Relaxed) << NUMBER_BITS | self.number() as u64
    }
}
