//! read, write and their kin, while a connect is under way: the socket is connected to the proxy by then, and what is read or written would be part of
//! the handshake. They answer as the kernel does before the connection exists (`EAGAIN`, or waiting), and after it has failed (its error, once).
//!
//! Whatever the descriptor is, these hooks cost one load as long as no connect of the process is under way, and another one while some other socket's is.
#![allow(unsafe_code)]

use libc::{c_int, c_void, iovec, size_t, ssize_t};

use crate::errno::{Errno, fail};
use crate::pending::{self, State};
use crate::sys;

redhook::hook! {
    // read(2). Changes: `EAGAIN`, or waiting, on a pending stream; the error of one that has failed. Passes: all else. Safe in a signal handler. A
    // cancellation point, in the real call.
    unsafe fn read(fd: c_int, data: *mut c_void, len: size_t) -> ssize_t => hooked_read {
        if let Err(error) = check(fd, 0, RECEIVING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(read)(fd, data, len) }
    }
}

redhook::hook! {
    // The fortified form: `room` is what the compiler knows of the buffer. As read.
    unsafe fn __read_chk(fd: c_int, data: *mut c_void, len: size_t, room: size_t) -> ssize_t => hooked_read_chk {
        if let Err(error) = check(fd, 0, RECEIVING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(__read_chk)(fd, data, len, room) }
    }
}

redhook::hook! {
    // readv(2). As read.
    unsafe fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t => hooked_readv {
        if let Err(error) = check(fd, 0, RECEIVING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(readv)(fd, parts, count) }
    }
}

redhook::hook! {
    // recv(2). As read.
    unsafe fn recv(fd: c_int, data: *mut c_void, len: size_t, flags: c_int) -> ssize_t => hooked_recv {
        if let Err(error) = check(fd, flags, RECEIVING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(recv)(fd, data, len, flags) }
    }
}

redhook::hook! {
    // The fortified form. As read.
    unsafe fn __recv_chk(fd: c_int, data: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t => hooked_recv_chk {
        if let Err(error) = check(fd, flags, RECEIVING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(__recv_chk)(fd, data, len, room, flags) }
    }
}

redhook::hook! {
    // write(2). As read.
    unsafe fn write(fd: c_int, data: *const c_void, len: size_t) -> ssize_t => hooked_write {
        if let Err(error) = check(fd, 0, SENDING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(write)(fd, data, len) }
    }
}

redhook::hook! {
    // writev(2). As read.
    unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t => hooked_writev {
        if let Err(error) = check(fd, 0, SENDING) {
            return fail(error) as ssize_t;
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(writev)(fd, parts, count) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(read);
    let _ = redhook::real!(__read_chk);
    let _ = redhook::real!(readv);
    let _ = redhook::real!(recv);
    let _ = redhook::real!(__recv_chk);
    let _ = redhook::real!(write);
    let _ = redhook::real!(writev);
}

/// The option that says how long a call waits which receives.
pub(crate) const RECEIVING: c_int = libc::SO_RCVTIMEO;

/// The same for one that sends.
pub(crate) const SENDING: c_int = libc::SO_SNDTIMEO;

/// May bytes be read or written? `flags`: the call's. `limit`: [`RECEIVING`] or [`SENDING`].
///
/// # Errors
/// `EAGAIN` while the connect is under way; on a blocking socket it is waited for, within the socket's limit. The connect's error when it has failed, for the
/// first to ask.
pub(crate) fn check(fd: c_int, flags: c_int, limit: c_int) -> Result<(), Errno> {
    if !pending::may_be(fd) {
        return Ok(());
    }
    loop {
        let pending = match pending::state(fd) {
            State::Ordinary => return Ok(()),
            State::Failed(pending) => return pending.take_error().map_or(Ok(()), Err),
            State::Waiting(pending) => pending,
        };
        if flags & libc::MSG_DONTWAIT != 0 || sys::is_nonblocking(fd) != Ok(false) {
            return Err(libc::EAGAIN);
        }
        pending.limit(&sys::time_limit(fd, limit)?);
        let answer = pending.wait(fd)?;
        // We run in a signal handler, on top of whoever would take the answer in.
        if let State::Waiting(_) = pending.refresh() {
            return if answer == 0 { Ok(()) } else { Err(answer) };
        }
        // Dissolved and connected anew, the socket may be pending again.
    }
}
