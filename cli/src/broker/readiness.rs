//! Waiting for a descriptor until something can be done with it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor under the runtime's watch.
pub(super) type Watched<'a> = AsyncFd<BorrowedFd<'a>>;

/// Registers a descriptor with the runtime.
///
/// # Errors
/// Those of epoll_ctl(2).
pub(super) fn watch(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<Watched<'_>> {
    #[allow(unsafe_code, reason = "the runtime asks for a promise that the borrow keeps")]
    // SAFETY: a borrowed descriptor is open, and the same, for as long as the borrow lives.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(watched?)
}

/// Sends all bytes.
///
/// # Errors
/// Those of send(2).
pub(super) async fn send_all(socket: &Watched<'_>, mut bytes: &[u8]) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !bytes.is_empty() {
        let sent = socket
            .async_io(Interest::WRITABLE, |socket| send(socket, bytes, flags).map_err(io::Error::from))
            .await?;
        bytes = bytes.get(sent..).unwrap_or(&[]);
    }
    Ok(())
}

/// Receives at most `buffer.len()` bytes; 0 at the end.
///
/// # Errors
/// Those of recv(2).
pub(super) async fn receive(socket: &Watched<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    socket
        .async_io(Interest::READABLE, |socket| {
            recv(socket, &mut *buffer, RecvFlags::DONTWAIT).map(|(len, _)| len).map_err(io::Error::from)
        })
        .await
}
