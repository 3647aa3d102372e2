//! select and pselect: while a connect is under way they go through poll.
//!
//! The ticket that stands in for a pending socket may have a number that no `fd_set` can hold, so the sets become an array for
//! `poll` and its answer becomes sets again, with the meanings of select(2): an error or a hang-up is readable, an error is writable.
#![allow(unsafe_code)]

use libc::{c_int, c_short, pollfd, sigset_t, timespec, timeval};

use crate::errno::fail;
use crate::kernel_limits::cut_to_table;
use crate::pending;
use crate::poll::{self, Deadline};

const READABLE: c_short = libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLIN | libc::POLLHUP | libc::POLLERR;
const WRITABLE: c_short = libc::POLLWRBAND | libc::POLLWRNORM | libc::POLLOUT | libc::POLLERR;
const EXCEPTIONAL: c_short = libc::POLLPRI;
const WORD_BITS: usize = usize::BITS as usize;

redhook::hook! {
    // select(2). Changes: pending sockets are not ready before their far end is connected. Passes: calls without one. Errno:
    // those of select(2). The timeout is updated as Linux does it. A cancellation point, in the real call.
    unsafe fn select(
        count: c_int, read: *mut usize, write: *mut usize, except: *mut usize, timeout: *mut timeval
    ) -> c_int => hooked_select {
        let Some(sets) = Sets::while_pending(count, read, write, except) else {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(select)(count, read, write, except, timeout) };
        };
        // SAFETY: `timeout` is null or points to a timeval, as select(2) demands.
        let timeout = unsafe { timeout.as_mut() };
        let limit = timeout.as_ref().map(|timeout| timespec {
            tv_sec: timeout.tv_sec,
            tv_nsec: timeout.tv_usec.saturating_mul(1000),
        });
        if limit.is_some_and(|limit| limit.tv_sec < 0 || limit.tv_nsec < 0) {
            return fail(libc::EINVAL);
        }
        let deadline = Deadline::after(limit);
        let result = sets.wait(&deadline, core::ptr::null());
        if let (Some(timeout), Some(left)) = (timeout, deadline.left()) {
            timeout.tv_sec = left.tv_sec;
            timeout.tv_usec = left.tv_nsec / 1000;
        }
        result
    }
}

redhook::hook! {
    // glibc's other name for select().
    unsafe fn __select(
        count: c_int, read: *mut usize, write: *mut usize, except: *mut usize, timeout: *mut timeval
    ) -> c_int => hooked_select_alias {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_select(count, read, write, except, timeout) }
    }
}

redhook::hook! {
    // pselect(2). As select, with a signal mask and a timeout that is not updated.
    unsafe fn pselect(
        count: c_int, read: *mut usize, write: *mut usize, except: *mut usize,
        timeout: *const timespec, mask: *const sigset_t
    ) -> c_int => hooked_pselect {
        let Some(sets) = Sets::while_pending(count, read, write, except) else {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(pselect)(count, read, write, except, timeout, mask) };
        };
        // SAFETY: `timeout` is null or points to a timespec, as pselect(2) demands.
        let Some(deadline) = Deadline::checked(unsafe { timeout.as_ref() }.copied()) else {
            return fail(libc::EINVAL);
        };
        sets.wait(&deadline, mask)
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(select);
    let _ = redhook::real!(pselect);
}

/// The three sets of a call: bit n of the words is descriptor n (select(2)); null for a set that is not given. `count` is what the kernel makes of it.
struct Sets {
    count: c_int,
    read: *mut usize,
    write: *mut usize,
    except: *mut usize,
}

impl Sets {
    /// The sets, if any connect is under way.
    fn while_pending(count: c_int, read: *mut usize, write: *mut usize, except: *mut usize) -> Option<Self> {
        let is_taken = pending::any() && count >= 0;
        is_taken.then(|| Self { count: cut_to_table(count), read, write, except })
    }

    fn wait(&self, deadline: &Deadline, mask: *const sigset_t) -> c_int {
        let members = (0..self.count).filter(|fd| self.events(*fd) != 0).count();
        let result = poll::with_scratch(members, |fds| {
            let members = (0..self.count).map(|fd| (fd, self.events(fd))).filter(|(_, events)| *events != 0);
            for (entry, (fd, events)) in fds.iter_mut().zip(members) {
                *entry = pollfd { fd, events, revents: 0 };
            }
            let ready = poll::wait(fds, deadline, |fds, left| poll::real_ppoll(fds, left, mask));
            if ready < 0 {
                return ready;
            }
            if fds.iter().any(|entry| entry.revents & libc::POLLNVAL != 0) {
                return fail(libc::EBADF);
            }
            fds.iter().map(|entry| self.put(entry)).sum()
        });
        result.unwrap_or_else(fail)
    }

    /// The poll events for which the sets hold this descriptor; 0 for none.
    fn events(&self, fd: c_int) -> c_short {
        let wanted = [(self.read, READABLE), (self.write, WRITABLE), (self.except, EXCEPTIONAL)];
        let asked =
            wanted.into_iter().filter(|(set, _)| holds(*set, fd)).fold(0, |all, (_, events)| all | events);
        asked & !(libc::POLLHUP | libc::POLLERR)
    }

    /// Leaves the descriptor in the sets for which it is ready; how many those are.
    fn put(&self, entry: &pollfd) -> c_int {
        let sets = [(self.read, READABLE), (self.write, WRITABLE), (self.except, EXCEPTIONAL)];
        let mut ready = 0;
        for (set, events) in sets {
            if holds(set, entry.fd) {
                let is_ready = entry.revents & events != 0;
                if !is_ready {
                    remove(set, entry.fd);
                }
                ready += c_int::from(is_ready);
            }
        }
        ready
    }
}

fn holds(set: *const usize, fd: c_int) -> bool {
    let place = fd.unsigned_abs() as usize;
    if set.is_null() {
        return false;
    }
    // SAFETY: the kernel reads and writes the words of all descriptors below the count, cut to the table of descriptors as here, and `fd` is one of those.
    let word = unsafe { set.add(place / WORD_BITS) };
    // SAFETY: as above; `fd_set` is aligned to its words.
    let bits = unsafe { word.read() };
    bits >> (place % WORD_BITS) & 1 == 1
}

fn remove(set: *mut usize, fd: c_int) {
    let place = fd.unsigned_abs() as usize;
    // SAFETY: `holds` found the descriptor in this set.
    let word = unsafe { set.add(place / WORD_BITS) };
    // SAFETY: as above.
    let bits = unsafe { word.read() };
    // SAFETY: as above; the sets are the call's to write.
    unsafe { word.write(bits & !(1 << (place % WORD_BITS))) };
}
