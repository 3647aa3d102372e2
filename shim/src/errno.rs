//! errno: kept when a call succeeds, set when it fails.
#![allow(unsafe_code)]

use libc::c_int;

/// An errno value (errno(3)).
pub(crate) type Errno = c_int;

/// Sets errno and returns what a failing call returns.
pub(crate) fn fail(errno: Errno) -> c_int {
    set(errno);
    -1
}

/// The calling thread's errno.
pub(crate) fn current() -> Errno {
    // SAFETY: glibc guarantees a valid, thread-local location.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as above; only this thread uses it.
    unsafe { location.read() }
}

/// Sets the calling thread's errno.
pub(crate) fn set(errno: Errno) {
    // SAFETY: glibc guarantees a valid, thread-local location.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as above; only this thread uses it.
    unsafe { location.write(errno) };
}
