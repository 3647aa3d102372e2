//! getaddrinfo: names get stand-in addresses, libc makes the list.
//!
//! The real getaddrinfo is only called with `AI_NUMERICHOST`: its own look-ups go through calls that no hook can
//! see. (In a sandbox that forbids to ask the broker they are what is left, and only where the seccomp filter sees them: [`addresses_of`].) A literal is its business; for a name the broker gives addresses (a stand-in, or those of a local name) and the real
//! function is called with each in numeric form, so that services, socket types, protocols and the memory that freeaddrinfo
//! frees are libc's. With `AI_IDN` libc converts a name before it looks whether that is a literal; what it then would look up is what the
//! broker is asked for (`idn`).
#![allow(unsafe_code)]

mod unnamed;

use core::ffi::CStr;
use core::fmt::Write;
use core::net::IpAddr;
use core::ptr::{null, null_mut};

use libc::{addrinfo, c_char, c_int};
use presocks_proto::frame::{Addresses, Family, Reply, Request};
use presocks_proto::name::{self, Name};
use presocks_proto::session::Localhost;

use crate::errno::Errno;
use crate::idn::{self, Converted};
use crate::netlink::Families;
use crate::sockaddr::{self, Given};
use crate::{errno, session, ticket};

/// The flags that only a look-up needs.
const LOOK_UP_FLAGS: c_int = libc::AI_CANONNAME | AI_IDN | AI_CANONIDN;
const AI_IDN: c_int = 0x0040;
const AI_CANONIDN: c_int = 0x0080;

/// The name that a session may know of itself.
const LOCALHOST: &[u8] = b"localhost";

redhook::hook! {
    // getaddrinfo(3). Changes: a name is resolved by the broker. Passes: no node (`unnamed`), numeric nodes, what libc cannot convert (AI_IDN). Errors:
    // EAI_NONAME for a name that cannot be one or has no address of the family; EAI_AGAIN without a broker. Not safe in a signal
    // handler, as the real one.
    unsafe fn getaddrinfo(
        node: *const c_char, service: *const c_char, hints: *const addrinfo, result: *mut *mut addrinfo
    ) -> c_int => hooked_getaddrinfo {
        // SAFETY: `hints` is null or points to hints, as getaddrinfo(3) demands.
        let given = unsafe { hints.as_ref() };
        if node.is_null() {
            // SAFETY: the caller's own arguments.
            return unsafe { unnamed::list(service, given, result) };
        }
        let mut numeric = given.copied().unwrap_or_else(default_hints);
        let is_literal = numeric.ai_flags & libc::AI_NUMERICHOST != 0;
        numeric.ai_flags |= libc::AI_NUMERICHOST;
        let there = Configured::asked_for(&mut numeric);
        // SAFETY: the caller's own arguments but for the hints, which forbid a look-up.
        let literal = unsafe { list_literal(node, service, &numeric, there, result) };
        if is_literal || literal != libc::EAI_NONAME {
            return literal;
        }
        // SAFETY: `node` is not null and ends with a NUL, as getaddrinfo(3) demands.
        let node = unsafe { CStr::from_ptr(node) };
        let is_converted = numeric.ai_flags & AI_IDN != 0 && !node.to_bytes().is_ascii();
        let converted = match is_converted.then(|| idn::to_ascii(node)).transpose() {
            Ok(converted) => converted,
            Err(error) => return error,
        };
        let node = converted.as_ref().map_or(node, Converted::as_c_str);
        let addresses = match look_up(node.to_bytes(), numeric.ai_family) {
            Ok(addresses) => addresses,
            Err(error) => return error,
        };
        let flags = numeric.ai_flags;
        numeric.ai_flags &= !LOOK_UP_FLAGS;
        // SAFETY: the caller's service and result.
        let error = unsafe { list(&addresses, service, &numeric, there, result) };
        if error == 0 && flags & libc::AI_CANONNAME != 0 {
            // SAFETY: the list was just made, with at least one entry.
            return unsafe { set_canonical_name(result, node, flags & AI_CANONIDN != 0) };
        }
        error
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(getaddrinfo);
}

/// What glibc assumes without hints (getaddrinfo(3)).
fn default_hints() -> addrinfo {
    addrinfo {
        ai_flags: libc::AI_V4MAPPED | libc::AI_ADDRCONFIG,
        ai_family: libc::AF_UNSPEC,
        ai_socktype: 0,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: null_mut(),
        ai_canonname: null_mut(),
        ai_next: null_mut(),
    }
}

fn look_up(node: &[u8], family: c_int) -> Result<Addresses, c_int> {
    let family = match family {
        libc::AF_UNSPEC => Family::Any,
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(libc::EAI_FAMILY),
    };
    let name = Name::new(node).filter(|name| !is_address(name)).ok_or(libc::EAI_NONAME)?;
    match addresses_of(name, family) {
        Ok(addresses) => Ok(addresses),
        Err(libc::ENOENT) => Err(libc::EAI_NONAME),
        _ => Err(libc::EAI_AGAIN),
    }
}

/// The name's addresses, as the broker has them; where a sandbox forbids to ask it, by libc's own look-up, in which the seccomp filter
/// brings the query before the broker.
///
/// # Errors
/// `ENOENT` for a name without such an address; others when the broker has no answer.
pub(crate) fn addresses_of(name: Name, family: Family) -> Result<Addresses, Errno> {
    let localhost = if name.bare() == LOCALHOST { session::localhost() } else { Localhost::Unknown };
    if localhost != Localhost::Unknown {
        let is_wanted = |address: &&IpAddr| match family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        };
        let mut wanted = localhost.addresses().iter().filter(is_wanted).copied().peekable();
        return if wanted.peek().is_some() { Ok(wanted.collect()) } else { Err(libc::ENOENT) };
    }
    match ticket::ask_unless_left(&Request::Resolve { name, family }) {
        Some(Ok(Reply::Addresses(addresses))) => Ok(addresses),
        Some(Ok(_)) => Err(libc::EAGAIN),
        Some(Err(error)) => Err(error),
        None => by_libc(&name, family),
    }
}

fn by_libc(name: &Name, family: Family) -> Result<Addresses, Errno> {
    let mut text = [0_u8; name::MAX + 1];
    for (to, from) in text.iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    let hints = addrinfo {
        ai_flags: 0,
        ai_family: match family {
            Family::Any => libc::AF_UNSPEC,
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        },
        ai_socktype: libc::SOCK_STREAM,
        ..default_hints()
    };
    let mut list = null_mut();
    // SAFETY: a string that ends with a NUL, no service, hints, and a place for the list.
    let error =
        unsafe { redhook::real!(getaddrinfo)(text.as_ptr().cast(), null(), &raw const hints, &raw mut list) };
    match error {
        0 => {}
        libc::EAI_NONAME | libc::EAI_NODATA => return Err(libc::ENOENT),
        _ => return Err(libc::EAGAIN),
    }
    let mut entry = list;
    let addresses = core::iter::from_fn(|| {
        // SAFETY: null, or an entry of libc's list, which is valid until it is freed.
        let this = unsafe { entry.as_ref() }?;
        entry = this.ai_next;
        Some(this)
    })
    // SAFETY: an entry's address has the length that it says.
    .filter_map(|entry| match unsafe { sockaddr::read(entry.ai_addr, entry.ai_addrlen) } {
        Given::Ip(address) => Some(address.ip()),
        _ => None,
    })
    .collect();
    // SAFETY: the list is libc's.
    unsafe { libc::freeaddrinfo(list) };
    Ok(addresses)
}

/// An address that libc did not want, for its family or because this host has none of the kind, is not a name for that.
fn is_address(name: &Name) -> bool {
    let text = core::str::from_utf8(name.as_bytes()).unwrap_or_default();
    text.contains(':') || text.parse::<IpAddr>().is_ok()
}

/// What `AI_ADDRCONFIG` leaves of the families that are wanted.
///
/// libc would ask the kernel each time that it makes an entry, and in a way that the seccomp filter brings before the broker (`netlink`).
#[derive(Clone, Copy)]
enum Configured {
    /// This one, which is `AF_UNSPEC` for all.
    Family(c_int),
    /// This host has no address of the family.
    Nothing,
}

impl Configured {
    /// Takes the flag out of the hints.
    fn asked_for(hints: &mut addrinfo) -> Self {
        let family = hints.ai_family;
        if hints.ai_flags & libc::AI_ADDRCONFIG == 0 {
            return Self::Family(family);
        }
        hints.ai_flags &= !libc::AI_ADDRCONFIG;
        Families::of_this_machine().narrow(family).map_or(Self::Nothing, Self::Family)
    }
}

/// libc's list for an address in numeric form. `EAI_NONAME` for what is none.
///
/// # Safety
/// As for getaddrinfo(3).
unsafe fn list_literal(
    node: *const c_char,
    service: *const c_char,
    hints: &addrinfo,
    there: Configured,
    result: *mut *mut addrinfo,
) -> c_int {
    let Configured::Family(family) = there else {
        let mut none = null_mut();
        // SAFETY: the caller's promise.
        let error = unsafe { redhook::real!(getaddrinfo)(node, service, hints, &raw mut none) };
        if error == 0 {
            // SAFETY: the list is libc's.
            unsafe { libc::freeaddrinfo(none) };
        }
        // What is wrong with the hints themselves is said first.
        return if matches!(error, libc::EAI_BADFLAGS | libc::EAI_FAMILY) { error } else { libc::EAI_NONAME };
    };
    let hints = addrinfo { ai_family: family, ..*hints };
    // SAFETY: the caller's promise.
    unsafe { redhook::real!(getaddrinfo)(node, service, &raw const hints, result) }
}

/// The list for all addresses, made by libc one by one and joined: glibc frees a list entry by entry. With `AI_ADDRCONFIG` a family that
/// this host does not have is left out; what is then left is not nothing, for every host reaches the stand-ins.
///
/// # Safety
/// `service` and `result` are as getaddrinfo(3) demands.
unsafe fn list(
    addresses: &Addresses,
    service: *const c_char,
    hints: &addrinfo,
    there: Configured,
    result: *mut *mut addrinfo,
) -> c_int {
    let mut end = result;
    let mut error = libc::EAI_NONAME;
    for there in [there, Configured::Family(hints.ai_family)] {
        let Configured::Family(family) = there else { continue };
        let hints = addrinfo { ai_family: family, ..*hints };
        for address in addresses.iter() {
            let text = Numeric::new(address);
            // SAFETY: `text` ends with a NUL; `end` is `result`, or the last entry's own `ai_next`.
            error = unsafe { redhook::real!(getaddrinfo)(text.as_ptr(), service, &raw const hints, end) };
            if error == 0 {
                // SAFETY: the call succeeded, so a list begins at `*end`.
                end = unsafe { last_link(end) };
            }
        }
        if end != result {
            return 0;
        }
    }
    error
}

/// The null link at the end of the list that begins at `*link`.
///
/// # Safety
/// `link` points to a list of libc's making, or null.
unsafe fn last_link(mut link: *mut *mut addrinfo) -> *mut *mut addrinfo {
    loop {
        // SAFETY: the caller's promise.
        let entry = unsafe { link.read() };
        if entry.is_null() {
            return link;
        }
        // SAFETY: entries of a list are valid until it is freed.
        link = unsafe { &raw mut (*entry).ai_next };
    }
}

/// Puts the name as it was looked up, or in the program's locale, into the first entry, where `AI_CANONNAME` has it; freeaddrinfo frees it.
///
/// # Safety
/// `result` points to a list of libc's making.
unsafe fn set_canonical_name(result: *mut *mut addrinfo, name: &CStr, in_locale: bool) -> c_int {
    // SAFETY: the caller's promise.
    let first = unsafe { result.read() };
    let shown = if in_locale { idn::to_locale(name) } else { Ok(None) };
    let copy = shown.map_or(null_mut(), |shown| {
        let name = shown.as_ref().map_or(name, Converted::as_c_str);
        // SAFETY: `name` ends with a NUL.
        unsafe { libc::strdup(name.as_ptr()) }
    });
    if copy.is_null() {
        // SAFETY: the list is libc's.
        unsafe { libc::freeaddrinfo(first) };
        return libc::EAI_MEMORY;
    }
    // SAFETY: the caller's promise; without AI_CANONNAME in the hints libc has left the field null.
    unsafe { (*first).ai_canonname = copy };
    0
}

/// An address in numeric form, with a NUL at its end.
pub(crate) struct Numeric {
    text: [u8; 48],
    len: usize,
}

impl Numeric {
    pub(crate) fn new(address: IpAddr) -> Self {
        let kept = errno::current();
        let mut numeric = Self { text: [0; 48], len: 0 };
        // The longest IPv6 address has 45 bytes.
        let _ = write!(numeric, "{address}");
        errno::set(kept);
        numeric
    }

    pub(crate) fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }
}

impl Write for Numeric {
    fn write_str(&mut self, more: &str) -> core::fmt::Result {
        // One byte is left for the NUL.
        let room = self.text.len() - 1;
        for byte in more.bytes() {
            let place = self.text.get_mut(self.len).filter(|_| self.len < room).ok_or(core::fmt::Error)?;
            *place = byte;
            self.len += 1;
        }
        Ok(())
    }
}
