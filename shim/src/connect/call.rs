//! The real connect(), to addresses of ours: judged, with the pass, or left to the seccomp filter.
#![allow(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::c_int;

use crate::errno::Errno;
use crate::pass::{self, at, int, returned};
use crate::sockaddr::Encoded;
use crate::sys;
use crate::ticket::NoTicket;

/// The real connect() on an address that we made.
pub(crate) fn pass(fd: c_int, destination: SocketAddr) -> c_int {
    let encoded = Encoded::new(destination);
    // SAFETY: pointer and length are those of `encoded`.
    let result = unsafe { pass::wait(libc::SYS_connect, arguments(fd, &encoded)) };
    if result.is_err_and(dissolves) {
        sys::restore(fd);
    }
    returned(result) as c_int
}

/// Is the socket unconnected after a connect() with this error, as after `AF_UNSPEC`? So it is, say, when the connection that another had begun
/// was reset.
pub(super) fn dissolves(error: Errno) -> bool {
    !matches!(error, libc::EINPROGRESS | libc::EALREADY | libc::EISCONN | libc::EINTR)
}

pub(super) fn arguments(fd: c_int, address: &Encoded) -> [usize; 6] {
    let (pointer, len) = address.as_arguments();
    [int(fd), at(pointer), len as usize, 0, 0, 0]
}

/// No ticket can be had: where this session's filter stands, the call itself is brought before the broker; else it fails.
pub(crate) fn unjudged(fd: c_int, destination: SocketAddr, why: NoTicket) -> Result<(), Errno> {
    if !pass::filter_stands() {
        return Err(why.report());
    }
    let encoded = Encoded::new(destination);
    // SAFETY: pointer and length are those of `encoded`.
    unsafe { pass::wait_unjudged(libc::SYS_connect, arguments(fd, &encoded)) }.map(drop)
}

/// Loopback's port 0 in the destination's family. For a call that the kernel answers from the socket's state: should that
/// change under us, the call still cannot reach the network.
pub(crate) fn nowhere(destination: SocketAddr) -> SocketAddr {
    match destination {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    }
}
