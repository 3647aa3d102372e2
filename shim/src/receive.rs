//! recvfrom, recvmsg, recvmmsg: what the shim has to do with them is to show the pass.
//!
//! The seccomp filter brings them before the broker, which gives static programs the sender that they expect. Programs that the shim
//! is in expect the true one, as a socket of theirs speaks to loopback and to networks that the user declared direct, and
//! to nobody else. Calls without room for an address pass the filter as they are.
#![allow(unsafe_code)]

use libc::{c_int, c_uint, c_void, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

use crate::pass::{self, at, int, returned};

redhook::hook! {
    // recvfrom(2). Changes: nothing but the pass. Passes: a call without an address. Safe in a signal handler. A cancellation point.
    unsafe fn recvfrom(
        fd: c_int, data: *mut c_void, len: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t
    ) -> ssize_t => hooked_recvfrom {
        if address.is_null() {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(recvfrom)(fd, data, len, flags, address, address_len) };
        }
        let arguments = [int(fd), at(data), len, int(flags), at(address), at(address_len)];
        // SAFETY: the caller's own arguments.
        returned(unsafe { pass::wait(libc::SYS_recvfrom, arguments) })
    }
}

redhook::hook! {
    // The fortified form: `room` is what the compiler knows of the buffer. As recvfrom; ends the program when it is too small, in the
    // real call.
    unsafe fn __recvfrom_chk(
        fd: c_int, data: *mut c_void, len: size_t, room: size_t, flags: c_int, address: *mut sockaddr, address_len: *mut socklen_t
    ) -> ssize_t => hooked_recvfrom_chk {
        if address.is_null() || len > room {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(__recvfrom_chk)(fd, data, len, room, flags, address, address_len) };
        }
        // SAFETY: the caller's own arguments.
        unsafe { hooked_recvfrom(fd, data, len, flags, address, address_len) }
    }
}

redhook::hook! {
    // recvmsg(2). Changes: nothing but the pass. Safe in a signal handler. A cancellation point.
    unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t => hooked_recvmsg {
        let arguments = [int(fd), at(message), int(flags), 0, 0, 0];
        // SAFETY: the caller's own arguments.
        returned(unsafe { pass::wait(libc::SYS_recvmsg, arguments) })
    }
}

redhook::hook! {
    // recvmmsg(2). Changes: nothing but the pass. Safe in a signal handler. A cancellation point.
    unsafe fn recvmmsg(
        fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec
    ) -> c_int => hooked_recvmmsg {
        let arguments = [int(fd), at(messages), count as usize, int(flags), at(timeout), 0];
        // SAFETY: the caller's own arguments.
        returned(unsafe { pass::wait(libc::SYS_recvmmsg, arguments) }) as c_int
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(recvfrom);
    let _ = redhook::real!(__recvfrom_chk);
}
