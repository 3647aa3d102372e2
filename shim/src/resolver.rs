//! The resolver's own interface (resolver(3)): refused.
//!
//! These calls ask a name server by sockets that no hook sees. Until the broker answers DNS messages they fail as a server
//! that does not answer: -1, h_errno TRY_AGAIN, errno ENETUNREACH. getaddrinfo_a(3) would look names up in threads of libc's
//! own, past our getaddrinfo: EAI_AGAIN.
#![allow(unsafe_code)]

use libc::{c_char, c_int, c_void};

use crate::errno::fail;
use crate::gethostby::{TRY_AGAIN, set_host_error};
use crate::refuse::refuse;

refuse! { refused() => c_int;
    res_query => refuse_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    __res_query => refuse_query_old(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    res_search => refuse_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    __res_search => refuse_search_old(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    res_querydomain => refuse_querydomain(
        name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    __res_querydomain => refuse_querydomain_old(
        name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    res_send => refuse_send(message: *const u8, message_len: c_int, answer: *mut u8, len: c_int);
    __res_send => refuse_send_old(message: *const u8, message_len: c_int, answer: *mut u8, len: c_int);
    res_nquery => refuse_nquery(
        state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    __res_nquery => refuse_nquery_old(
        state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    res_nsearch => refuse_nsearch(
        state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    __res_nsearch => refuse_nsearch_old(
        state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    res_nquerydomain => refuse_nquerydomain(
        state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int,
        answer: *mut u8, len: c_int);
    __res_nquerydomain => refuse_nquerydomain_old(
        state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int,
        answer: *mut u8, len: c_int);
    res_nsend => refuse_nsend(
        state: *mut c_void, message: *const u8, message_len: c_int, answer: *mut u8, len: c_int);
    __res_nsend => refuse_nsend_old(
        state: *mut c_void, message: *const u8, message_len: c_int, answer: *mut u8, len: c_int);
}

fn refused() -> c_int {
    set_host_error(TRY_AGAIN);
    fail(libc::ENETUNREACH)
}

redhook::hook! {
    unsafe fn getaddrinfo_a(
        mode: c_int, list: *mut *mut c_void, count: c_int, event: *mut c_void
    ) -> c_int => refuse_getaddrinfo_a {
        let _ = (mode, list, count, event);
        libc::EAI_AGAIN
    }
}
