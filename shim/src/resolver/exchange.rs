//! One DNS message and its answer, over TCP (RFC 7766) with the broker's name server.
//!
//! The socket is handed over as a program's own is when it connects to a name server; it is closed before the call returns.
#![allow(unsafe_code)]

use core::net::SocketAddr;

use libc::{c_int, timeval};

use super::HEADER_LEN;
use crate::connect::connect_to;
use crate::errno::{self, Errno};
use crate::sys;

/// How long the broker may take for each part of the answer: longer than the broker waits for the DNS.
const LIMIT: timeval = timeval { tv_sec: 60, tv_usec: 0 };

/// In the header's third byte: the answer is not whole (RFC 1035 section 4.1.1).
const TRUNCATED: u8 = 0x02;

/// A query of this length goes in one piece with its own length.
const SHORT: usize = 512;

/// Sends the message to the broker, in the stead of `server`, and receives the answer, as much as there is room for; the answer's whole
/// length.
///
/// # Errors
/// Those of connect(2), `ETIMEDOUT`, `ECONNRESET` when the broker has no answer, `EMSGSIZE` for messages that are none.
pub(super) fn exchange(server: SocketAddr, message: &[u8], answer: &mut [u8]) -> Result<usize, Errno> {
    // The real call may be left by a cancelled thread, and its socket stays open; ours may not.
    let _uncancelled = Uncancelled::begin();
    let socket = Connection::new(server)?;
    socket.send(message)?;
    let mut length = [0; 2];
    socket.receive(&mut length)?;
    let length = usize::from(u16::from_be_bytes(length));
    let received = length.min(answer.len());
    socket.receive(answer.get_mut(..received).ok_or(libc::EMSGSIZE)?)?;
    if received < HEADER_LEN || answer.get(..2) != message.get(..2) {
        return Err(libc::EMSGSIZE);
    }
    if received < length
        && let Some(flags) = answer.get_mut(2)
    {
        *flags |= TRUNCATED;
    }
    Ok(length)
}

/// A socket that is connected to the broker's name server; closed when dropped.
struct Connection {
    fd: c_int,
    /// Seconds of the monotonic clock: signals begin each wait anew, but not for ever.
    deadline: libc::time_t,
}

impl Connection {
    fn new(server: SocketAddr) -> Result<Self, Errno> {
        let fd = sys::own_socket(libc::AF_INET, libc::SOCK_STREAM)?;
        let connection = Self { fd, deadline: sys::now().tv_sec + LIMIT.tv_sec };
        sys::set_receive_timeout(fd, &LIMIT)?;
        sys::set_send_timeout(fd, &LIMIT)?;
        let kept = errno::current();
        while connect_to(fd, server) != 0 {
            let error = errno::current();
            errno::set(kept);
            match error {
                // The attempt goes on, and the next call joins it, or finds it done.
                libc::EINTR => connection.check_time()?,
                libc::EISCONN => break,
                libc::EINPROGRESS => return Err(libc::ETIMEDOUT),
                error => return Err(error),
            }
        }
        Ok(connection)
    }

    fn check_time(&self) -> Result<(), Errno> {
        if sys::now().tv_sec < self.deadline { Ok(()) } else { Err(libc::ETIMEDOUT) }
    }

    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let length = u16::try_from(message.len()).map_err(|_| libc::EMSGSIZE)?.to_be_bytes();
        let mut room = [0; 2 + SHORT];
        let Some(framed) = room.get_mut(..length.len() + message.len()) else {
            sys::send_packet(self.fd, &length, None)?;
            return sys::send_packet(self.fd, message, None);
        };
        let (front, rest) = framed.split_at_mut(length.len());
        front.copy_from_slice(&length);
        rest.copy_from_slice(message);
        sys::send_packet(self.fd, framed, None)
    }

    /// Fills the buffer.
    fn receive(&self, buffer: &mut [u8]) -> Result<(), Errno> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match sys::read(self.fd, room) {
                Ok(0) => return Err(libc::ECONNRESET),
                Ok(len) => filled += len,
                Err(libc::EINTR) => self.check_time()?,
                Err(libc::EAGAIN) => return Err(libc::ETIMEDOUT),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        sys::close(self.fd);
    }
}

unsafe extern "C" {
    fn pthread_setcancelstate(new: c_int, old: *mut c_int) -> c_int;
}

/// While it lives, the thread is not cancelled; what is asked for meanwhile happens later (pthread_setcancelstate(3)).
struct Uncancelled {
    before: c_int,
}

impl Uncancelled {
    fn begin() -> Self {
        const PTHREAD_CANCEL_DISABLE: c_int = 1;
        let mut before = 0;
        // SAFETY: the pointer is that of a live local.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self { before }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        let mut ours = 0;
        // SAFETY: libc's own value, and the pointer is that of a live local.
        unsafe { pthread_setcancelstate(self.before, &raw mut ours) };
    }
}
