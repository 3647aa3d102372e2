//! getnetbyname(3), getnetbyaddr(3) and their _r forms: no network has a name.
//!
//! libc asks the DNS where nsswitch.conf(5) says so, by sockets that no hook sees. Programs print the number then.
#![allow(unsafe_code)]

use core::ptr::null_mut;

use libc::{c_char, c_int, c_void, size_t};

use crate::errno;
use crate::gethostby::{HOST_NOT_FOUND, set_host_error};
use crate::refuse::refuse;

/// `struct netent` (getnetent(3)); never made here.
type Entry = *mut c_void;

refuse! { not_found() => Entry;
    getnetbyname => refuse_getnetbyname(name: *const c_char);
    getnetbyaddr => refuse_getnetbyaddr(network: u32, family: c_int);
}

fn not_found() -> Entry {
    set_host_error(HOST_NOT_FOUND);
    errno::set(0);
    null_mut()
}

redhook::hook! {
    // getnetent_r(3): 0 without a result, and h_errno by pointer.
    unsafe fn getnetbyname_r(
        name: *const c_char, entry: Entry, buffer: *mut c_char, len: size_t, result: *mut Entry, error: *mut c_int
    ) -> c_int => refuse_getnetbyname_r {
        let _ = (name, entry, buffer, len);
        // SAFETY: the caller's own pointers.
        unsafe { not_found_r(result, error) }
    }
}

redhook::hook! {
    // As getnetbyname_r.
    unsafe fn getnetbyaddr_r(
        network: u32, family: c_int, entry: Entry, buffer: *mut c_char, len: size_t, result: *mut Entry,
        error: *mut c_int
    ) -> c_int => refuse_getnetbyaddr_r {
        let _ = (network, family, entry, buffer, len);
        // SAFETY: the caller's own pointers.
        unsafe { not_found_r(result, error) }
    }
}

/// # Safety
/// The pointers are as getnetent_r(3) demands, or null.
unsafe fn not_found_r(result: *mut Entry, error: *mut c_int) -> c_int {
    if !result.is_null() {
        // SAFETY: not null; the caller's promise.
        unsafe { result.write(null_mut()) };
    }
    if !error.is_null() {
        // SAFETY: as above.
        unsafe { error.write(HOST_NOT_FOUND) };
    }
    errno::set(0);
    0
}
