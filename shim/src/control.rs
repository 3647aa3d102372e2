//! Control messages of sendmsg() that send a packet elsewhere than its address says (ip(7), ipv6(7), RFC 3542).
//!
//! A source route goes nowhere: its first stop is not the address that is judged. A device other than lo takes a packet for loopback off the
//! machine. Both are `ENETUNREACH`; all other control messages are the kernel's.
#![allow(unsafe_code)]

use libc::{c_int, cmsghdr, msghdr};

use crate::errno::Errno;
use crate::sockaddr::Given;
use crate::socket;

/// `struct cmsghdr`, and the boundary that the next one begins at (cmsg(3)).
const HEADER_LEN: usize = size_of::<cmsghdr>();

/// Judges the control messages of a send to `address`, or to the socket's peer.
///
/// # Safety
/// `msg_control` is null or has `msg_controllen` readable bytes.
pub(crate) unsafe fn check(fd: c_int, message: &msghdr, address: Given) -> Result<(), Errno> {
    if message.msg_control.is_null() {
        return Ok(());
    }
    let mut at = 0;
    while message.msg_controllen.saturating_sub(at) >= HEADER_LEN {
        // SAFETY: `at` is within the control messages, as just checked.
        let start = unsafe { message.msg_control.cast::<u8>().add(at) };
        // SAFETY: there is room for a header (above); read_unaligned asks for no alignment.
        let header = unsafe { start.cast::<cmsghdr>().read_unaligned() };
        let len = header.cmsg_len;
        if len < HEADER_LEN || len > message.msg_controllen - at {
            // For the kernel to refuse.
            return Ok(());
        }
        // SAFETY: `len` bytes are there, as just checked, and a header is no longer than that.
        let value = unsafe { start.add(HEADER_LEN) };
        // SAFETY: what is left of `len`.
        let value = unsafe { core::slice::from_raw_parts(value, len - HEADER_LEN) };
        match way(&header, value) {
            Way::Routed => return Err(libc::ENETUNREACH),
            Way::Device(device) if socket::is_not_loopback(device) && is_local(fd, address) => {
                return Err(libc::ENETUNREACH);
            }
            Way::Device(_) | Way::AsAddressed => {}
        }
        at += len.next_multiple_of(size_of::<usize>());
    }
    Ok(())
}

/// Where a control message sends its packet.
enum Way {
    AsAddressed,
    Device(c_int),
    Routed,
}

fn way(header: &cmsghdr, value: &[u8]) -> Way {
    const IP_RETOPTS: c_int = 7;
    const IPV6_2292PKTINFO: c_int = 2;
    let device = |at: usize| {
        let index = value.get(at..).and_then(<[u8]>::first_chunk);
        index.map_or(Way::AsAddressed, |index| Way::Device(c_int::from_ne_bytes(*index)))
    };
    match (header.cmsg_level, header.cmsg_type) {
        // struct in_pktinfo begins with the index, struct in6_pktinfo ends with it.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => device(0),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO | IPV6_2292PKTINFO) => device(16),
        (libc::IPPROTO_IP, IP_RETOPTS) | (libc::IPPROTO_IPV6, libc::IPV6_RTHDR | socket::IPV6_2292RTHDR) => {
            Way::Routed
        }
        _ => Way::AsAddressed,
    }
}

fn is_local(fd: c_int, address: Given) -> bool {
    match address {
        Given::Ip(destination) | Given::Unspecified(Some(destination)) => {
            socket::is_loopback(destination.ip())
        }
        _ => socket::speaks_to_loopback(fd),
    }
}
