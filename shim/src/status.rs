//! getsockopt(SO_ERROR) and getpeername: what a socket says about its connection.
#![allow(unsafe_code)]

use core::net::SocketAddr;

use libc::{c_int, c_void, socklen_t};
use presocks_proto::frame::{Reply, Request};

use crate::errno::{Errno, fail};
use crate::pass::{self, at, int, returned};
use crate::pending::{self, State};
use crate::sockaddr::{self, Encoded};
use crate::{socket, sys, ticket};

redhook::hook! {
    // getsockopt(2). Changes: SO_ERROR is 0 while a connect is under way, and its error once after it has failed. Passes: every other
    // option. Safe in a signal handler. No cancellation point.
    unsafe fn getsockopt(
        fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t
    ) -> c_int => hooked_getsockopt {
        // SAFETY: `len` is null or points to a length, as getsockopt(2) demands.
        let room = || unsafe { len.as_ref() }.and_then(|len| c_int::try_from(*len).ok());
        // Without a length, or with a negative one, the kernel refuses the call.
        if level == libc::SOL_SOCKET && name == libc::SO_ERROR && pending::any() && let Some(room) = room() {
            let error = match pending::state(fd) {
                State::Ordinary => None,
                State::Waiting(_) => Some(0),
                State::Failed(pending) => Some(pending.take_error().unwrap_or(0)),
            };
            if let Some(error) = error {
                let bytes = error.to_ne_bytes();
                let room = (room as usize).min(bytes.len());
                // SAFETY: getsockopt(2) demands `*len` writable bytes at `value`.
                return unsafe { put(bytes.get(..room).unwrap_or(&bytes), value, len) };
            }
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(getsockopt)(fd, level, name, value, len) }
    }
}

redhook::hook! {
    // getpeername(2). Changes: ENOTCONN while a connect is under way; afterwards the address that the program asked for, not
    // the proxy's: where the seccomp filter stands, the broker writes it, when it is shown the call, unless it may not look into the
    // process. Passes: sockets that the
    // broker did not connect. Safe in a signal handler. No cancellation point.
    unsafe fn getpeername(fd: c_int, address: *mut libc::sockaddr, len: *mut socklen_t) -> c_int => hooked_getpeername {
        if pending::any() && !matches!(pending::state(fd), State::Ordinary) {
            return fail(libc::ENOTCONN);
        }
        // SAFETY: `len` is null or points to a length, as getpeername(2) demands.
        let room = unsafe { len.as_ref() }.copied();
        let arguments = [int(fd), at(address), at(len), 0, 0, 0];
        // SAFETY: the caller's own arguments.
        let result = unsafe { pass::call(libc::SYS_getpeername, arguments) };
        // Without a length the call has failed.
        let (Ok(_), Some(room)) = (result, room) else { return returned(result) as c_int };
        let Some(actual) = socket::peer(fd) else { return 0 };
        if pass::filter_stands() {
            // SAFETY: as for the call above, which has written the length.
            unsafe { len.write(room) };
            // SAFETY: the caller's own arguments.
            match unsafe { as_the_broker_has_it(arguments) } {
                // The kernel never says so: the broker may not look into this process.
                Err(libc::EACCES) => {}
                result => return returned(result) as c_int,
            }
        }
        let Some(asked) = asked_for(fd, actual) else {
            // SAFETY: the caller's own arguments.
            return returned(unsafe { pass::call(libc::SYS_getpeername, arguments) }) as c_int;
        };
        // SAFETY: as for the calls above, which have written the length.
        unsafe { len.write(room) };
        // SAFETY: getpeername(2) demands `room` writable bytes at `address`, and `*len` is `room` again.
        unsafe { put(asked.as_bytes(), address.cast(), len) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(getsockopt);
}

/// getpeername(2), which the seccomp filter brings before the broker; from the kernel when the broker is gone.
///
/// # Safety
/// The arguments are such as the call demands.
unsafe fn as_the_broker_has_it(arguments: [usize; 6]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the caller's promise.
        match unsafe { pass::call_unjudged(libc::SYS_getpeername, arguments) } {
            Err(libc::EINTR) => {}
            Err(libc::ENOSYS) => break,
            result => return result,
        }
    }
    // SAFETY: the caller's promise.
    unsafe { pass::call(libc::SYS_getpeername, arguments) }
}

/// The address that the program asked for, or that has come by a proxy, if the broker connected this socket.
pub(crate) fn asked_for(fd: c_int, actual: SocketAddr) -> Option<Encoded> {
    let cookie = sys::cookie(fd).ok()?;
    let family = if actual.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    match ticket::ask(&Request::Peer { cookie, actual }, None) {
        Ok(Reply::Address(asked)) => Some(Encoded::new(sockaddr::in_family(asked, family))),
        _ => None,
    }
}

/// Writes an answer as far as there is room, and its whole length, as getpeername(2) has it. An option's length is the
/// written part (getsockopt(2)): callers cut the answer first.
///
/// # Safety
/// `len` is null or points to the number of writable bytes at `to`.
pub(crate) unsafe fn put(answer: &[u8], to: *mut c_void, len: *mut socklen_t) -> c_int {
    // SAFETY: the caller's promise.
    let Some(len) = (unsafe { len.as_mut() }) else {
        return fail(libc::EFAULT);
    };
    let room = (*len as usize).min(answer.len());
    if to.is_null() && room > 0 {
        return fail(libc::EFAULT);
    }
    // SAFETY: `room` bytes are writable (caller) and readable (min above); an answer of ours overlaps nothing of the program's.
    unsafe { core::ptr::copy_nonoverlapping(answer.as_ptr(), to.cast::<u8>(), room) };
    *len = answer.len() as socklen_t;
    0
}
