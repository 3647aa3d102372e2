//! setsockopt(): options that send packets by themselves, or lead those for loopback off the machine.
//!
//! Which, and what becomes of them, says `presocks_abi::option`. The value is read once, into a copy; what passes after a look at it is the copy.
#![allow(unsafe_code)]

use libc::{c_int, c_void, socklen_t};
use presocks_abi::option::{MAX_LEN, kind, refused};

use crate::errno::fail;
use crate::pass::{self, at, int, returned};
use crate::pending::{self, State};
use crate::socket::stays_here;
use crate::{datagram, flows, sys};

redhook::hook! {
    // setsockopt(2). Changes: the options that are looked at. Passes: every other one. Errno: `ENODEV`, `EPERM`. Safe in a signal handler. No
    // cancellation point.
    unsafe fn setsockopt(
        fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t
    ) -> c_int => hooked_setsockopt {
        let Some(kind) = kind(level, name) else {
            // SAFETY: the caller's own arguments.
            return unsafe { redhook::real!(setsockopt)(fd, level, name, value, len) };
        };
        let mut bytes = [0_u8; MAX_LEN];
        let read = (len as usize).min(MAX_LEN);
        let Some(copy) = bytes.get_mut(..read).filter(|_| !value.is_null() && c_int::try_from(len).is_ok()) else {
            let arguments = [int(fd), int(level), int(name), 0, len as usize, 0];
            // SAFETY: no value: there is nothing that the kernel could take for one.
            return returned(unsafe { pass::call(libc::SYS_setsockopt, arguments) }) as c_int;
        };
        // SAFETY: setsockopt(2) demands `len` readable bytes at `value`; `read` is no more, and fits the array.
        unsafe { core::ptr::copy_nonoverlapping(value.cast::<u8>(), copy.as_mut_ptr(), read) };
        if let Some(error) = refused(kind, copy, || needs_loopback(fd)) {
            return fail(error);
        }
        let arguments = [int(fd), int(level), int(name), at(copy.as_ptr()), read, 0];
        // SAFETY: pointer and length are those of the copy.
        let result = unsafe { pass::call(libc::SYS_setsockopt, arguments) };
        // Another thread may have connected it meanwhile. A stream's connect looks once more itself.
        if result.is_ok()
            && let Some(error) = refused(kind, copy, || datagram::is_connected_here(fd))
        {
            let _ = sys::dissolve(fd);
            flows::forget();
            return fail(error);
        }
        returned(result) as c_int
    }
}

/// Finds the real function.
pub(crate) fn resolve() {
    let _ = redhook::real!(setsockopt);
}

/// Does what the socket is connected to have to stay on the machine?
fn needs_loopback(fd: c_int) -> bool {
    let is_pending = pending::any() && matches!(pending::state(fd), State::Waiting(_));
    is_pending || stays_here(fd)
}
