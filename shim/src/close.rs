//! close(): a connect that is under way ends with its socket's last descriptor.
#![allow(unsafe_code)]

use libc::c_int;

use crate::pending;

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

/// Finds the real function.
pub(crate) fn resolve() {
    let _ = redhook::real!(close);
}
