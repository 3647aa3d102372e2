//! Bytes that go on as they have come: the kernel moves them by way of a pipe (splice(2)), and none comes to us.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::Relays;

/// Bytes that one call moves at most: what a pipe holds (pipe(7)).
const MOST: usize = 64 * 1024;

/// A socket that tells when it can be read or written.
pub(super) trait Side: AsFd {
    /// As `TcpStream::async_io` of the runtime.
    async fn when<T>(&self, interest: Interest, call: impl FnMut() -> io::Result<T>) -> io::Result<T>;
}

impl Side for TcpStream {
    async fn when<T>(&self, interest: Interest, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.async_io(interest, call).await
    }
}

impl Side for UnixStream {
    async fn when<T>(&self, interest: Interest, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.async_io(interest, call).await
    }
}

/// Until both sides have ended.
///
/// # Errors
/// Those of either side; of pipe(2).
pub(super) async fn both_ways(relays: &Relays, one: &impl Side, other: &impl Side) -> io::Result<()> {
    tokio::try_join!(one_way(relays, one, other), one_way(relays, other, one))?;
    Ok(())
}

/// One direction, to its end, which is passed on.
async fn one_way(relays: &Relays, from: &impl Side, to: &impl Side) -> io::Result<()> {
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    loop {
        let mut inside = from.when(Interest::READABLE, || moved(from, &pipe.1)).await?;
        if inside == 0 {
            return end(to);
        }
        relays.count(inside);
        // All of it goes out before more comes in: so a pipe that takes nothing is never the reason why nothing comes.
        while inside > 0 {
            inside -= to.when(Interest::WRITABLE, || moved(&pipe.0, to)).await?;
        }
    }
}

fn moved(from: &impl AsFd, to: &impl AsFd) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match splice(from, None, to, None, MOST, flags) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Passes an end on.
fn end(to: &impl Side) -> io::Result<()> {
    match shutdown(to, Shutdown::Write) {
        // It has ended before, and all that it had to say has been said.
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
