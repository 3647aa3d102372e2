//! Sends to Unix and netlink sockets: syslog(3), sd_notify(3), a program's questions to the kernel. They stay on this machine, so that the broker need not be asked,
//! which it could not even answer for a program that nobody may look into (`PR_SET_DUMPABLE`). To a socket of IP's such an address leads nowhere.
#![allow(unsafe_code)]

use libc::{c_int, socklen_t};

use crate::errno::Errno;
use crate::sockaddr::{self, Given};

/// The copy of an address of a Unix or netlink socket.
pub(super) struct Local {
    bytes: [u8; size_of::<libc::sockaddr_storage>()],
    len: usize,
}

impl Local {
    /// The address, as far as the kernel reads it. `None`: there is none, or one that is not for us to judge; or the call may open a connection
    /// (`MSG_FASTOPEN`).
    ///
    /// # Errors
    /// `ECONNREFUSED` for a resolver's socket; `ENETUNREACH` when another thread has written an IP address there since it was looked at.
    ///
    /// # Safety
    /// As for [`sockaddr::read`].
    pub(super) unsafe fn read(
        address: *const libc::sockaddr,
        len: socklen_t,
        flags: c_int,
    ) -> Result<Option<Self>, Errno> {
        if address.is_null() || flags & libc::MSG_FASTOPEN != 0 {
            return Ok(None);
        }
        let mut bytes = [0_u8; size_of::<libc::sockaddr_storage>()];
        // SAFETY: the caller's promise.
        let given = unsafe { sockaddr::copy(address, len, &mut bytes) };
        let len = given.len();
        match sockaddr::parse(given) {
            // AF_UNSPEC is judged where it leads somewhere.
            Given::Ip(_) | Given::Unspecified(Some(_)) => Err(libc::ENETUNREACH),
            Given::Other if sockaddr::is_resolver(given) => Err(libc::ECONNREFUSED),
            Given::Other if is_local_family(given) => Ok(Some(Self { bytes, len })),
            Given::Other | Given::Unreadable | Given::Unspecified(None) => Ok(None),
        }
    }

    /// Pointer and length for a system call, good for as long as this value lives.
    pub(super) fn as_arguments(&self) -> (*const libc::sockaddr, socklen_t) {
        (self.bytes.as_ptr().cast(), self.len as socklen_t)
    }
}

fn is_local_family(address: &[u8]) -> bool {
    let family = address.first_chunk::<2>().map(|family| c_int::from(u16::from_ne_bytes(*family)));
    matches!(family, Some(libc::AF_UNIX | libc::AF_NETLINK))
}
