//! dup(), dup2(), dup3(): a copy of a socket under another number. A connect that is under way, or is begun later, is under way for both; that reading and
//! writing look at both, it is noted here. (fcntl(F_DUPFD) is in `fcntl`.)
#![allow(unsafe_code)]

use libc::c_int;

use crate::pending;

redhook::hook! {
    // dup(2). Changes: nothing. Passes: always. Safe in a signal handler. No cancellation point.
    unsafe fn dup(fd: c_int) -> c_int => hooked_dup {
        // SAFETY: the caller's own argument.
        copied(fd, || unsafe { redhook::real!(dup)(fd) })
    }
}

redhook::hook! {
    // dup2(2). Changes: nothing that the program sees; the connect of a pending socket that had the number is ended, as by close(). Passes: always. Safe in a
    // signal handler. No cancellation point.
    unsafe fn dup2(fd: c_int, number: c_int) -> c_int => hooked_dup2 {
        // SAFETY: the caller's own arguments.
        replacing(number, || copied(fd, || unsafe { redhook::real!(dup2)(fd, number) }))
    }
}

redhook::hook! {
    // glibc's other name for dup2().
    unsafe fn __dup2(fd: c_int, number: c_int) -> c_int => hooked_dup2_alias {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_dup2(fd, number) }
    }
}

redhook::hook! {
    // dup3(2). As dup2.
    unsafe fn dup3(fd: c_int, number: c_int, flags: c_int) -> c_int => hooked_dup3 {
        // SAFETY: the caller's own arguments.
        replacing(number, || copied(fd, || unsafe { redhook::real!(dup3)(fd, number, flags) }))
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(dup);
    let _ = redhook::real!(dup2);
    let _ = redhook::real!(dup3);
}

/// Makes a copy of this descriptor, whose number `copy` returns; -1 for none.
pub(crate) fn copied(fd: c_int, copy: impl FnOnce() -> c_int) -> c_int {
    pending::note_copy(fd);
    let number = copy();
    if number >= 0 {
        pending::note_copy(number);
    }
    number
}

/// Puts another file on this number, unless `put` returns -1.
fn replacing(number: c_int, put: impl FnOnce() -> c_int) -> c_int {
    // Other threads may be reading and writing under it.
    pending::note_copy(number);
    let replaced = pending::begun_as(number);
    let result = put();
    if let Some(pending) = replaced
        && result >= 0
    {
        pending.closed();
    }
    result
}
