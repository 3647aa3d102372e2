//! fcntl(F_GETFL, F_SETFL) and ioctl(FIOASYNC): `O_ASYNC` on a socket whose connect is under way. The broker has turned it off until the end, or the kernel
//! would tell of the handshake; that it is on is known here, and to the broker, which tells how the connect has ended. fcntl(F_DUPFD): as dup() (`dup`).
//!
//! Of whom a signal is for, and which, the kernel keeps account: those commands pass. What another process that has the socket sets meanwhile is not
//! seen here.
#![allow(unsafe_code)]

use libc::{c_int, c_ulong};
use presocks_proto::frame::Request;

use crate::dup::copied;
use crate::errno;
use crate::pending::{self, Pending, State};
use crate::{sys, ticket};

redhook::hook! {
    // fcntl(2), which takes a third argument or none: either is in the third register. Changes: `O_ASYNC` of a pending socket. Passes: all else, at the cost
    // of comparisons. Safe in a signal handler. A cancellation point, in the real call.
    unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int => hooked_fcntl {
        if matches!(command, libc::F_GETFL | libc::F_SETFL)
            && pending::any()
            && let State::Waiting(pending) = pending::state(fd)
        {
            let is_on = argument as c_int & libc::O_ASYNC != 0;
            let off = argument & !(libc::O_ASYNC as usize);
            // SAFETY: the caller's own arguments, but for a flag; F_GETFL reads none.
            let result = unsafe { redhook::real!(fcntl)(fd, command, off) };
            return match command {
                libc::F_GETFL if result >= 0 && pending.is_async() => result | libc::O_ASYNC,
                libc::F_SETFL if result >= 0 => {
                    set(pending, fd, is_on);
                    result
                }
                _ => result,
            };
        }
        // SAFETY: the caller's own arguments.
        let real = || unsafe { redhook::real!(fcntl)(fd, command, argument) };
        if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) { copied(fd, real) } else { real() }
    }
}

redhook::hook! {
    // glibc's other name for fcntl().
    unsafe fn __fcntl(fd: c_int, command: c_int, argument: usize) -> c_int => hooked_fcntl_alias {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_fcntl(fd, command, argument) }
    }
}

redhook::hook! {
    // The name for programs with large files, since glibc 2.28. Here it is the same call.
    unsafe fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int => hooked_fcntl64 {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_fcntl(fd, command, argument) }
    }
}

redhook::hook! {
    // ioctl(2). Changes: FIOASYNC on a pending socket. Passes: all else, at the cost of a comparison. Safe in a signal handler. No cancellation point.
    unsafe fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int => hooked_ioctl {
        if request == libc::FIOASYNC
            && pending::any()
            && let State::Waiting(pending) = pending::state(fd)
        {
            let place = core::ptr::with_exposed_provenance::<c_int>(argument);
            if sys::is_readable(place.cast()) {
                // SAFETY: ioctl_tty(2) demands an int, and there is memory.
                set(pending, fd, unsafe { place.read_unaligned() } != 0);
                return 0;
            }
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(ioctl)(fd, request, argument) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(fcntl);
    let _ = redhook::real!(ioctl);
}

/// Sets the flag of a socket whose connect is under way, or was a moment ago.
fn set(pending: Pending, fd: c_int, is_on: bool) {
    let kept = errno::current();
    pending.set_async(is_on);
    let request = Request::Signal { cookie: pending.cookie(), number: fd, is_on };
    if ticket::ask(&request, None).is_err() {
        // It is over: the flag is the kernel's again. On a socket this cannot fail.
        let _ = sys::set_async(fd, is_on);
    }
    errno::set(kept);
}
