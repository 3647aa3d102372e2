//! socket(): the kinds that could carry IP packets past the proxy are refused when they are made. What kind a socket is, its addresses, and whether it was
//! told to send what is for loopback somewhere else.
#![allow(unsafe_code)]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
pub(crate) use presocks_abi::socket::Kind;
use presocks_abi::socket::{IP_UNICAST_IF, IPV6_UNICAST_IF, is_loopback, is_not_loopback, refused};

use crate::errno::{Errno, fail};
use crate::sockaddr::{self, Given};
use crate::{sys, ticket};

redhook::hook! {
    // socket(2). Changes: see `presocks_abi::socket::refused`. Passes: TCP, MPTCP, UDP, and every family that carries no IP. Safe in a signal handler. No
    // cancellation point.
    unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int => hooked_socket {
        if let Some(error) = refused(domain, kind, protocol) {
            return fail(error);
        }
        // SAFETY: the caller's own arguments.
        unsafe { redhook::real!(socket)(domain, kind, protocol) }
    }
}

/// Finds the real functions.
pub(crate) fn resolve() {
    let _ = redhook::real!(socket);
}

/// The kind of a socket to which an IP address was given.
///
/// # Errors
/// `EBADF` or `ENOTSOCK`, for the kernel to report.
pub(crate) fn kind(fd: c_int) -> Result<Kind, Errno> {
    domain_and_kind(fd).map(|(_, kind)| kind)
}

/// The same, and the socket's family.
///
/// # Errors
/// As [`kind`].
pub(crate) fn domain_and_kind(fd: c_int) -> Result<(c_int, Kind), Errno> {
    let domain = sys::option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
    let protocol = sys::option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
    Ok((domain, Kind::new(domain, protocol)))
}

/// What the socket is connected to, if that is an IP address: the kernel's word, whatever the program was told.
pub(crate) fn peer(fd: c_int) -> Option<SocketAddr> {
    address_by(sys::peer_address, fd)
}

/// The socket's own address, if it is an IP address.
pub(crate) fn own(fd: c_int) -> Option<SocketAddr> {
    address_by(sys::own_address, fd)
}

fn address_by(ask: fn(c_int, &mut [u8]) -> Result<usize, Errno>, fd: c_int) -> Option<SocketAddr> {
    let mut bytes = [0_u8; sockaddr::MAX_LEN];
    let len = ask(fd, &mut bytes).ok()?;
    match sockaddr::parse(bytes.get(..len)?) {
        Given::Ip(address) => Some(address),
        _ => None,
    }
}

/// Is the socket connected to an address of this machine that a packet must not leave for elsewhere, whatever the program was told? The
/// proxy may be at loopback; so are sinks and gates, or at the socket's own address.
pub(crate) fn stays_here(fd: c_int) -> bool {
    let is_own = |address| own(fd).is_some_and(|own| own.ip().to_canonical() == address);
    peer(fd).is_some_and(|peer| is_loopback(peer.ip()) || is_own(peer.ip().to_canonical()))
}

/// Is the socket bound to an address that is none of loopback's? What loopback answers it may leave the machine then, once that address has. What cannot
/// be told is taken for the worse.
pub(crate) fn is_bound_off_loopback(fd: c_int) -> bool {
    own(fd).is_none_or(|own| !is_loopback(own.ip()))
}

/// Has this process, or one that it was forked from, bound a socket to a device other than lo, or found one that was?
static HAS_DEVICE: AtomicBool = AtomicBool::new(false);

/// A socket of this process may be bound to a device from now on.
pub(crate) fn note_device() {
    HAS_DEVICE.store(true, Ordering::Relaxed);
}

/// May there be a socket in this process whose packets for a loopback address would leave the machine?
pub(crate) fn may_leave() -> bool {
    HAS_DEVICE.load(Ordering::Relaxed)
}

/// Would a packet of this socket for a loopback address leave the machine? So it does when the socket is bound to another device, sends by
/// another (ip(7), `IP_UNICAST_IF`), or carries a source route, whose first stop is where the packet goes. What is no socket
/// is the kernel's to refuse.
pub(crate) fn leaves_loopback(fd: c_int) -> bool {
    let leaves = is_led_away(fd);
    if leaves {
        note_device();
    }
    leaves
}

fn is_led_away(fd: c_int) -> bool {
    let bound = match sys::option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX) {
        // Linux before 5.0 tells the name, or nothing.
        Err(libc::ENOPROTOOPT) => sys::option_len(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE) != Ok(0),
        // Nobody may ask, and where the seccomp filter stands the call is left to it.
        Err(error) if ticket::forbidden(error).is_some() => true,
        device => device.is_ok_and(is_not_loopback),
    };
    let sends_by = |level, name| sys::option(fd, level, name).map(c_int::from_be);
    bound
        || sends_by(libc::IPPROTO_IP, IP_UNICAST_IF).is_ok_and(is_not_loopback)
        || sys::option_len(fd, libc::IPPROTO_IP, libc::IP_OPTIONS).is_ok_and(|len| len > 0)
        // An IPv4 socket has no IPv6 options.
        || sends_by(libc::IPPROTO_IPV6, IPV6_UNICAST_IF).is_ok_and(|device| {
            is_not_loopback(device)
                || sys::option_len(fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR).is_ok_and(|len| len > 0)
        })
        || is_bound_within(fd)
}

/// Is this an MPTCP socket whose inner TCP socket may be bound to another device than it says itself? bind() to a link-local address does that
/// to the inner one alone, even when it fails, and nobody can ask for it. What the outer one is told before it is connected, the
/// inner one is told as well: so it is told once more what the outer one says.
fn is_bound_within(fd: c_int) -> bool {
    if sys::option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) != Ok(libc::IPPROTO_MPTCP) {
        return false;
    }
    let said_again = sys::option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)
        .and_then(|device| sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, device));
    // `EINVAL`: no connect() begins in this state. `EPERM`: it is bound, and only the privileged may free it.
    !matches!(said_again, Ok(()) | Err(libc::EINVAL))
}
