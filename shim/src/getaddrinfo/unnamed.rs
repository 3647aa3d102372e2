//! getaddrinfo() without a node: the addresses to bind to, or those of loopback, about which nobody is asked.
//!
//! To sort an address of each family (RFC 3484) libc connects a UDP socket to either, in calls that no hook sees and the seccomp filter brings before the
//! broker; a program that nobody may look into is refused them. So libc makes a list for each family alone, and which comes first is found out here, by
//! the same connects with the pass: nothing is sent by them, and both addresses mean this machine. Where gai.conf(5) has another table of preferences
//! than libc's own, libc sorts itself.

use core::ffi::CStr;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ptr::{null, null_mut};

use libc::{addrinfo, c_char, c_int};
use once_cell::race::OnceBool;
use presocks_abi::sockaddr::Encoded;

use super::{Configured, default_hints, getaddrinfo, last_link, list_literal};
use crate::{lines, sys};

const PREFERENCES: &CStr = c"/etc/gai.conf";

/// As the real one, without a node.
///
/// # Safety
/// `service`, `hints` and `result` are as getaddrinfo(3) demands.
pub(super) unsafe fn list(
    service: *const c_char,
    hints: Option<&addrinfo>,
    result: *mut *mut addrinfo,
) -> c_int {
    let mut hints = hints.copied().unwrap_or_else(default_hints);
    let is_for_both = hints.ai_family == libc::AF_UNSPEC;
    if is_for_both && !has_usual_preferences() {
        // SAFETY: the caller's promise; without a node nothing is looked up.
        return unsafe { redhook::real!(getaddrinfo)(null(), service, &raw const hints, result) };
    }
    let there = Configured::asked_for(&mut hints);
    if !matches!(there, Configured::Family(libc::AF_UNSPEC)) {
        // SAFETY: the caller's promise.
        return unsafe { list_literal(null(), service, &hints, there, result) };
    }
    let families = if is_ipv4_first(hints.ai_flags & libc::AI_PASSIVE != 0) {
        [libc::AF_INET, libc::AF_INET6]
    } else {
        [libc::AF_INET6, libc::AF_INET]
    };
    let mut first = null_mut();
    let mut end = &raw mut first;
    for family in families {
        let hints = addrinfo { ai_family: family, ..hints };
        // SAFETY: the caller's service; `end` is `first`, or the last entry's own `ai_next`.
        let error = unsafe { redhook::real!(getaddrinfo)(null(), service, &raw const hints, end) };
        if error != 0 {
            if !first.is_null() {
                // SAFETY: the list is libc's, and the program is not given it.
                unsafe { libc::freeaddrinfo(first) };
            }
            return error;
        }
        // SAFETY: the call succeeded, so a list begins at `*end`.
        end = unsafe { last_link(end) };
    }
    // SAFETY: the caller's promise. After an error libc leaves it alone as well.
    unsafe { result.write(first) };
    0
}

/// By rules 1, 5 and 6 of RFC 3484: what can be reached comes first; then `0.0.0.0`, whose label is that of its source, before `::`, whose label is not; then
/// `::1` before `127.0.0.1`, and any IPv6 address before an IPv4 one that cannot be reached either.
fn is_ipv4_first(is_passive: bool) -> bool {
    if is_passive {
        can_reach(Ipv4Addr::UNSPECIFIED.into())
    } else {
        !can_reach(Ipv6Addr::LOCALHOST.into()) && can_reach(Ipv4Addr::LOCALHOST.into())
    }
}

/// `address` means this machine.
fn can_reach(address: IpAddr) -> bool {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let Ok(socket) = sys::own_socket(family, libc::SOCK_DGRAM) else { return false };
    let can = sys::connect(socket, Encoded::new(SocketAddr::new(address, 0)).as_bytes()).is_ok();
    sys::close(socket);
    can
}

/// Is there nothing in gai.conf(5) but comments? Asked once; libc reads it once as well.
fn has_usual_preferences() -> bool {
    static KNOWN: OnceBool = OnceBool::new();
    let is_silent = |line: &[u8]| {
        let said = line.iter().find(|byte| !byte.is_ascii_whitespace());
        said.is_none_or(|byte| *byte == b'#').then_some(())
    };
    // libc's own table stands where the file cannot be opened.
    KNOWN.get_or_init(|| lines::read(PREFERENCES, is_silent).unwrap_or(Some(())).is_some())
}
