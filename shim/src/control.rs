//! The control messages of sendmsg(), in the program's memory; what they may say, `presocks_abi::control` judges.
#![allow(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr};

use libc::{c_int, msghdr};
use presocks_abi::control::{Family, PIN_ROOM, Width, descriptors, judge, pin};
use presocks_abi::socket::is_loopback;

use crate::errno::Errno;
use crate::kernel_limits::MOST_CONTROL;
use crate::sockaddr::Given;
use crate::{pending, socket};

/// Judges the control messages of a send, and notes which pending sockets they hand on. `is_local`: does it go to loopback, by its address or by the socket's peer?
///
/// # Safety
/// `msg_control` is null or has `msg_controllen` readable bytes.
pub(crate) unsafe fn check(message: &msghdr, is_local: impl FnMut() -> bool) -> Result<(), Errno> {
    if message.msg_control.is_null() || message.msg_controllen == 0 {
        return Ok(());
    }
    // The kernel refuses them unread.
    if message.msg_controllen > MOST_CONTROL {
        return Err(libc::ENOBUFS);
    }
    // SAFETY: the caller's promise.
    let bytes =
        unsafe { core::slice::from_raw_parts(message.msg_control.cast::<u8>(), message.msg_controllen) };
    descriptors(bytes, Width::OWN).for_each(pending::hand_on);
    judge(bytes, Width::OWN, is_local)
}

/// Does one of the control messages name a device other than lo?
///
/// # Safety
/// As for [`check`].
pub(crate) unsafe fn names_a_device(message: &msghdr) -> bool {
    // SAFETY: the caller's promise.
    unsafe { check(message, || true) }.is_err()
}

/// The source that a control message names.
///
/// # Safety
/// As for [`check`].
pub(crate) unsafe fn source(message: &msghdr) -> Option<IpAddr> {
    if message.msg_control.is_null() || message.msg_controllen > MOST_CONTROL {
        return None;
    }
    // SAFETY: the caller's promise.
    let bytes =
        unsafe { core::slice::from_raw_parts(message.msg_control.cast::<u8>(), message.msg_controllen) };
    presocks_abi::control::source(bytes, Width::OWN)
}

/// As many bytes of control messages as a send to a token may have; a program with all that there are needs half of it.
const MOST: usize = 512;

/// The control messages of a send to a token, made such that the packet stays on lo whatever the socket is bound to.
#[repr(align(8))]
pub(crate) struct Pinned {
    bytes: [u8; MOST + PIN_ROOM],
    len: usize,
}

impl Pinned {
    /// # Errors
    /// `EINVAL`, and `ENOBUFS` for more than [`MOST`] bytes.
    ///
    /// # Safety
    /// As for [`check`].
    pub(crate) unsafe fn new(fd: c_int, message: &msghdr, token: IpAddr) -> Result<Self, Errno> {
        let mut pinned = Self { bytes: [0; MOST + PIN_ROOM], len: 0 };
        let len = if message.msg_control.is_null() { 0 } else { message.msg_controllen };
        let room = pinned.bytes.get_mut(..len).filter(|_| len <= MOST).ok_or(libc::ENOBUFS)?;
        if len > 0 {
            // SAFETY: the caller's promise; the room is of that length.
            unsafe {
                core::ptr::copy_nonoverlapping(message.msg_control.cast::<u8>(), room.as_mut_ptr(), len)
            };
        }
        let family = if token.to_canonical().is_ipv4() { Family::V4 } else { Family::V6 };
        let own = socket::own(fd).map(|own| own.ip().to_canonical());
        let source = if let Some(IpAddr::V4(own)) = own { own } else { Ipv4Addr::UNSPECIFIED };
        pinned.len = pin(&mut pinned.bytes, len, family, source)?;
        Ok(pinned)
    }

    /// Has the message carry these instead of its own. Good for as long as this value lives.
    pub(crate) fn attach(&mut self, message: &mut msghdr) {
        message.msg_control = self.bytes.as_mut_ptr().cast();
        message.msg_controllen = self.len;
    }
}

/// Does a send to `address`, or to the socket's peer, go to loopback? Without either it goes nowhere, but another thread may connect the socket before
/// the kernel looks.
pub(crate) fn is_local(fd: c_int, address: Given) -> bool {
    let goes_to_loopback = match address {
        Given::Ip(destination) | Given::Unspecified(Some(destination)) => is_loopback(destination.ip()),
        _ => socket::peer(fd).is_none(),
    };
    // The peer counts in any case: to an IPv6 socket AF_UNSPEC is no address.
    goes_to_loopback || socket::stays_here(fd)
}
