//! Connects whose sockets the program has closed are ended: the broker hears of it when their tickets are closed, and lets go of everything.
//!
//! A number that no longer means the socket is not enough: there may be a copy under another one. Nobody tells who has copies, so all
//! descriptors of the process are looked through, at once for all connects in question. That takes a system call for each descriptor, so it is
//! done when enough sockets were closed, or some time has gone by.
//!
//! A young connect is let finish first. To a host nearby a bare connect() is through before its program can close the socket, so the peer sees a
//! connection that ends; an FTP server waits for one after each PASV, and its client for the server.

use core::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use libc::c_int;

use super::slot::Missing;
use super::{Pending, State, table};
use crate::claim::Phase;
use crate::{descriptors, sys};

/// A look through everything is worth one closed socket for so many descriptors.
const DESCRIPTORS_FOR_ONE: usize = 16;

/// So often at most, in milliseconds, for less than that, and for sockets that no hook has seen closed.
const INTERVAL: u64 = 100;

/// Until this age, in milliseconds, a connect is young.
const YOUNG: u64 = 3000;

/// So many young ones are let finish at a time: what scans ports closes thousands.
const LET_FINISH: usize = 16;

/// Sockets that were closed since the last sweep.
static CLOSED: AtomicUsize = AtomicUsize::new(0);
/// How many descriptors there were when they were last counted.
static DESCRIPTORS: AtomicUsize = AtomicUsize::new(0);
/// When the last sweep was made (`coarse_milliseconds`).
static LAST: AtomicU64 = AtomicU64::new(0);

/// The number under which this connect was begun was closed.
pub(super) fn closed() {
    let closed = CLOSED.fetch_add(1, Ordering::Relaxed) + 1;
    if closed * DESCRIPTORS_FOR_ONE >= DESCRIPTORS.load(Ordering::Relaxed) {
        sweep();
    } else {
        sweep_now_and_then();
    }
}

/// Sweeps if that is due.
pub(crate) fn sweep_now_and_then() {
    if until_due() == 0 {
        sweep();
    }
}

/// For a call that is about to wait, perhaps for ever: sweeps if that is due; else after how many milliseconds it is to do so.
pub(crate) fn before_a_wait() -> Option<u64> {
    if !table::any() {
        return None;
    }
    let due = until_due();
    if due > 0 { Some(due) } else { sweep() }
}

fn until_due() -> u64 {
    let since = sys::coarse_milliseconds().saturating_sub(LAST.load(Ordering::Relaxed));
    INTERVAL.saturating_sub(since)
}

/// Ends the connects whose sockets have no descriptor any more; of those that have another, remembers that one. If some were let finish: after how
/// many milliseconds they are to be looked at again.
pub(crate) fn sweep() -> Option<u64> {
    let closed = CLOSED.swap(0, Ordering::Relaxed);
    let sweep = this_sweep();
    let (mut missing, mut others) = (0, 0);
    for pending in table::all().filter(|pending| !pending.has_number()) {
        // What cannot be told is left alone, as is what another thread or process can tell.
        match pending.slot.owner.is_us() {
            Some(true) => {
                pending.slot.missing.set(Missing { sweep, turn: pending.turn });
                missing += 1;
            }
            Some(false) => others += 1,
            None => {}
        }
    }
    if others > 0 {
        CLOSED.fetch_add(closed, Ordering::Relaxed);
    } else {
        LAST.store(sys::coarse_milliseconds(), Ordering::Relaxed);
    }
    if missing > 0 { look_for_missing(sweep) } else { None }
}

fn look_for_missing(sweep: u16) -> Option<u64> {
    let count = descriptors::for_each(|fd| {
        let found = sys::cookie(fd).ok().and_then(table::find);
        if let Some(pending) = found.filter(|pending| pending.is_missing_since(sweep)) {
            pending.moved_to(fd);
        }
    });
    if let Some(count) = count {
        DESCRIPTORS.store(count, Ordering::Relaxed);
    }
    let mut finishing = 0;
    for pending in table::all().filter(|pending| pending.is_missing_since(sweep)) {
        // What a child has inherited is its parent's to let finish.
        let may_finish =
            pending.slot.age() < YOUNG && !pending.slot.owner.is_copy() && finishing < LET_FINISH;
        finishing += usize::from(may_finish);
        if count.is_some() && !pending.slot.is_handed_on() && !may_finish {
            pending.abandon_lost();
        } else if let State::Failed(failed) = pending.refresh() {
            // Without /proc, and of one that is under way to another process, nobody knows; but there is nobody to be told, either. Nor is there of a
            // young one.
            failed.take_error();
        }
    }
    (finishing > 0).then_some(INTERVAL)
}

/// A number that no other sweep of this time has, and not 0.
fn this_sweep() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) | 1 << 15
}

impl Pending {
    /// Does its number still mean the socket?
    fn has_number(self) -> bool {
        self.slot.is_socket(self.slot.fd())
    }

    /// Did this sweep not find its socket?
    fn is_missing_since(self, sweep: u16) -> bool {
        self.slot.missing.get() == Missing { sweep, turn: self.turn }
    }

    /// A sweep has found the socket under another number.
    fn moved_to(self, fd: c_int) {
        self.while_unsettled(|slot| slot.move_to(fd));
    }

    /// A sweep has found the socket nowhere. Nobody is left to whom its error could be told.
    fn abandon_lost(self) {
        self.claimed(|phase| {
            // Another thread may have been faster.
            if self.has_number() {
                return phase;
            }
            self.slot.end_lost();
            Phase::Free
        });
    }
}
