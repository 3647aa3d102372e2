//! How a caught call waits for its socket: as its thread would wait in the kernel, until there is room or the connection is decided, the socket's
//! time limit (`SO_SNDTIMEO`) is over, the thread has a signal to act on, or it is gone. The broker itself never waits.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use tokio::io::Interest;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Caller, TICK, interrupted};
use crate::readiness::Watched;
use crate::seccomp::listener::Answer;
use crate::seccomp::target::Pending;

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

/// A connect() on a non-blocking socket is never interrupted; so a signal that is to be handled waits this long.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let manner = Manner::of(socket);
        Self {
            limit: manner.limit,
            started: Instant::now(),
            may_wait: manner.is_blocking && flags & libc::MSG_DONTWAIT == 0,
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

/// How a call that sends or connects waits on a socket. One that does not tell is taken not to be blocking, and to have no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) is_blocking: bool,
    /// For how long at most, where it is blocking (`SO_SNDTIMEO`).
    limit: Option<Duration>,
}

/// How the wait of a connect() has ended.
pub(super) enum Waited<T> {
    /// What was waited for is there.
    Done(T),
    /// The time limit is over.
    Late,
    /// The call was answered, because of a signal, or its thread is gone.
    Over,
}

impl Manner {
    pub(super) fn of(socket: &OwnedFd) -> Self {
        let is_blocking = fcntl_getfl(socket).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK));
        let limit = sockopt::socket_timeout(socket, Timeout::Send).ok().flatten();
        Self { is_blocking, limit: limit.filter(|_| is_blocking) }
    }

    /// Waits as a connect() does in the kernel.
    pub(super) async fn wait<T>(self, caller: &Caller, done: impl Future<Output = T>) -> Waited<T> {
        let started = Instant::now();
        let mut done = pin!(done);
        loop {
            let late = async {
                match self.limit {
                    Some(limit) => sleep_until(started + limit).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                done = &mut done => return Waited::Done(done),
                () = late => return Waited::Late,
                () = sleep(TICK) => {}
            }
            if !caller.waits() {
                return Waited::Over;
            }
            let signals = Pending::of(caller.thread());
            let may_handle = self.is_blocking || started.elapsed() >= PATIENCE;
            if signals.unhandled || signals.handled && may_handle {
                caller.answer(interrupted(self.limit));
                return Waited::Over;
            }
        }
    }
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
