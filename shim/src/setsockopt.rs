//! setsockopt(): options that send packets by themselves, or lead those for loopback off the machine.
//!
//! | option | then |
//! | --- | --- |
//! | joining a group | `ENODEV`, but on lo: the kernel would report it to the routers (IGMP, MLD) |
//! | a source route | `EPERM`: the packet goes to its first stop, whatever its address |
//! | a device other than lo, on a socket that is connected to loopback, or is being connected | `ENODEV` |
//! | a device for the packets of an IPv6 socket by `IPV6_PKTINFO`, which nobody can ask for afterwards | `ENODEV` |
//! | all else | pass |
//!
//! The value is read once, into a copy; what passes after a look at it is the copy.
#![allow(unsafe_code)]

use core::net::Ipv4Addr;

use libc::{c_int, c_void, socklen_t};

use crate::errno::{Errno, fail};
use crate::pending::{self, State};
use crate::socket::{IP_UNICAST_IF, IPV6_2292RTHDR, IPV6_UNICAST_IF, is_not_loopback, speaks_to_loopback};

const MCAST_JOIN_GROUP: c_int = 42;
const MCAST_JOIN_SOURCE_GROUP: c_int = 46;
const IPV6_2292PKTOPTIONS: c_int = 6;
const IPV6_JOIN_ANYCAST: c_int = 27;

/// The longest value that is looked at: `struct group_source_req`.
const MAX_LEN: usize = 264;

redhook::hook! {
    // setsockopt(2). Changes: the table above. Passes: every other option. Errno: `ENODEV`, `EPERM`. Safe in a signal handler. No
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
            // SAFETY: no value: there is nothing that the kernel could take for one.
            return unsafe { redhook::real!(setsockopt)(fd, level, name, core::ptr::null(), len) };
        };
        // SAFETY: setsockopt(2) demands `len` readable bytes at `value`; `read` is no more, and fits the array.
        unsafe { core::ptr::copy_nonoverlapping(value.cast::<u8>(), copy.as_mut_ptr(), read) };
        if let Some(error) = refused(fd, kind, copy) {
            return fail(error);
        }
        // SAFETY: pointer and length are those of the copy.
        unsafe { redhook::real!(setsockopt)(fd, level, name, copy.as_ptr().cast(), read as socklen_t) }
    }
}

/// Finds the real function.
pub(crate) fn resolve() {
    let _ = redhook::real!(setsockopt);
}

/// The options that are looked at.
#[derive(Clone, Copy)]
enum Kind {
    /// `struct ip_mreq`, `ip_mreqn` or `ip_mreq_source`; the last has an address in the place of the second's index.
    JoinV4 { has_index: bool },
    /// A device's index at this place.
    Join { at: usize },
    /// Any value but none is one.
    Route,
    /// A device's index, as `int`.
    Device,
    /// The same, in network order.
    DeviceInNetworkOrder,
    /// A device's name.
    DeviceName,
    /// `struct in6_pktinfo`.
    PacketInfo,
}

fn kind(level: c_int, name: c_int) -> Option<Kind> {
    Some(match (level, name) {
        (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP) => Kind::JoinV4 { has_index: true },
        (libc::IPPROTO_IP, libc::IP_ADD_SOURCE_MEMBERSHIP) => Kind::JoinV4 { has_index: false },
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_JOIN_GROUP | MCAST_JOIN_SOURCE_GROUP) => {
            Kind::Join { at: 0 }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP | IPV6_JOIN_ANYCAST) => Kind::Join { at: 16 },
        (libc::IPPROTO_IP, libc::IP_OPTIONS)
        | (libc::IPPROTO_IPV6, libc::IPV6_RTHDR | IPV6_2292RTHDR | IPV6_2292PKTOPTIONS) => Kind::Route,
        (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => Kind::DeviceName,
        (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX) => Kind::Device,
        (libc::IPPROTO_IP, IP_UNICAST_IF) | (libc::IPPROTO_IPV6, IPV6_UNICAST_IF) => {
            Kind::DeviceInNetworkOrder
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => Kind::PacketInfo,
        _ => return None,
    })
}

/// The errno for a value that must not be set.
fn refused(fd: c_int, kind: Kind, value: &[u8]) -> Option<Errno> {
    let is_refused = match kind {
        Kind::JoinV4 { has_index } => !joins_on_loopback(value, has_index),
        Kind::Join { at } => number(value, at).is_none_or(|device| device == 0 || is_not_loopback(device)),
        Kind::Route => return (!value.is_empty()).then_some(libc::EPERM),
        Kind::PacketInfo => number(value, 16).is_some_and(is_not_loopback),
        Kind::Device => number(value, 0).is_some_and(is_not_loopback) && needs_loopback(fd),
        Kind::DeviceInNetworkOrder => {
            number(value, 0).is_some_and(|device| is_not_loopback(c_int::from_be(device)))
                && needs_loopback(fd)
        }
        Kind::DeviceName => {
            let name = value.split(|byte| *byte == 0).next().unwrap_or(&[]);
            !name.is_empty() && name != b"lo" && needs_loopback(fd)
        }
    };
    is_refused.then_some(libc::ENODEV)
}

/// The group comes first, then the address of a device, then its index, which goes before the address; or a source.
fn joins_on_loopback(value: &[u8], has_index: bool) -> bool {
    match number(value, 8).filter(|device| has_index && *device != 0) {
        Some(device) => !is_not_loopback(device),
        None => value
            .get(4..)
            .and_then(<[u8]>::first_chunk::<4>)
            .is_some_and(|address| Ipv4Addr::from(*address).is_loopback()),
    }
}

fn number(value: &[u8], at: usize) -> Option<c_int> {
    value.get(at..)?.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

/// Does what the socket is connected to have to stay on the machine?
fn needs_loopback(fd: c_int) -> bool {
    let is_pending = pending::any() && matches!(pending::state(fd), State::Waiting(_));
    is_pending || speaks_to_loopback(fd)
}
