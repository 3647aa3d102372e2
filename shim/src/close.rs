//! close(), shutdown(): a connect that is under way ends with its socket's last descriptor, or when the socket is shut.
#![allow(unsafe_code)]

use libc::c_int;

use crate::connect;
use crate::pending::{self, State};

redhook::hook! {
    // close(2). Changes: nothing that the program sees; the connect of a pending socket is ended, here and at the proxy, unless there is a copy.
    // Passes: always. Safe in a signal handler. A cancellation point, in the real call: a thread that ends there leaves it to a sweep.
    unsafe fn close(fd: c_int) -> c_int => hooked_close {
        let Some(pending) = pending::begun_as(fd) else {
            // SAFETY: the caller's own argument.
            return unsafe { redhook::real!(close)(fd) };
        };
        // SAFETY: the caller's own argument.
        let result = unsafe { redhook::real!(close)(fd) };
        pending.closed();
        result
    }
}

redhook::hook! {
    // glibc's other name for close().
    unsafe fn __close(fd: c_int) -> c_int => hooked_close_alias {
        // SAFETY: the caller's own argument.
        unsafe { hooked_close(fd) }
    }
}

redhook::hook! {
    // shutdown(2). Changes: a socket whose connect is under way is unconnected afterwards, and has the error `ECONNRESET`, as in Linux while the SYN is
    // unanswered. Passes: all else. Safe in a signal handler. No cancellation point.
    unsafe fn shutdown(fd: c_int, how: c_int) -> c_int => hooked_shutdown {
        // Another `how` the kernel refuses.
        if (libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how) && let State::Waiting(pending) = pending::state(fd) {
            return connect::shut(pending, fd);
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(shutdown)(fd, how) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(close);
    let _ = redhook::real!(shutdown);
}
