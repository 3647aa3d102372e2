//! gethostbyname, gethostbyname2, gethostbyaddr, their _r forms, and what libresolv calls them.
//!
//! All are one function here: ask the broker, lay the answer out in a buffer. The _r forms bring a buffer, the others share one
//! of ours, as theirs is shared in libc. `h_aliases` is an empty list, never null.
#![allow(unsafe_code)]
#![allow(clippy::too_many_arguments, reason = "gethostbyaddr_r(3) has eight")]

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::null_mut;
use core::str::FromStr;

use libc::{c_char, c_int, c_void, hostent, size_t, socklen_t};
use presocks_proto::frame::Family;
use presocks_proto::name::Name;

use crate::errno::{self, Errno};
use crate::getaddrinfo::addresses_of;
use crate::getnameinfo::name_of;

pub(crate) const HOST_NOT_FOUND: c_int = 1;
pub(crate) const TRY_AGAIN: c_int = 2;
const NO_DATA: c_int = 4;
const NETDB_INTERNAL: c_int = -1;

redhook::hook! {
    // gethostbyname(3). Changes: a name is resolved by the broker. Errors: h_errno of gethostbyname(3). Not thread-safe, as the real one.
    unsafe fn gethostbyname(name: *const c_char) -> *mut hostent => hooked_gethostbyname {
        // SAFETY: the caller's own argument.
        unsafe { shared(|buffer| by_name(name, libc::AF_INET, buffer)) }
    }
}

redhook::hook! {
    // gethostbyname2(3). As gethostbyname, for AF_INET or AF_INET6.
    unsafe fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent => hooked_gethostbyname2 {
        // SAFETY: the caller's own arguments.
        unsafe { shared(|buffer| by_name(name, family, buffer)) }
    }
}

redhook::hook! {
    // gethostbyaddr(3). Changes: a stand-in's name, or a local one; nothing is asked of the DNS.
    unsafe fn gethostbyaddr(
        address: *const c_void, len: socklen_t, family: c_int
    ) -> *mut hostent => hooked_gethostbyaddr {
        // SAFETY: the caller's own arguments.
        unsafe { shared(|buffer| by_address(address, len, family, buffer)) }
    }
}

redhook::hook! {
    // libresolv's, for programs linked long ago. As gethostbyname.
    unsafe fn res_gethostbyname(name: *const c_char) -> *mut hostent => hooked_res_gethostbyname {
        // SAFETY: the caller's own argument.
        unsafe { hooked_gethostbyname(name) }
    }
}

redhook::hook! {
    // libresolv's. As gethostbyname2.
    unsafe fn res_gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent => hooked_res_gethostbyname2 {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_gethostbyname2(name, family) }
    }
}

redhook::hook! {
    // libresolv's. As gethostbyaddr.
    unsafe fn res_gethostbyaddr(
        address: *const c_void, len: socklen_t, family: c_int
    ) -> *mut hostent => hooked_res_gethostbyaddr {
        // SAFETY: the caller's own arguments.
        unsafe { hooked_gethostbyaddr(address, len, family) }
    }
}

redhook::hook! {
    // gethostbyname_r(3): 0, or an errno (`ERANGE`: the buffer is too small).
    unsafe fn gethostbyname_r(
        name: *const c_char, entry: *mut hostent, buffer: *mut c_char, len: size_t,
        result: *mut *mut hostent, error: *mut c_int
    ) -> c_int => hooked_gethostbyname_r {
        // SAFETY: the caller's own arguments.
        unsafe { reentrant(entry, buffer, len, result, error, |buffer| by_name(name, libc::AF_INET, buffer)) }
    }
}

redhook::hook! {
    // gethostbyname2_r(3). As gethostbyname_r, for AF_INET or AF_INET6.
    unsafe fn gethostbyname2_r(
        name: *const c_char, family: c_int, entry: *mut hostent, buffer: *mut c_char, len: size_t,
        result: *mut *mut hostent, error: *mut c_int
    ) -> c_int => hooked_gethostbyname2_r {
        // SAFETY: the caller's own arguments.
        unsafe { reentrant(entry, buffer, len, result, error, |buffer| by_name(name, family, buffer)) }
    }
}

redhook::hook! {
    // gethostbyaddr_r(3).
    unsafe fn gethostbyaddr_r(
        address: *const c_void, address_len: socklen_t, family: c_int, entry: *mut hostent,
        buffer: *mut c_char, len: size_t, result: *mut *mut hostent, error: *mut c_int
    ) -> c_int => hooked_gethostbyaddr_r {
        let work = |buffer: &mut Buffer| by_address(address, address_len, family, buffer);
        // SAFETY: the caller's own arguments.
        unsafe { reentrant(entry, buffer, len, result, error, work) }
    }
}

/// Why there is no entry.
enum Failure {
    /// The look-up's answer, an h_errno.
    Host(c_int),
    /// Not a name: there is nothing to look up.
    NoName,
    /// `EAFNOSUPPORT`: neither IPv4 nor IPv6, or an address of another length; and the h_errno that libc has for it.
    Family(c_int),
    /// The buffer is too small.
    TooSmall,
}

impl Failure {
    /// The status of a _r form, which is its errno as well.
    fn status(&self) -> Errno {
        match self {
            Self::Host(TRY_AGAIN) => libc::EAGAIN,
            Self::Host(_) | Self::NoName => 0,
            Self::Family(_) => libc::EAFNOSUPPORT,
            Self::TooSmall => libc::ERANGE,
        }
    }

    fn host_error(&self) -> c_int {
        match self {
            Self::Host(host_error) | Self::Family(host_error) => *host_error,
            Self::NoName => HOST_NOT_FOUND,
            Self::TooSmall => NETDB_INTERNAL,
        }
    }
}

fn by_name(name: *const c_char, family: c_int, buffer: &mut Buffer) -> Result<hostent, Failure> {
    if name.is_null() {
        return Err(Failure::Host(HOST_NOT_FOUND));
    }
    // SAFETY: not null; gethostbyname(3) demands a string.
    let name = unsafe { CStr::from_ptr(name) };
    let wanted = match family {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(Failure::Family(NO_DATA)),
    };
    if let Some(address) = literal(name, wanted) {
        return buffer.lay_out(name.to_bytes(), family, [address].into_iter());
    }
    let other = if wanted == Family::V4 { Family::V6 } else { Family::V4 };
    if literal(name, other).is_some() {
        return Err(Failure::NoName);
    }
    let asked = Name::new(name.to_bytes()).ok_or(Failure::NoName)?;
    match addresses_of(asked, wanted) {
        Ok(addresses) => buffer.lay_out(name.to_bytes(), family, addresses.iter()),
        Err(error) => Err(Failure::Host(if error == libc::ENOENT { HOST_NOT_FOUND } else { TRY_AGAIN })),
    }
}

/// A name that is an address already: inet_aton(3)'s forms for IPv4, inet_pton(3)'s for IPv6.
fn literal(name: &CStr, family: Family) -> Option<IpAddr> {
    if family == Family::V6 {
        let text = name.to_str().ok()?;
        return Ipv6Addr::from_str(text).ok().map(IpAddr::from);
    }
    let mut address = libc::in_addr { s_addr: 0 };
    // SAFETY: a string and room for an address.
    let is_address = unsafe { inet_aton(name.as_ptr(), &raw mut address) };
    (is_address != 0).then(|| Ipv4Addr::from(address.s_addr.to_ne_bytes()).into())
}

unsafe extern "C" {
    fn inet_aton(text: *const c_char, address: *mut libc::in_addr) -> c_int;
    fn __h_errno_location() -> *mut c_int;
}

fn by_address(
    address: *const c_void,
    len: socklen_t,
    family: c_int,
    buffer: &mut Buffer,
) -> Result<hostent, Failure> {
    let not_found = Failure::Host(HOST_NOT_FOUND);
    let wanted = match family {
        libc::AF_INET => 4,
        libc::AF_INET6 => 16,
        _ => return Err(Failure::Family(NETDB_INTERNAL)),
    };
    if len as usize != wanted {
        return Err(Failure::Family(NETDB_INTERNAL));
    }
    if address.is_null() {
        return Err(not_found);
    }
    if buffer.len < SMALLEST {
        return Err(Failure::TooSmall);
    }
    // SAFETY: gethostbyaddr(3) demands `len` readable bytes.
    let octets = unsafe { core::slice::from_raw_parts(address.cast::<u8>(), wanted) };
    let address = match (<[u8; 4]>::try_from(octets), <[u8; 16]>::try_from(octets)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(not_found),
    };
    match name_of(address) {
        Ok(name) => buffer.lay_out(name.as_bytes(), family, [address].into_iter()),
        Err(libc::ENOENT) => Err(not_found),
        Err(_) => Err(Failure::Host(TRY_AGAIN)),
    }
}

/// Runs a _r form.
///
/// # Safety
/// The pointers are as gethostbyname_r(3) demands.
unsafe fn reentrant(
    entry: *mut hostent,
    buffer: *mut c_char,
    len: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
    work: impl FnOnce(&mut Buffer) -> Result<hostent, Failure>,
) -> c_int {
    let mut buffer = Buffer { start: buffer.cast(), len, used: 0 };
    let (found, status, host_error): (*mut hostent, Errno, c_int) = match work(&mut buffer) {
        Ok(host) => {
            // SAFETY: gethostbyname_r(3) demands room for an entry.
            unsafe { entry.write(host) };
            (entry, 0, 0)
        }
        Err(failure) => {
            // glibc's look-up sets the thread's own as well, and there are programs that read it: CPython's gethostbyaddr().
            if let Failure::Host(host_error) = failure {
                set_host_error(host_error);
            }
            (null_mut(), failure.status(), failure.host_error())
        }
    };
    // SAFETY: gethostbyname_r(3) demands a place for the result.
    unsafe { result.write(found) };
    if !error.is_null() {
        // SAFETY: not null.
        unsafe { error.write(host_error) };
    }
    errno::set(status);
    status
}

/// What the shortest entry takes, an IPv4 address with a name of one letter: with less there is no use in asking, and libc does not.
const SMALLEST: usize = 4 + 3 * size_of::<*mut c_char>() + 2;

/// Room for an entry with the longest name and the most addresses.
const SHARED_LEN: usize = 1024;

#[repr(align(16))]
struct Shared {
    entry: UnsafeCell<hostent>,
    buffer: UnsafeCell<[u8; SHARED_LEN]>,
}

// SAFETY: gethostbyname(3) is not thread-safe; whoever calls it from several threads has a race in libc as well.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    entry: UnsafeCell::new(hostent {
        h_name: null_mut(),
        h_aliases: null_mut(),
        h_addrtype: 0,
        h_length: 0,
        h_addr_list: null_mut(),
    }),
    buffer: UnsafeCell::new([0; SHARED_LEN]),
};

/// Runs a form that answers in static memory.
///
/// # Safety
/// As for gethostbyname(3), only one thread at a time.
unsafe fn shared(work: impl FnOnce(&mut Buffer) -> Result<hostent, Failure>) -> *mut hostent {
    let mut buffer = Buffer { start: SHARED.buffer.get().cast(), len: SHARED_LEN, used: 0 };
    match work(&mut buffer) {
        Ok(host) => {
            let entry = SHARED.entry.get();
            // SAFETY: static memory, one thread at a time (caller).
            unsafe { entry.write(host) };
            entry
        }
        Err(failure) => {
            set_host_error(failure.host_error());
            errno::set(failure.status());
            null_mut()
        }
    }
}

/// Sets the calling thread's h_errno.
pub(crate) fn set_host_error(value: c_int) {
    // SAFETY: glibc guarantees a valid, thread-local location.
    let location = unsafe { __h_errno_location() };
    // SAFETY: as above.
    unsafe { location.write(value) };
}

/// The caller's memory, used from the front.
struct Buffer {
    start: *mut u8,
    len: usize,
    used: usize,
}

impl Buffer {
    fn lay_out(
        &mut self,
        name: &[u8],
        family: c_int,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Result<hostent, Failure> {
        const MOST: usize = presocks_proto::frame::MAX_ADDRESSES;
        let mut list = [null_mut::<c_char>(); MOST + 1];
        let mut count = 0;
        for (place, address) in
            list.iter_mut().zip(addresses.filter(|address| fits(*address, family))).take(MOST)
        {
            *place = match address {
                IpAddr::V4(v4) => self.put(&v4.octets())?,
                IpAddr::V6(v6) => self.put(&v6.octets())?,
            };
            count += 1;
        }
        if count == 0 {
            return Err(Failure::Host(HOST_NOT_FOUND));
        }
        let h_addr_list = self.put(list.get(..=count).unwrap_or(&[]))?;
        let h_aliases = self.put(&[null_mut::<c_char>()])?;
        let h_name = self.put(name)?;
        self.put(&[0_u8])?;
        let h_length = if family == libc::AF_INET { 4 } else { 16 };
        Ok(hostent {
            h_name,
            h_aliases: h_aliases.cast(),
            h_addrtype: family,
            h_length,
            h_addr_list: h_addr_list.cast(),
        })
    }

    /// Copies values in, aligned as their type demands (as a pointer for a first one); where they are.
    fn put<T: Copy>(&mut self, values: &[T]) -> Result<*mut c_char, Failure> {
        let end = self.start.addr() + self.used;
        let begin = self.used + end.next_multiple_of(align_of::<T>()) - end;
        let len = size_of_val(values);
        if begin.checked_add(len).is_none_or(|used| used > self.len) {
            return Err(Failure::TooSmall);
        }
        // SAFETY: the sum was just checked to be within the caller's buffer.
        let to = unsafe { self.start.add(begin) };
        // SAFETY: `len` bytes are free there; the values are elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), to, len) };
        self.used = begin + len;
        Ok(to.cast())
    }
}

fn fits(address: IpAddr, family: c_int) -> bool {
    address.is_ipv4() == (family == libc::AF_INET)
}
