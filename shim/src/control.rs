//! The control messages of sendmsg(), in the program's memory; what they may say, `presocks_abi::control` judges.
#![allow(unsafe_code)]

use libc::{c_int, msghdr};
use presocks_abi::control::{Width, judge};
use presocks_abi::socket::is_loopback;

use crate::errno::Errno;
use crate::sockaddr::Given;
use crate::socket;

/// Judges the control messages of a send. `is_local`: does it go to loopback, by its address or by the socket's peer?
///
/// # Safety
/// `msg_control` is null or has `msg_controllen` readable bytes.
pub(crate) unsafe fn check(message: &msghdr, is_local: impl FnMut() -> bool) -> Result<(), Errno> {
    if message.msg_control.is_null() || message.msg_controllen == 0 {
        return Ok(());
    }
    // SAFETY: the caller's promise; a length beyond the memory that there can be is cut.
    let bytes = unsafe {
        core::slice::from_raw_parts(
            message.msg_control.cast::<u8>(),
            message.msg_controllen.min(c_int::MAX as usize),
        )
    };
    judge(bytes, Width::OWN, is_local)
}

/// Does a send to `address`, or to the socket's peer, go to loopback?
pub(crate) fn is_local(fd: c_int, address: Given) -> bool {
    let goes_to_loopback = match address {
        Given::Ip(destination) | Given::Unspecified(Some(destination)) => is_loopback(destination.ip()),
        _ => false,
    };
    // The peer counts in any case: to an IPv6 socket AF_UNSPEC is no address.
    goes_to_loopback || socket::stays_here(fd)
}
