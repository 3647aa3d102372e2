//! Devices other than lo, to which programs bind their sockets.
//!
//! What is connected to this machine must not be bound to one: its packets would leave by it, whatever address they are for. The kernel lets a socket
//! be both. So nobody but the broker sets such a device, and nobody but the broker connects a datagram socket, here or elsewhere: its one
//! thread does one after the other, each in one step, and whichever is second is refused. No order of the calls of a program's threads, or of processes that
//! share the socket, leads to one that is both.

use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use presocks_abi::option::{Kind, kind};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::connecting::Connecting;
use super::datagram::Datagrams;
use crate::socket::{awaits_syn_ack, option, set_option_bytes};

/// Sets the devices of a session's sockets.
pub(super) struct Devices {
    connecting: Rc<Connecting>,
    datagrams: Rc<Datagrams>,
}

impl Devices {
    pub(super) fn new(connecting: Rc<Connecting>, datagrams: Rc<Datagrams>) -> Self {
        Self { connecting, datagrams }
    }

    /// Sets an option of a program's socket whose value names a device other than lo. One that is bound to a device stays with it: only the privileged may
    /// bind it anew, which nobody can tell of the program from here.
    ///
    /// # Errors
    /// `ENODEV` when the socket is connected to this machine, or is being connected; `EPERM` when it is bound already; those of setsockopt(2).
    pub(super) fn set(
        &self,
        socket: BorrowedFd<'_>,
        (level, name): (i32, i32),
        value: &[u8],
    ) -> io::Result<()> {
        let kind = kind(level, name);
        if !matches!(kind, Some(Kind::Device | Kind::DeviceName | Kind::DeviceInNetworkOrder)) {
            return Err(Errno::INVAL.into());
        }
        let cookie = sockopt::socket_cookie(socket)?;
        // A SYN that is not answered is sent again, and would leave by the device.
        let is_connecting = self.connecting.has(cookie) || awaits_syn_ack(socket);
        if is_connecting || self.datagrams.stays_here(socket) {
            return Err(Errno::NODEV.into());
        }
        if kind != Some(Kind::DeviceInNetworkOrder) && is_bound(socket) {
            return Err(Errno::PERM.into());
        }
        set_option_bytes(socket, level, name, value)
    }
}

/// Is the socket bound to any device, lo among them? Linux tells by the name since 3.8.
fn is_bound(socket: BorrowedFd<'_>) -> bool {
    option(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut [0; libc::IFNAMSIZ]).is_ok_and(|len| len > 0)
}
