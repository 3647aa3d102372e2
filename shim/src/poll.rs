//! poll, ppoll and their _chk forms: in place of a pending socket its ticket is waited for.
//!
//! The program's array is never changed but for `revents`: the wait happens on a copy. When a ticket's answer comes, its
//! socket is an ordinary one again and the wait goes on with it, so that readiness is always the kernel's own word; only
//! an unfetched failure is shown by us, as the kernel shows a failed connect.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

use libc::{c_int, c_short, nfds_t, pollfd, sigset_t, size_t, timespec};

use crate::errno::{Errno, fail};
use crate::pending::{self, State};
use crate::{kernel_limits, sys};

redhook::hook! {
    // poll(2). Changes: pending sockets are not ready before their far end is connected. Passes: calls without one. Errno:
    // those of poll(2). A cancellation point, in the real call.
    unsafe fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int => hooked_poll {
        // SAFETY: poll(2) demands `count` entries at `fds`.
        if let Some(fds) = unsafe { while_pending(fds, count) } {
            let deadline = Deadline::after_milliseconds(timeout);
            return wait(fds, &deadline, |fds, left| real_ppoll(fds, left, core::ptr::null()));
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(poll)(fds, count, timeout) }
    }
}

redhook::hook! {
    // glibc's other name for poll().
    unsafe fn __poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int => hooked_poll_alias {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_poll(fds, count, timeout) }
    }
}

redhook::hook! {
    // ppoll(2). As poll; the signal mask is the real call's business each time.
    unsafe fn ppoll(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t
    ) -> c_int => hooked_ppoll {
        // SAFETY: ppoll(2) demands `count` entries at `fds`.
        if let Some(fds) = unsafe { while_pending(fds, count) } {
            // SAFETY: `timeout` is null or points to a timespec.
            let Some(deadline) = Deadline::checked(unsafe { timeout.as_ref() }.copied()) else {
                return fail(libc::EINVAL);
            };
            return wait(fds, &deadline, |fds, left| real_ppoll(fds, left, mask));
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(ppoll)(fds, count, timeout, mask) }
    }
}

redhook::hook! {
    // poll() as _FORTIFY_SOURCE calls it, with the array's true size; an array that is too small ends the program in the real
    // call.
    unsafe fn __poll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: c_int, size: size_t
    ) -> c_int => hooked_poll_chk {
        if pending::any() && size / size_of::<pollfd>() >= count as usize {
            // SAFETY: the caller's own arguments.
            return unsafe { hooked_poll(fds, count, timeout) };
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(__poll_chk)(fds, count, timeout, size) }
    }
}

redhook::hook! {
    // ppoll() as _FORTIFY_SOURCE calls it.
    unsafe fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, size: size_t
    ) -> c_int => hooked_ppoll_chk {
        if pending::any() && size / size_of::<pollfd>() >= count as usize {
            // SAFETY: the caller's own arguments.
            return unsafe { hooked_ppoll(fds, count, timeout, mask) };
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(__ppoll_chk)(fds, count, timeout, mask, size) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(poll);
    let _ = redhook::real!(ppoll);
    let _ = redhook::real!(__poll_chk);
    let _ = redhook::real!(__ppoll_chk);
}

/// The array, while any connect is under way.
///
/// # Safety
/// `fds` is null or has `count` entries that nobody else uses during the call.
unsafe fn while_pending<'a>(fds: *mut pollfd, count: nfds_t) -> Option<&'a mut [pollfd]> {
    // What the kernel refuses unread is not read here.
    if !pending::any() || fds.is_null() || kernel_limits::is_too_many(count) {
        return None;
    }
    // SAFETY: the caller's promise; there are no more than the kernel reads.
    Some(unsafe { core::slice::from_raw_parts_mut(fds, usize::try_from(count).ok()?) })
}

/// The real ppoll(2), a cancellation point; -1 with errno set when it fails.
pub(crate) fn real_ppoll(fds: &mut [pollfd], left: Option<timespec>, mask: *const sigset_t) -> c_int {
    let left = left.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: pointer and length are those of a slice; `left` and `mask` are null or valid.
    unsafe { redhook::real!(ppoll)(fds.as_mut_ptr(), fds.len() as nfds_t, left, mask) }
}

/// Waits until an entry is ready, an error or the deadline; what poll(2) returns.
pub(crate) fn wait(
    fds: &mut [pollfd],
    deadline: &Deadline,
    mut real: impl FnMut(&mut [pollfd], Option<timespec>) -> c_int,
) -> c_int {
    let mut sweep = pending::before_a_wait();
    let result = with_scratch(fds.len(), |copy| {
        loop {
            let (mut failed, mut is_elsewhere) = (0, false);
            for (entry, copy) in fds.iter_mut().zip(copy.iter_mut()) {
                entry.revents = 0;
                *copy = stand_in(entry);
                failed += c_int::from(entry.revents != 0);
                is_elsewhere |= copy.fd < 0 && entry.fd >= 0 && entry.revents == 0;
            }
            let left = if failed > 0 { Some(NO_TIME) } else { deadline.left() };
            let short = if is_elsewhere { sweep.or(Some(ELSEWHERE)) } else { sweep };
            let shorter = short.and_then(|due| shorter(left, due));
            let ready = real(copy, shorter.or(left));
            if ready < 0 {
                return ready;
            }
            if ready == 0 && shorter.is_some() {
                sweep = sweep.and_then(|_| pending::sweep());
                continue;
            }
            let mut answered = false;
            for (entry, copy) in fds.iter_mut().zip(copy.iter()).filter(|(_, copy)| copy.revents != 0) {
                if copy.fd == entry.fd {
                    entry.revents = copy.revents;
                } else {
                    answered = true;
                }
            }
            if !answered {
                return ready + failed;
            }
        }
    });
    result.unwrap_or_else(fail)
}

/// So many milliseconds, if that is less than the time that is left; `None` is for ever.
pub(crate) fn shorter(left: Option<timespec>, milliseconds: u64) -> Option<timespec> {
    let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    let time = timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    left.is_none_or(|left| (left.tv_sec, left.tv_nsec) > (time.tv_sec, time.tv_nsec)).then_some(time)
}

/// The entry to wait for in place of this one; a failure shows in the entry itself.
fn stand_in(entry: &mut pollfd) -> pollfd {
    let plain = pollfd { fd: entry.fd, events: entry.events, revents: 0 };
    let nothing = pollfd { fd: -1, events: 0, revents: 0 };
    if entry.fd < 0 {
        return plain;
    }
    match pending::state(entry.fd) {
        State::Ordinary => plain,
        // A ticket that is not here: the broker is asked from time to time.
        State::Waiting(slot) => {
            slot.ticket().map_or(nothing, |ticket| pollfd { fd: ticket, events: libc::POLLIN, revents: 0 })
        }
        State::Failed(_) => {
            let readable = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDHUP;
            let writable = libc::POLLOUT | libc::POLLWRNORM;
            entry.revents = entry.events & (readable | writable) | libc::POLLERR | libc::POLLHUP;
            nothing
        }
    }
}

/// Runs `work` on an array of `count` zeroed entries: on the stack if it is small, else from mmap(2).
///
/// # Errors
/// `ENOMEM` when there is no memory.
pub(crate) fn with_scratch<T>(count: usize, work: impl FnOnce(&mut [pollfd]) -> T) -> Result<T, Errno> {
    const SMALL: usize = 64;
    let nothing = pollfd { fd: -1, events: 0 as c_short, revents: 0 };
    let mut small = [nothing; SMALL];
    if let Some(entries) = small.get_mut(..count) {
        return Ok(work(entries));
    }
    let mapping = sys::Mapping::new::<pollfd>(count).map_err(|_| libc::ENOMEM)?;
    let start = mapping.start().cast::<MaybeUninit<pollfd>>();
    // SAFETY: the mapping has room for `count` entries, is aligned to a page, and lives until the end of this function.
    let entries = unsafe { core::slice::from_raw_parts_mut(start, count) };
    for entry in entries.iter_mut() {
        entry.write(nothing);
    }
    let start = entries.as_mut_ptr().cast::<pollfd>();
    // SAFETY: as above, and every entry has just been written.
    Ok(work(unsafe { core::slice::from_raw_parts_mut(start, count) }))
}

/// How often to ask, in milliseconds, about a connect whose ticket another thread has in a table of its own.
const ELSEWHERE: u64 = 50;

const NO_TIME: timespec = timespec { tv_sec: 0, tv_nsec: 0 };
const NANOSECONDS: i64 = 1_000_000_000;

/// When a wait ends. Only a limited wait reads the clock.
pub(crate) enum Deadline {
    Never,
    Now,
    At(timespec),
}

impl Deadline {
    /// The deadline of a timeout in milliseconds; negative ones wait for ever.
    pub(crate) fn after_milliseconds(timeout: c_int) -> Self {
        match timeout {
            ..0 => Self::Never,
            0 => Self::Now,
            _ => Self::after(Some(timespec {
                tv_sec: i64::from(timeout) / 1000,
                tv_nsec: i64::from(timeout) % 1000 * 1_000_000,
            })),
        }
    }

    /// As `after`; `None` for a timeout that the kernel refuses with `EINVAL`.
    pub(crate) fn checked(timeout: Option<timespec>) -> Option<Self> {
        let is_valid = |timeout: timespec| timeout.tv_sec >= 0 && (0..NANOSECONDS).contains(&timeout.tv_nsec);
        timeout.is_none_or(is_valid).then(|| Self::after(timeout))
    }

    /// The deadline of a timeout that is not negative; `None` waits for ever.
    pub(crate) fn after(timeout: Option<timespec>) -> Self {
        match timeout {
            None => Self::Never,
            Some(timeout) if timeout.tv_sec == 0 && timeout.tv_nsec == 0 => Self::Now,
            Some(timeout) => {
                let now = sys::now();
                let nanoseconds = now.tv_nsec.saturating_add(timeout.tv_nsec);
                Self::At(timespec {
                    tv_sec: now
                        .tv_sec
                        .saturating_add(timeout.tv_sec)
                        .saturating_add(nanoseconds / NANOSECONDS),
                    tv_nsec: nanoseconds % NANOSECONDS,
                })
            }
        }
    }

    /// The time that is left; `None` for ever.
    pub(crate) fn left(&self) -> Option<timespec> {
        let at = match self {
            Self::Never => return None,
            Self::Now => return Some(NO_TIME),
            Self::At(at) => at,
        };
        let now = sys::now();
        let mut left =
            timespec { tv_sec: at.tv_sec.saturating_sub(now.tv_sec), tv_nsec: at.tv_nsec - now.tv_nsec };
        if left.tv_nsec < 0 {
            left.tv_sec -= 1;
            left.tv_nsec += NANOSECONDS;
        }
        Some(if left.tv_sec < 0 { NO_TIME } else { left })
    }

    /// The time that is left in milliseconds, rounded up; -1 for ever.
    pub(crate) fn left_milliseconds(&self) -> c_int {
        self.left().map_or(-1, |left| {
            let rest = (left.tv_nsec + 999_999) / 1_000_000;
            c_int::try_from(left.tv_sec.saturating_mul(1000).saturating_add(rest)).unwrap_or(c_int::MAX)
        })
    }
}
