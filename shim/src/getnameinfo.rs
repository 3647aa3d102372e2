//! getnameinfo: a stand-in's name, or a local one; no DNS server but the broker is asked.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::net::{IpAddr, SocketAddr};
use core::ptr::null_mut;

use libc::{c_char, c_int, socklen_t};
use presocks_proto::frame::{Reply, Request};
use presocks_proto::name::{self, Name};

use crate::errno::Errno;
use crate::idn::{self, Converted};
use crate::sockaddr::{self, Encoded, Given};
use crate::ticket;

/// netdb.h
const NI_IDN: c_int = 32;

redhook::hook! {
    // getnameinfo(3). Changes: the host's name comes from the broker, or is numeric. Passes: Unix addresses; all else numerically. Errors:
    // EAI_NONAME with NI_NAMEREQD when there is no name, EAI_OVERFLOW when there is no room.
    unsafe fn getnameinfo(
        address: *const libc::sockaddr, len: socklen_t, host: *mut c_char, host_len: socklen_t,
        service: *mut c_char, service_len: socklen_t, flags: c_int
    ) -> c_int => hooked_getnameinfo {
        // SAFETY: getnameinfo(3) demands `len` readable bytes at `address`.
        let given = unsafe { sockaddr::read(address, len) };
        // SAFETY: as above.
        let is_unix = unsafe { is_unix(address, len) };
        let wants_host = !host.is_null() && host_len > 0;
        let (Given::Ip(asked), true, 0) = (given, wants_host, flags & libc::NI_NUMERICHOST) else {
            // Nothing but a Unix address has a name that libc knows by itself.
            let flags = if is_unix { flags } else { flags | libc::NI_NUMERICHOST };
            // SAFETY: the caller's own arguments.
            return unsafe {
                redhook::real!(getnameinfo)(address, len, host, host_len, service, service_len, flags)
            };
        };
        let name = match name_of(asked.ip()) {
            Ok(name) => Some(name),
            _ if flags & libc::NI_NAMEREQD != 0 => return libc::EAI_NONAME,
            _ => None,
        };
        let numeric = (flags & !libc::NI_NAMEREQD) | libc::NI_NUMERICHOST;
        // SAFETY: the caller's own arguments but for the flags; the numeric host is overwritten below if there is a name.
        let error = unsafe {
            redhook::real!(getnameinfo)(address, len, host, host_len, service, service_len, numeric)
        };
        match name {
            // A short buffer may be too small for the address and yet hold the name.
            Some(name) if error == 0 || error == libc::EAI_OVERFLOW => {
                // SAFETY: getnameinfo(3) demands `host_len` writable bytes at `host`.
                unsafe { put(&name, flags & NI_IDN != 0, host, host_len as usize) }
            }
            _ => error,
        }
    }
}

/// Finds the real function.
pub(crate) fn resolve() {
    let _ = redhook::real!(getnameinfo);
}

/// The address's name, as the broker has it; where a sandbox forbids to ask it, by libc's own look-up, in which the seccomp filter brings
/// the query before the broker.
///
/// # Errors
/// `ENOENT` for an address without a name; others when the broker has no answer.
pub(crate) fn name_of(address: IpAddr) -> Result<Name, Errno> {
    match ticket::ask_unless_left(&Request::Reverse { address }) {
        Some(Ok(Reply::Name(name))) => Ok(name),
        Some(Ok(_)) => Err(libc::EAGAIN),
        Some(Err(error)) => Err(error),
        None => by_libc(address),
    }
}

fn by_libc(address: IpAddr) -> Result<Name, Errno> {
    let encoded = Encoded::new(SocketAddr::new(address, 0));
    let (address, len) = encoded.as_arguments();
    let mut text = [0_u8; name::MAX + 1];
    let (place, room) = (text.as_mut_ptr().cast(), text.len() as socklen_t);
    // SAFETY: an address and its length, room for a name, none for a service.
    let error =
        unsafe { redhook::real!(getnameinfo)(address, len, place, room, null_mut(), 0, libc::NI_NAMEREQD) };
    match error {
        0 => {}
        libc::EAI_NONAME => return Err(libc::ENOENT),
        _ => return Err(libc::EAGAIN),
    }
    let text = CStr::from_bytes_until_nul(&text).unwrap_or(c"");
    Name::new(text.to_bytes()).ok_or(libc::ENOENT)
}

/// Is this the address of a Unix socket?
///
/// # Safety
/// `address` is null or has `len` readable bytes.
unsafe fn is_unix(address: *const libc::sockaddr, len: socklen_t) -> bool {
    if address.is_null() || (len as usize) < size_of::<libc::sa_family_t>() {
        return false;
    }
    // SAFETY: the family comes first, and there is room for it; read_unaligned asks for no alignment.
    let family = unsafe { address.cast::<libc::sa_family_t>().read_unaligned() };
    c_int::from(family) == libc::AF_UNIX
}

/// Writes the name, or what it is in the program's locale, and a NUL.
///
/// # Safety
/// `room` bytes at `to` are writable.
unsafe fn put(name: &Name, in_locale: bool, to: *mut c_char, room: usize) -> c_int {
    let mut text = [0; name::MAX + 1];
    for (to, from) in text.iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    // There is a NUL: the last byte is one at the latest.
    let name = CStr::from_bytes_until_nul(&text).unwrap_or(c"");
    let shown = match if in_locale { idn::to_locale(name) } else { Ok(None) } {
        Ok(shown) => shown,
        Err(error) => return error,
    };
    let bytes = shown.as_ref().map_or(name, Converted::as_c_str).to_bytes_with_nul();
    if bytes.len() > room {
        return libc::EAI_OVERFLOW;
    }
    // SAFETY: checked to fit.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast::<u8>(), bytes.len()) };
    0
}
