//! One side of a relay: a socket that tells when it can be read or written, and that it is broken.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// One side of a relay.
pub(super) trait Side: AsFd {
    /// As `TcpStream::async_io` of the runtime.
    async fn when<T>(&self, interest: Interest, call: impl FnMut() -> io::Result<T>) -> io::Result<T>;

    /// Returns when it has an error, which stays.
    async fn broken(&self) -> io::Error;

    /// Receives, at least one byte; 0 at the end.
    async fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        self.when(Interest::READABLE, || receive_now(self, &mut *room)).await
    }

    /// Sends all bytes.
    async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while !bytes.is_empty() {
            let sent = self.when(Interest::WRITABLE, || Ok(send(self, bytes, flags)?)).await?;
            bytes = bytes.get(sent..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Passes an end on.
    fn end(&self) -> io::Result<()> {
        match shutdown(self, Shutdown::Write) {
            // It has ended before, and all that it had to say has been said.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Side for TcpStream {
    async fn when<T>(&self, interest: Interest, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.async_io(interest, call).await
    }

    async fn broken(&self) -> io::Error {
        error_of(self.ready(Interest::ERROR).await)
    }
}

impl Side for UnixStream {
    async fn when<T>(&self, interest: Interest, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.async_io(interest, call).await
    }

    async fn broken(&self) -> io::Error {
        error_of(self.ready(Interest::ERROR).await)
    }
}

fn error_of<T>(ready: io::Result<T>) -> io::Error {
    ready.err().unwrap_or_else(|| Errno::CONNRESET.into())
}

/// Receives what there is; 0 at the end.
///
/// # Errors
/// Those of recv(2).
pub(super) fn receive_now(from: &(impl AsFd + ?Sized), room: &mut [u8]) -> io::Result<usize> {
    Ok(recv(from, room, RecvFlags::DONTWAIT).map(|(len, _)| len)?)
}

/// Why a direction has ended before its time.
pub(super) enum Broken {
    /// Nothing more comes.
    Reading(io::Error),
    /// Nothing more is taken.
    Writing(io::Error),
}

impl Broken {
    fn into_error(self) -> io::Error {
        let (Self::Reading(error) | Self::Writing(error)) = self;
        error
    }
}

/// Until both directions have ended. A side that has ended its own is read no more, and yet may be gone: then the other is of no use. One that takes
/// nothing more may have said something before that.
///
/// # Errors
/// Those of either direction.
pub(super) async fn until_both_end(
    there: impl Future<Output = Result<(), Broken>>,
    back: impl Future<Output = Result<(), Broken>>,
    one_is_gone: impl Future<Output = io::Error>,
    other_is_gone: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let (mut there, mut back) = (std::pin::pin!(there), std::pin::pin!(back));
    tokio::select! {
        result = &mut there => rest(result, back, one_is_gone).await,
        result = &mut back => rest(result, there, other_is_gone).await,
    }
}

/// One direction has ended so: what becomes of the other, unless who is to receive it is gone.
async fn rest(
    ended: Result<(), Broken>,
    other: impl Future<Output = Result<(), Broken>>,
    is_gone: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let first = match ended {
        Ok(()) => Ok(()),
        Err(Broken::Reading(error)) => return Err(error),
        Err(Broken::Writing(error)) => Err(error),
    };
    let rest = tokio::select! {
        result = other => result.map_err(Broken::into_error),
        error = is_gone => Err(error),
    };
    first.and(rest)
}
