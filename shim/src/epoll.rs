//! epoll_ctl, epoll_wait, epoll_pwait, epoll_pwait2: a pending socket is not in its epoll sets, its ticket is.
//!
//! While a connect is under way the program's registration of the socket is *masked*: kept in the connect's slot, with the
//! ticket registered in the program's own epoll set in its place, under data that no program uses. The answer makes the ticket
//! readable; whoever notices first swaps the program's registration back, with its own events and data. The kernel then
//! looks at the socket anew, so an edge-triggered set sees a fresh edge.
//!
//! The waiting calls make the real call *first* and look at the returned events afterwards: a thread may be asleep in
//! epoll_wait when another one starts to connect.
#![allow(unsafe_code)]

mod registration;

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use libc::{c_int, epoll_event, sigset_t, timespec};

use crate::claim::Use;
use crate::errno::{Errno, fail};
use crate::pending::{self, Pending, REGISTRATIONS, SLOTS, Slot, State};
use crate::poll::{self, Deadline};
use crate::{errno, fdinfo, session, sys};
pub(crate) use registration::Registration;

redhook::hook! {
    // epoll_ctl(2). Changes: a pending socket's registration is kept for later, the ticket registered instead. Passes: everything
    // else. Errno: those of epoll_ctl(2); ENOSPC for a fifth epoll set with the same pending socket. Safe in a signal
    // handler. No cancellation point.
    unsafe fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int => hooked_ctl {
        if operation == libc::EPOLL_CTL_ADD {
            remember_set(epoll);
        }
        if pending::any() && let State::Waiting(pending) | State::Failed(pending) = pending::state(fd) {
            // What is deleted needs no event, and the kernel reads none.
            let event = if operation == libc::EPOLL_CTL_DEL { core::ptr::null() } else { event.cast_const() };
            // SAFETY: `event` is null or points to an event, as epoll_ctl(2) demands.
            let event = unsafe { event.as_ref() }.copied();
            let kept = pending.while_unsettled(|slot| control(slot, epoll, operation, fd, event));
            match kept {
                Some(Ok(())) => return 0,
                Some(Err(error)) => return fail(error),
                None => {}
            }
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(epoll_ctl)(epoll, operation, fd, event) }
    }
}

redhook::hook! {
    // epoll_wait(2). Changes: an event of a ticket is taken out and the wait goes on. Errno: those of epoll_wait(2). A
    // cancellation point, in the real call.
    unsafe fn epoll_wait(epoll: c_int, events: *mut epoll_event, room: c_int, timeout: c_int) -> c_int => hooked_wait {
        // SAFETY: the caller's own arguments, but for the time that is left.
        let wait = |left: Milliseconds| unsafe { redhook::real!(epoll_wait)(epoll, events, room, left.0) };
        // SAFETY: `events` has `room` entries, as epoll_wait(2) demands.
        unsafe { waited(events, epoll, Milliseconds(timeout), wait) }
    }
}

redhook::hook! {
    // epoll_pwait(2). As epoll_wait; the signal mask is the real call's business each time.
    unsafe fn epoll_pwait(
        epoll: c_int, events: *mut epoll_event, room: c_int, timeout: c_int, mask: *const sigset_t
    ) -> c_int => hooked_pwait {
        // SAFETY: the caller's own arguments, but for the time that is left.
        let wait = |left: Milliseconds| unsafe { redhook::real!(epoll_pwait)(epoll, events, room, left.0, mask) };
        // SAFETY: `events` has `room` entries, as epoll_pwait(2) demands.
        unsafe { waited(events, epoll, Milliseconds(timeout), wait) }
    }
}

redhook::hook! {
    // epoll_pwait2(2). As epoll_pwait, with a finer timeout. glibc has it since 2.35, so the system call is made directly: a
    // program may find our name where its libc has none. No cancellation point, then.
    unsafe fn epoll_pwait2(
        epoll: c_int, events: *mut epoll_event, room: c_int, timeout: *const timespec, mask: *const sigset_t
    ) -> c_int => hooked_pwait2 {
        const KERNEL_SIGSET_LEN: usize = 8;
        // SAFETY: `timeout` is null or points to a timespec, as epoll_pwait2(2) demands.
        let timeout = unsafe { timeout.as_ref() }.copied();
        let wait = |left: Option<timespec>| {
            let left = left.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
            // SAFETY: the caller's own arguments, but for the time that is left.
            let ready = unsafe {
                libc::syscall(libc::SYS_epoll_pwait2, epoll, events, room, left, mask, KERNEL_SIGSET_LEN)
            };
            ready as c_int
        };
        // SAFETY: `events` has `room` entries, as epoll_pwait2(2) demands.
        unsafe { waited(events, epoll, timeout, wait) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(epoll_ctl);
    let _ = redhook::real!(epoll_wait);
    let _ = redhook::real!(epoll_pwait);
}

/// A timeout in one of the forms that the calls have.
trait Timeout: Copy {
    fn is_zero(self) -> bool;
    fn deadline(self) -> Deadline;
    fn left(deadline: &Deadline) -> Self;
    /// So many milliseconds, if that is shorter.
    fn shorter(self, milliseconds: u64) -> Option<Self>;
}

#[derive(Clone, Copy)]
struct Milliseconds(c_int);

impl Timeout for Milliseconds {
    fn is_zero(self) -> bool {
        self.0 == 0
    }

    fn deadline(self) -> Deadline {
        Deadline::after_milliseconds(self.0)
    }

    fn left(deadline: &Deadline) -> Self {
        Self(deadline.left_milliseconds())
    }

    fn shorter(self, milliseconds: u64) -> Option<Self> {
        let milliseconds = c_int::try_from(milliseconds).unwrap_or(c_int::MAX);
        (self.0 < 0 || self.0 > milliseconds).then_some(Self(milliseconds))
    }
}

impl Timeout for Option<timespec> {
    fn is_zero(self) -> bool {
        self.is_some_and(|time| time.tv_sec == 0 && time.tv_nsec == 0)
    }

    /// One that the kernel refuses ends the wait before it needs a deadline.
    fn deadline(self) -> Deadline {
        Deadline::checked(self).unwrap_or(Deadline::Now)
    }

    fn left(deadline: &Deadline) -> Self {
        deadline.left()
    }

    fn shorter(self, milliseconds: u64) -> Option<Self> {
        poll::shorter(self, milliseconds).map(Some)
    }
}

/// Calls `wait` until it brings an event of the program's, an error, or nothing in time. The clock is only read when there is a pending connect,
/// or after an event that was not the program's: a thread that slept through the first of them may sleep a little longer.
///
/// # Safety
/// `events` has room for as many events as `wait` may return.
unsafe fn waited<T: Timeout>(
    events: *mut epoll_event,
    epoll: c_int,
    timeout: T,
    wait: impl Fn(T) -> c_int,
) -> c_int {
    remember_set(epoll);
    let mut deadline = pending::any().then(|| timeout.deadline());
    let mut sweep = pending::before_a_wait();
    let mut left = timeout;
    let mut is_last = false;
    loop {
        let shorter = sweep.and_then(|due| left.shorter(due));
        let ready = wait(shorter.unwrap_or(left));
        if ready == 0 && shorter.is_some() {
            sweep = pending::sweep();
            left = T::left(deadline.get_or_insert_with(|| timeout.deadline()));
            continue;
        }
        // SAFETY: the caller's promise.
        let is_known = match unsafe { take_out(events, ready) } {
            Taken::All(ready) => return ready,
            Taken::Nothing { is_known } => is_known,
        };
        if is_last {
            return 0;
        }
        if !is_known {
            // A set that we share with another process, whose ticket it is: it will take it out when it next looks.
            sys::sleep(timespec { tv_sec: 0, tv_nsec: 1_000_000 });
        }
        left = T::left(deadline.get_or_insert_with(|| timeout.deadline()));
        is_last = left.is_zero();
    }
}

/// What is left when the tickets' events are taken out.
enum Taken {
    /// So many events, or none in time, or an error.
    All(c_int),
    /// There were only tickets' events, of this process or of another.
    Nothing { is_known: bool },
}

/// Takes the tickets' events out of `ready` returned ones.
///
/// # Safety
/// `events` holds `ready` events, if that is positive.
unsafe fn take_out(events: *mut epoll_event, ready: c_int) -> Taken {
    if ready <= 0 {
        return Taken::All(ready);
    }
    // SAFETY: the caller's promise; the memory is the program's and nobody else writes it during the call.
    let events = unsafe { core::slice::from_raw_parts_mut(events, ready.unsigned_abs() as usize) };
    let mark = mark();
    if mark == 0 || !events.iter().any(|event| event.u64 & MARK == mark) {
        return Taken::All(ready);
    }
    let kept_errno = errno::current();
    let mut kept = 0;
    let mut is_known = false;
    for place in 0..events.len() {
        let Some(event) = events.get(place).copied() else { break };
        let event = match owner(event.u64) {
            None => Some(event),
            Some((number, place, turn)) => pending::numbered(number, turn).and_then(|pending| {
                let event = failure_seen(pending, place);
                is_known |= pending.may_end();
                event
            }),
        };
        if let (Some(event), Some(to)) = (event, events.get_mut(kept)) {
            *to = event;
            kept += 1;
        }
    }
    errno::set(kept_errno);
    if kept > 0 { Taken::All(kept as c_int) } else { Taken::Nothing { is_known } }
}

/// The event that the program sees in place of its ticket's: none, unless the connect has failed.
fn failure_seen(pending: Pending, place: usize) -> Option<epoll_event> {
    let State::Failed(pending) = pending.refresh() else { return None };
    pending.while_unsettled(|slot| failure_event(slot, slot.registrations().get(place)?))?
}

/// What the kernel reports of a failed connect, under the program's own data. Once in an edge-triggered or one-shot
/// registration. Under a claim.
fn failure_event(slot: &Slot, registration: &Registration) -> Option<epoll_event> {
    let epoll = registration.set()?;
    let given = registration.event();
    let is_closed = !slot.is_socket(registration.fd.load(Ordering::Relaxed));
    let is_once = given.events & (libc::EPOLLET | libc::EPOLLONESHOT) as u32 != 0;
    if (is_closed || is_once)
        && let Some(ticket) = slot.ticket()
    {
        // Without the ticket in it the set is silent. It is gone already if another process was faster.
        let _ = sys::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, ticket, None);
        registration.is_spent.store(true, Ordering::Relaxed);
    }
    let asked =
        (libc::EPOLLIN | libc::EPOLLRDNORM | libc::EPOLLRDHUP | libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
    let always = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
    (!is_closed).then_some(epoll_event { events: given.events & asked | always, u64: given.u64 })
}

/// Takes a socket that is about to connect out of the epoll sets that hold it already.
///
/// # Errors
/// `ENETUNREACH` when a registration cannot be read (no /proc), so that it could not be restored.
pub(crate) fn mask(pending: Pending, fd: c_int) -> Result<(), Errno> {
    for epoll in known_sets() {
        match sys::is_registered(epoll, fd) {
            Some(false) => continue,
            Some(true) => {}
            None if sys::is_nonblocking(epoll).is_err() => continue,
            None => {}
        }
        let Some(event) = fdinfo::registered_event(epoll, fd)? else {
            continue;
        };
        let masked = pending.while_unsettled(|slot| {
            enter(slot, epoll, fd, event)?;
            // Gone already only if another thread took it out this instant.
            let _ = sys::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, None);
            Ok(())
        });
        masked.unwrap_or(Ok(())).map_err(|_: Errno| libc::ENETUNREACH)?;
    }
    Ok(())
}

/// Gives the epoll sets the program's registrations back. Under a claim.
pub(crate) fn unmask(slot: &Slot) {
    let ticket = slot.ticket();
    for registration in slot.registrations() {
        let set = registration.set();
        registration.clear();
        let (Some(ticket), Some(epoll)) = (ticket, set) else {
            continue;
        };
        // If the ticket should be in it and is not, the number means another set by now, or another process was faster.
        let is_shared = slot.registrations().iter().any(|other| other.in_set(epoll));
        let is_in_it = !is_shared && !registration.is_spent.load(Ordering::Relaxed);
        if is_in_it && sys::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, ticket, None).is_err() {
            continue;
        }
        let fd = registration.fd.load(Ordering::Relaxed);
        if slot.is_socket(fd) {
            // The kernel accepted this registration once; without memory for it the program sees no event, as then.
            let _ = sys::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, Some(registration.event()));
        }
    }
}

/// Puts another ticket into the epoll sets, in the place of one that the program has closed. Under a claim.
pub(crate) fn mask_again(slot: &Slot) {
    for registration in slot.registrations().iter().filter(|registration| registration.set().is_some()) {
        // Without memory for it the program sees no event, as then.
        let _ = stand_in(slot, registration);
    }
}

/// Leaves the epoll sets as they are, for another process that has them. Under a claim.
pub(crate) fn forget(slot: &Slot) {
    slot.registrations().iter().for_each(Registration::clear);
}

/// epoll_ctl on a pending socket. Under a claim.
fn control(
    slot: &Slot,
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: Option<epoll_event>,
) -> Result<(), Errno> {
    forget_closed_sets(slot);
    let registration = slot.registrations().iter().find(|registration| registration.is(epoll, fd));
    match (operation, registration, event) {
        (libc::EPOLL_CTL_ADD, Some(_), Some(_)) => Err(libc::EEXIST),
        (libc::EPOLL_CTL_ADD, None, Some(event)) => enter(slot, epoll, fd, event),
        (libc::EPOLL_CTL_MOD, Some(registration), Some(event)) => {
            let exclusive = (event.events | registration.event().events) & libc::EPOLLEXCLUSIVE as u32;
            if exclusive != 0 {
                return Err(libc::EINVAL);
            }
            registration.set_event(event);
            // A change arms a one-shot registration again.
            stand_in(slot, registration)
        }
        (libc::EPOLL_CTL_DEL, Some(registration), _) => {
            registration.clear();
            if registration.is_spent.load(Ordering::Relaxed)
                || slot.registrations().iter().any(|other| other.in_set(epoll))
            {
                return Ok(());
            }
            slot.ticket().map_or(Ok(()), |ticket| sys::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, ticket, None))
        }
        (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, _, None) => Err(libc::EFAULT),
        // Not masked here: the kernel knows what is wrong with it.
        _ => sys::epoll_ctl(epoll, operation, fd, event),
    }
}

/// Forgets registrations in sets that were closed since: the ticket is in no set of that number any more. Under a claim.
fn forget_closed_sets(slot: &Slot) {
    let Some(ticket) = slot.ticket() else { return };
    for registration in slot.registrations() {
        let is_spent = registration.is_spent.load(Ordering::Relaxed);
        let is_gone = |set| !is_spent && sys::is_registered(set, ticket) == Some(false);
        if registration.set().is_some_and(is_gone) {
            registration.clear();
        }
    }
}

/// Registers the ticket in the set, and the program's registration in the slot. Under a claim.
fn enter(slot: &Slot, epoll: c_int, fd: c_int, event: epoll_event) -> Result<(), Errno> {
    // A set of a thread with a table of its own: nobody else could take the ticket out of it.
    if !slot.may_end() {
        return Err(libc::ENOSPC);
    }
    let free = slot.registrations().iter().find(|registration| registration.set().is_none());
    let registration = free.ok_or(libc::ENOSPC)?;
    registration.fd.store(fd, Ordering::Relaxed);
    registration.set_event(event);
    registration.put_in(epoll);
    let result = stand_in(slot, registration);
    if result.is_err() {
        registration.clear();
    }
    result
}

/// Puts the ticket into the registration's set, in place of the socket. Under a claim.
fn stand_in(slot: &Slot, registration: &Registration) -> Result<(), Errno> {
    let ticket = slot.ticket().ok_or(libc::ENOSPC)?;
    let place = slot.registrations().iter().position(|other| core::ptr::eq(other, registration)).unwrap_or(0);
    let place = (slot.number() * REGISTRATIONS + place) as u64;
    let data = mark() | place << USE_BITS | u64::from(slot.turn().0);
    registration.is_spent.store(false, Ordering::Relaxed);
    let event = epoll_event { events: libc::EPOLLIN as u32, u64: data };
    let epoll = registration.set().ok_or(libc::ENOSPC)?;
    match sys::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, ticket, Some(event)) {
        // Already there: for a duplicate of the same socket, or because it never left.
        Err(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// A ticket's event data: mark, slot, registration, and the slot's use.
const USE_BITS: u32 = u16::BITS;
const PLACE_BITS: u32 = (SLOTS * REGISTRATIONS).ilog2();
const MARK: u64 = u64::MAX << (USE_BITS + PLACE_BITS);

/// The upper bits of a ticket's event data: the same in all processes of a session, for they may share a set, and like no pointer, small number
/// or -1, whose two topmost bits are alike. 0 without a session.
fn mark() -> u64 {
    static VALUE: AtomicU64 = AtomicU64::new(0);
    let known = VALUE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let Some(session) = session::current() else { return 0 };
    let random = session.id.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let mark = (random & (u64::MAX >> 2) | 1 << 63) & MARK;
    VALUE.store(mark, Ordering::Relaxed);
    mark
}

/// The slot, registration and use that a ticket's event data names; `None` for the program's own data.
fn owner(data: u64) -> Option<(usize, usize, Use)> {
    if data & MARK != mark() {
        return None;
    }
    let place = ((data & !MARK) >> USE_BITS) as usize;
    Some((place / REGISTRATIONS, place % REGISTRATIONS, Use(data as u16)))
}

/// One bit for each number under which an epoll set was seen; larger numbers than the map has are not noticed.
static SETS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// Words of the map from here on are empty.
static SETS_END: AtomicUsize = AtomicUsize::new(0);

fn remember_set(epoll: c_int) {
    let Ok(number) = usize::try_from(epoll) else { return };
    if let Some(word) = SETS.get(number / 64) {
        let bit = 1 << (number % 64);
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
            SETS_END.fetch_max(number / 64 + 1, Ordering::Relaxed);
        }
    }
}

fn known_sets() -> impl Iterator<Item = c_int> {
    SETS.iter().take(SETS_END.load(Ordering::Relaxed)).enumerate().flat_map(|(index, word)| {
        let mut bits = word.load(Ordering::Relaxed);
        core::iter::from_fn(move || {
            let bit = bits.trailing_zeros();
            bits &= bits.checked_sub(1)?;
            Some((index * 64) as c_int + bit as c_int)
        })
    })
}
