//! getaddrinfo_a: libc would look names up in threads of its own, past our getaddrinfo.
//!
//! A look-up is one question to the broker, so all are made at once, and nothing is ever in progress: gai_error(3), gai_suspend(3) and
//! gai_cancel(3) are libc's, and find that all is done.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};

use libc::{addrinfo, c_char, c_int, c_void};

use crate::errno::fail;
use crate::getaddrinfo::hooked_getaddrinfo;
use crate::rpc::is_elsewhere;

const GAI_WAIT: c_int = 0;
const GAI_NOWAIT: c_int = 1;

/// `struct gaicb` (netdb.h).
#[repr(C)]
struct Request {
    name: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut addrinfo,
    /// What gai_error(3) returns.
    outcome: c_int,
    reserved: [c_int; 5],
}

/// Before glibc 2.34 it is in libanl, which is there when the program was linked with it.
static IS_THERE: AtomicBool = AtomicBool::new(false);

redhook::hook! {
    // getaddrinfo_a(3). Changes: the look-ups are done when it returns. Passes: the notification, which libc makes for an empty list.
    // Errors: EAI_SYSTEM and `EINVAL` for another mode; those of getaddrinfo by gai_error(3). Not safe in a signal handler.
    unsafe fn getaddrinfo_a(
        mode: c_int, list: *mut *mut c_void, count: c_int, event: *mut c_void
    ) -> c_int => hooked_getaddrinfo_a {
        if !matches!(mode, GAI_WAIT | GAI_NOWAIT) {
            fail(libc::EINVAL);
            return libc::EAI_SYSTEM;
        }
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: getaddrinfo_a(3) demands a list of `count` pointers.
            let place = unsafe { list.add(index) };
            // SAFETY: as above.
            let request = unsafe { place.read() }.cast::<Request>();
            if !request.is_null() {
                // SAFETY: getaddrinfo_a(3) demands null or a request.
                unsafe { look_up(request) };
            }
        }
        if mode == GAI_NOWAIT && IS_THERE.load(Ordering::Relaxed) {
            // SAFETY: the caller's own arguments, but for the count: with nothing to look up libc only notifies.
            return unsafe { redhook::real!(getaddrinfo_a)(mode, list, 0, event) };
        }
        0
    }
}

/// Finds the real function.
pub(crate) fn resolve() {
    if is_elsewhere("getaddrinfo_a\0") {
        let _ = redhook::real!(getaddrinfo_a);
        IS_THERE.store(true, Ordering::Relaxed);
    }
}

/// # Safety
/// `request` points to a request.
unsafe fn look_up(request: *mut Request) {
    // SAFETY: the caller's promise.
    let name = unsafe { (*request).name };
    // SAFETY: the caller's promise.
    let service = unsafe { (*request).service };
    // SAFETY: the caller's promise.
    let hints = unsafe { (*request).hints };
    // SAFETY: the caller's promise.
    let result = unsafe { &raw mut (*request).result };
    // SAFETY: the request's strings and hints are as getaddrinfo(3) demands.
    let outcome = unsafe { hooked_getaddrinfo(name, service, hints, result) };
    // SAFETY: the caller's promise.
    unsafe { (*request).outcome = outcome };
}
