//! How a caught call waits for its socket: as its thread would wait in the kernel, until there is room or the connection is decided, the socket's
//! time limit (`SO_SNDTIMEO`) is over, the thread has a signal to act on, or it is gone. The broker itself never waits.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout};

use super::{Caller, TICK, interrupted};
use crate::backstop::listener::Answer;
use crate::backstop::target::Pending;
use crate::broker::readiness::Watched;

/// Why a call ends before it has done what it was made for.
pub(super) enum Stop {
    /// With this answer.
    Answer(Answer),
    /// With `EPIPE`, and the signal that goes with it.
    BrokenPipe,
    /// We could not look at the call, or write its results.
    Unseen(io::Error),
    /// It was answered already, or its thread is gone.
    Gone,
}

impl Stop {
    pub(super) fn errno(errno: i32) -> Self {
        Self::Answer(Answer::Errno(errno))
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::errno(error.raw_os_error())
    }
}

/// The next look at a socket that is ready, and yet has not done what was waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// The wait of one call, which may be interrupted by progress.
pub(super) struct Wait {
    /// What the call returns instead of waiting; `None`: it may wait.
    limit: Option<Duration>,
    started: Instant,
    may_wait: bool,
    /// The socket was ready, and nothing has come of it since.
    was_in_vain: bool,
}

impl Wait {
    /// For a call with these flags that sends, or connects.
    pub(super) fn new(socket: &OwnedFd, flags: i32) -> Self {
        let (is_blocking, limit) = manner(socket);
        Self {
            limit,
            started: Instant::now(),
            may_wait: is_blocking && flags & libc::MSG_DONTWAIT == 0,
            was_in_vain: false,
        }
    }

    /// May the call wait at all?
    pub(super) fn is_allowed(&self) -> bool {
        self.may_wait
    }

    /// Something was done.
    pub(super) fn has_helped(&mut self) {
        self.was_in_vain = false;
    }

    /// Returns when there is something to try again. `late`: the errno when the time limit is over.
    ///
    /// # Errors
    /// What ends the wait.
    pub(super) async fn until_writable(
        &mut self,
        caller: &Caller,
        socket: &OwnedFd,
        late: i32,
    ) -> Result<(), Stop> {
        loop {
            let rest =
                self.limit.map_or(TICK, |limit| limit.saturating_sub(self.started.elapsed()).min(TICK));
            if self.was_in_vain {
                sleep(rest.min(PAUSE)).await;
            }
            let is_ready = timeout(rest, becomes_writable(socket)).await.is_ok();
            if !caller.waits() {
                return Err(Stop::Gone);
            }
            if is_ready {
                self.was_in_vain = true;
                return Ok(());
            }
            if self.limit.is_some_and(|limit| self.started.elapsed() >= limit) {
                return Err(Stop::errno(late));
            }
            let signals = Pending::of(caller.thread());
            if signals.handled || signals.unhandled {
                return Err(Stop::Answer(interrupted(self.limit)));
            }
        }
    }
}

/// Does a call that sends or connects wait on this socket, and for how long at most (`SO_SNDTIMEO`)? One that does not tell is taken not to wait,
/// and to have no limit.
pub(super) fn manner(socket: &OwnedFd) -> (bool, Option<Duration>) {
    let is_blocking = fcntl_getfl(socket).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK));
    (is_blocking, sockopt::socket_timeout(socket, Timeout::Send).ok().flatten())
}

/// Also when the socket has failed. Where it cannot be watched, the next tick tells.
async fn becomes_writable(socket: &OwnedFd) {
    let Ok(mut watched) = Watched::new(socket.as_fd(), Interest::WRITABLE) else { return pending().await };
    if watched.until(Interest::WRITABLE, |_| has_room(socket)).await.is_err() {
        pending().await
    }
}

/// `WouldBlock`: no.
fn has_room(socket: &OwnedFd) -> io::Result<()> {
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
