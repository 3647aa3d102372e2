//! The bytes that a caught send sends, in pieces: read from the program's memory, and kept for as long as the kernel may need them.
#![allow(unsafe_code, reason = "pages that the kernel sends from without a copy are no allocator's")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::{NonNull, null_mut};

use rustix::io::Errno;

use super::Caller;
use crate::seccomp::call::{Span, gather};
use crate::socket::option;

/// The kernel sends no more in one call (`MAX_RW_COUNT`).
const MOST_IN_ALL: u64 = 0x7fff_f000;

/// How many bytes there are in all, as far as the kernel would send them.
pub(super) fn total(parts: &[Span]) -> u64 {
    parts.iter().fold(0_u64, |total, part| total.saturating_add(part.len)).min(MOST_IN_ALL)
}

/// At most [`MOST_DATA`](crate::seccomp::call::MOST_DATA) bytes of the parts, without the first `skipped` ones.
///
/// # Errors
/// `EFAULT`; `ESRCH` when the call waits no more.
pub(super) fn payload(
    caller: &Caller,
    socket: &OwnedFd,
    parts: &[Span],
    skipped: u64,
    flags: i32,
) -> io::Result<Payload> {
    let data = gather(caller.thread(), parts, skipped)?;
    if !caller.waits() {
        return Err(Errno::SRCH.into());
    }
    if is_zero_copy(socket, flags) && !data.is_empty() {
        return Pages::new(&data).map(Payload::Pages);
    }
    Ok(Payload::Bytes(data))
}

/// Is the data sent without a copy (`MSG_ZEROCOPY`), and does the program wait to be told that?
pub(super) fn is_zero_copy(socket: &OwnedFd, flags: i32) -> bool {
    let mut is_set = [0; 4];
    flags & libc::MSG_ZEROCOPY != 0
        && option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, &mut is_set).is_ok()
        && is_set != [0; 4]
}

/// Data on its way.
pub(super) enum Payload {
    Bytes(Vec<u8>),
    Pages(Pages),
}

impl Payload {
    /// The call's flags, for these bytes: what is written to again must not be sent without a copy, whatever the socket's option says by then.
    pub(super) fn flags(&self, flags: i32) -> i32 {
        match self {
            Self::Bytes(_) => flags & !libc::MSG_ZEROCOPY,
            Self::Pages(_) => flags,
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Pages(pages) => pages.bytes(),
        }
    }
}

/// Pages that nothing is ever written to again, which the kernel may send from after they were given back (`MSG_ZEROCOPY`).
pub(super) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    fn new(data: &[u8]) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let start = unsafe { libc::mmap(null_mut(), data.len(), protection, flags, -1, 0) };
        let start = NonNull::new(start).filter(|start| start.as_ptr() != libc::MAP_FAILED);
        let start = start.ok_or_else(io::Error::last_os_error)?.cast::<u8>();
        // SAFETY: the mapping is new, and as long as the data.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), start.as_ptr(), data.len());
        }
        Ok(Self { start, len: data.len() })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is this value's, of this length, initialised, and never written to.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing borrows it.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}
