//! The connects of this process that are under way.
//!
//! A fixed table, found by the socket's `SO_COOKIE`, so that a duplicated or inherited descriptor is the same socket and a
//! reused number is not. A slot holds the ticket that will bring the answer and the registrations in epoll sets that the
//! ticket stands in for meanwhile (see `epoll`). Slots are claimed, not locked: a claim is held for a few system calls
//! and never across a wait; one left behind by a fork is taken over.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use libc::c_int;
use presocks_proto::frame::{Reply, Request};

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

const FREE: u32 = 0;
const WAITING: u32 = 1;
/// Somebody is at work on it.
const CLAIMED: u32 = 2;
const FAILED: u32 = 3;

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
static SINCE_SWEEP: AtomicUsize = AtomicUsize::new(0);

/// One connect that is under way, or has failed and not yet been asked why.
pub(crate) struct Slot {
    state: AtomicU32,
    /// Who claimed it: process in the upper half, thread in the lower.
    owner: AtomicU64,
    cookie: AtomicU64,
    /// The number under which connect() was called.
    fd: AtomicI32,
    ticket: AtomicI32,
    ticket_cookie: AtomicU64,
    errno: AtomicI32,
    /// Counts the slot's uses, so that an event for an earlier one is recognised.
    generation: AtomicU32,
    registrations: [Registration; REGISTRATIONS],
}

/// What a socket is at this moment.
pub(crate) enum State {
    /// Not one of ours, or connected: the kernel's answer is the true one.
    Ordinary,
    /// Still connecting.
    Waiting(&'static Slot),
    /// Failed, and the error not yet fetched.
    Failed(&'static Slot),
}

/// Is any connect under way? One relaxed load.
pub(crate) fn any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// Looks a descriptor up and takes the answer in if it has come.
pub(crate) fn state(fd: c_int) -> State {
    if !any() {
        return State::Ordinary;
    }
    match sys::cookie(fd).ok().and_then(find) {
        None => State::Ordinary,
        Some(slot) => slot.refresh(),
    }
}

/// Enters a connect that starts now. The caller sends the request afterwards, or takes it out again by
/// [`Slot::abandon`].
///
/// # Errors
/// `ENETUNREACH` when there is no room, or the descriptor is not a socket.
pub(crate) fn insert(fd: c_int, ticket: Ticket) -> Result<&'static Slot, Errno> {
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
    slot.generation.fetch_add(1, Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Relaxed);
    slot.state.store(WAITING, Ordering::Release);
    if places(cookie).any(|place| swap(place, 0, slot.place_entry())) {
        return Ok(slot);
    }
    slot.abandon();
    Err(libc::ENETUNREACH)
}

/// The slot with this number, for an event that names one.
pub(crate) fn slot(number: usize, generation: u32) -> Option<&'static Slot> {
    TABLE.get(number).filter(|slot| slot.is_used() && slot.generation() == generation)
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

fn find(cookie: u64) -> Option<&'static Slot> {
    let entries = places(cookie).map(|place| place.load(Ordering::Acquire));
    let mut its =
        entries.filter(|entry| *entry != 0 && entry >> NUMBER_BITS == (cookie << NUMBER_BITS) >> NUMBER_BITS);
    its.find_map(|entry| {
        let slot = TABLE.get(entry as usize % SLOTS)?;
        (slot.is_used() && slot.cookie.load(Ordering::Relaxed) == cookie).then_some(slot)
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

/// Frees the slots whose socket was closed and whose answer has come.
fn sweep() {
    for (index, word) in TAKEN.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != 0 {
            let slot = TABLE.get(index * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
            let abandoned = slot.filter(|slot| slot.is_used() && !slot.is_open());
            if let Some(State::Failed(slot)) = abandoned.map(Slot::refresh) {
                slot.take_error();
            }
        }
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(FREE),
            owner: AtomicU64::new(0),
            cookie: AtomicU64::new(0),
            fd: AtomicI32::new(0),
            ticket: AtomicI32::new(0),
            ticket_cookie: AtomicU64::new(0),
            errno: AtomicI32::new(0),
            generation: AtomicU32::new(0),
            registrations: [const { Registration::new() }; REGISTRATIONS],
        }
    }

    /// This slot's place in the table.
    pub(crate) fn number(&self) -> usize {
        (core::ptr::from_ref(self).addr() - TABLE.as_ptr().addr()) / size_of::<Slot>()
    }

    fn place_entry(&self) -> u64 {
        self.cookie.load(Ordering::Relaxed) << NUMBER_BITS | self.number() as u64
    }

    /// Nobody finds the slot any more, and it can be taken again.
    fn free(&self) {
        let entry = self.place_entry();
        places(self.cookie.load(Ordering::Relaxed)).any(|place| swap(place, entry, 0));
        COUNT.fetch_sub(1, Ordering::Relaxed);
        self.state.store(FREE, Ordering::Release);
        if let Some(word) = TAKEN.get(self.number() / 64) {
            word.fetch_and(!(1 << (self.number() % 64)), Ordering::Release);
        }
    }

    /// How often the slot has been used, modulo 2^16.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed) % (1 << epoll::GENERATION_BITS)
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

    /// Sends the request that the ticket was opened for.
    ///
    /// # Errors
    /// `ENETUNREACH` when the broker cannot be told.
    pub(crate) fn send(&self, request: &Request, socket: c_int) -> Result<(), Errno> {
        let ticket = self.ticket().and_then(Ticket::from_number).ok_or(libc::ENETUNREACH)?;
        let result = ticket.send(request, Some(socket));
        let _ = ticket.into_number();
        result
    }

    /// Waits for the answer as connect() on a blocking socket does.
    ///
    /// # Errors
    /// `EINTR` and `EAGAIN` as [`Ticket::wait`]; the connect goes on.
    pub(crate) fn wait(&'static self) -> Result<(), Errno> {
        let Some(ticket) = self.ticket().and_then(Ticket::from_number) else {
            return Ok(());
        };
        let result = ticket.wait().map(drop);
        let _ = ticket.into_number();
        result
    }

    /// Takes the answer in if it has come. Success gives the epoll sets the program's registrations back; a failure is kept, and
    /// the ticket shows it there, for whoever asks.
    pub(crate) fn refresh(&'static self) -> State {
        match self.claimed(Self::settle) {
            Claim::Held(WAITING) | Claim::Reentered => State::Waiting(self),
            Claim::Held(FAILED) => State::Failed(self),
            Claim::Held(_) | Claim::Free => State::Ordinary,
        }
    }

    /// Runs `edit` while nobody else can settle the connect. `None` when it has succeeded, or its error was taken.
    pub(crate) fn while_unsettled<T>(&self, edit: impl FnOnce(&Self) -> T) -> Option<T> {
        match self.claimed(|slot, state| (state, edit(slot))) {
            Claim::Held(result) => Some(result),
            Claim::Reentered | Claim::Free => None,
        }
    }

    /// Ends the slot after a failure: the error, which only the first to ask gets; 0 for the others.
    pub(crate) fn take_error(&self) -> Errno {
        let taken = self.claimed(|slot, state| match state {
            FAILED => (FREE, slot.end()),
            other => (other, 0),
        });
        match taken {
            Claim::Held(errno) => errno,
            Claim::Reentered | Claim::Free => 0,
        }
    }

    /// Takes a connect out that could not be started, or that the program dissolved.
    pub(crate) fn abandon(&self) {
        self.claimed(|slot, _| (FREE, slot.end()));
    }

    /// Under a claim: the next state, twice.
    fn settle(&self, state: u32) -> (u32, u32) {
        if state == FAILED {
            return (FAILED, FAILED);
        }
        let outcome = self.ticket().and_then(Ticket::from_number).map(|ticket| {
            let outcome = ticket.peek();
            let _ = ticket.into_number();
            outcome
        });
        let errno = match outcome {
            Some(Outcome::NotYet) => return (WAITING, WAITING),
            Some(Outcome::Reply(Reply::Done { errno })) => errno,
            Some(Outcome::Reply(_) | Outcome::Broken) => {
                self.reset_socket();
                libc::ENETUNREACH
            }
            // The program closed the ticket under us. The broker sees that and resets the socket itself.
            None => libc::ENETUNREACH,
        };
        self.errno.store(errno, Ordering::Relaxed);
        if errno != 0 {
            return (FAILED, FAILED);
        }
        self.end();
        (FREE, FREE)
    }

    /// Under a claim: gives back what the slot holds; its error.
    fn end(&self) -> Errno {
        epoll::unmask(self);
        if let Some(fd) = self.ticket() {
            sys::close(fd);
        }
        self.ticket_cookie.store(0, Ordering::Relaxed);
        self.errno.swap(0, Ordering::Relaxed)
    }

    /// Nobody will finish the handshake: the socket must not carry the program's bytes into a half-negotiated connection.
    fn reset_socket(&self) {
        let fd = self.fd.load(Ordering::Relaxed);
        if self.is_socket(fd) {
            // Both may fail only on a socket that is closed already, which is what they are for.
            let _ = sys::dissolve(fd);
            let _ = sys::option(fd, libc::SOL_SOCKET, libc::SO_ERROR);
        }
    }

    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != FREE
    }

    /// Does the number under which the connect was made still mean our socket?
    pub(crate) fn is_open(&self) -> bool {
        self.is_socket(self.fd.load(Ordering::Relaxed))
    }

    /// Claims a slot, runs `edit` with its state, and leaves the state that it returns.
    fn claimed<T>(&self, edit: impl FnOnce(&Self, u32) -> (u32, T)) -> Claim<T> {
        let me = me();
        let state = loop {
            match self.state.load(Ordering::Acquire) {
                state @ (WAITING | FAILED) => {
                    let claim =
                        self.state.compare_exchange(state, CLAIMED, Ordering::AcqRel, Ordering::Acquire);
                    if claim.is_ok() {
                        self.owner.store(me, Ordering::Relaxed);
                        break state;
                    }
                }
                CLAIMED => match self.owner.load(Ordering::Relaxed) {
                    owner if owner == me => return Claim::Reentered,
                    // The owner's process is not ours: it was left so by a fork.
                    owner if owner != 0 && owner >> 32 != me >> 32 => {
                        let taken =
                            self.owner.compare_exchange(owner, me, Ordering::AcqRel, Ordering::Relaxed);
                        if taken.is_ok() {
                            break if self.errno.load(Ordering::Relaxed) == 0 { WAITING } else { FAILED };
                        }
                    }
                    _ => sys::give_way(),
                },
                _ => return Claim::Free,
            }
        };
        let (next, result) = edit(self, state);
        self.owner.store(0, Ordering::Relaxed);
        if next == FREE {
            self.free();
        } else {
            self.state.store(next, Ordering::Release);
        }
        Claim::Held(result)
    }
}

enum Claim<T> {
    /// Claimed, edited, released.
    Held(T),
    /// This thread holds it already: we run in a signal handler on top of ourselves.
    Reentered,
    /// There is no connect in it.
    Free,
}

fn me() -> u64 {
    u64::from(sys::process().cast_unsigned()) << 32 | u64::from(sys::thread().cast_unsigned())
}
