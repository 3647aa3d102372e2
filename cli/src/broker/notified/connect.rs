//! A caught connect() to a destination off the machine: the same hand-off as for the shim, while the program's thread waits in the kernel.
//!
//! A non-blocking socket waits as well: between the proxy's answer and the program nothing of ours stands that could say "not yet". So it is
//! connected, or has failed, when the call returns. Only its thread is held up. A direct connection needs no handshake: there the call returns
//! `EINPROGRESS`, and the rest is the kernel's.
//!
//! A signal may end the wait, and the call may be made anew after the handler: the attempt goes on meanwhile, and the new call joins it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::wait::{Manner, Waited};
use super::{Caller, Taken};
use crate::broker::connect::Call;
use crate::broker::connecting::{GivenUp, Waiter, Waiters};
use crate::descriptors::Place;
use crate::readiness::watch;
use crate::seccomp::listener::Answer;
use crate::seccomp::target::Thread;
use crate::socket::{Socket, probe};
use crate::upstream::failure::Failure;

/// How long an outcome is kept for a caller that a signal has taken away.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The attempts that are under way for caught calls, by `SO_COOKIE`.
#[derive(Default)]
pub(in crate::broker) struct Attempts(RefCell<HashMap<u64, Rc<Attempt>>>);

impl Attempts {
    /// Is one under way on this socket that another call to the same destination may join?
    pub(super) fn has(&self, socket: &OwnedFd, destination: SocketAddr) -> bool {
        let cookie = sockopt::socket_cookie(socket).unwrap_or_default();
        self.0.borrow().get(&cookie).is_some_and(|attempt| attempt.destination == destination)
    }

    /// The program dissolves the socket's association, and its caller does that next: what is under way, or waits to be told, is no longer its business, and
    /// touches the socket no more.
    pub(super) fn forget(&self, socket: &OwnedFd) {
        // No socket has the cookie 0.
        let cookie = sockopt::socket_cookie(socket).unwrap_or_default();
        if let Some(attempt) = self.0.borrow_mut().remove(&cookie) {
            attempt.abandoned.notify_one();
        }
    }
}

struct Attempt {
    thread: i32,
    destination: SocketAddr,
    /// The errno, or 0.
    outcome: Cell<Option<i32>>,
    ended: Notify,
    /// Callers that wait for it.
    callers: Rc<Waiters>,
    delivered: Cell<bool>,
    abandoned: Notify,
}

/// Connects, and answers the call in a task of its own. It counts as one that waits at once: what the program does next with the socket
/// comes after it.
pub(super) fn serve(caller: Rc<Caller>, taken: Taken, destination: SocketAddr, place: Place) {
    let joined = Joined::new(&caller, taken, destination, Some(place));
    spawn_local(async move {
        let answer = |errno| if errno == 0 { Answer::Value(0) } else { Answer::Errno(errno) };
        match outcome(&caller, joined).await {
            (Some(errno), Some(attempt)) => attempt.delivered.set(caller.is_answered(answer(errno))),
            (Some(errno), None) => caller.answer(answer(errno)),
            (None, _) => {}
        }
    });
}

/// As [`serve`], with the outcome returned. `None` when the call was answered or is gone.
pub(super) async fn wait(caller: &Caller, taken: Taken, destination: SocketAddr) -> Option<i32> {
    let (errno, attempt) = outcome(caller, Joined::new(caller, taken, destination, caller.place_now())).await;
    if let Some(attempt) = attempt {
        attempt.delivered.set(caller.waits());
    }
    errno
}

/// A call and the attempt that it waits for.
struct Joined {
    attempt: Rc<Attempt>,
    waiter: Waiter,
    /// Was the attempt there before it?
    is_second: bool,
    manner: Manner,
}

impl Joined {
    /// # Errors
    /// As [`join_or_begin`].
    fn new(
        caller: &Caller,
        taken: Taken,
        destination: SocketAddr,
        place: Option<Place>,
    ) -> Result<Self, i32> {
        let manner = Manner::of(&taken.fd);
        let (attempt, is_second) = join_or_begin(caller, taken, destination, manner.is_blocking, place)?;
        let waiter = attempt.callers.enter();
        Ok(Self { attempt, waiter, is_second, manner })
    }
}

/// What the call is to be told; and the attempt whose outcome that is.
async fn outcome(caller: &Caller, joined: Result<Joined, i32>) -> (Option<i32>, Option<Rc<Attempt>>) {
    let Joined { attempt, waiter: _waiter, is_second, manner } = match joined {
        Ok(joined) => joined,
        Err(errno) => return (Some(errno), None),
    };
    match manner.wait(caller, attempt.outcome()).await {
        Waited::Done(errno) => (Some(errno), Some(attempt)),
        Waited::Late => (Some(if is_second { libc::EALREADY } else { libc::EINPROGRESS }), None),
        Waited::Over => (None, None),
    }
}

/// The attempt, and whether it was there already.
///
/// # Errors
/// `EALREADY` when another thread connects this non-blocking socket; what the kernel says to any connect() on it, be it 0; those of getsockopt(2).
fn join_or_begin(
    caller: &Caller,
    taken: Taken,
    destination: SocketAddr,
    is_blocking: bool,
    place: Option<Place>,
) -> Result<(Rc<Attempt>, bool), i32> {
    let cookie = sockopt::socket_cookie(&taken.fd).map_err(rustix::io::Errno::raw_os_error)?;
    let attempts = &caller.supervisor.attempts;
    let found = attempts.0.borrow().get(&cookie).map(Rc::clone);
    let is_ours = |attempt: &Attempt| {
        attempt.destination == destination && (is_blocking || attempt.thread == caller.thread())
    };
    match found.as_ref().map(|attempt| (attempt, attempt.outcome.get())) {
        Some((attempt, None | Some(0))) if is_ours(attempt) => return Ok((Rc::clone(attempt), true)),
        Some((_, None)) => return Err(libc::EALREADY),
        Some((_, Some(_))) | None => {}
    }
    // The kernel would have it done when the proxy is reached.
    if caller.supervisor.connecting.has(cookie) {
        return Err(libc::EALREADY);
    }
    let untold = |attempt: &&Rc<Attempt>| !attempt.delivered.get();
    let outcome = found.as_ref().filter(untold).and_then(|attempt| attempt.outcome.get());
    // The kernel knows how another connect() on it has ended, and that is what this call is told; if not by its number, then we know that.
    let said = match probe(taken.fd.as_fd()) {
        Some(Ok(())) => Some(0),
        Some(Err(rustix::io::Errno::CONNABORTED)) => outcome.or(Some(libc::ECONNABORTED)),
        // Begun by a call that did not wait: this one does.
        Some(Err(rustix::io::Errno::ALREADY)) if is_blocking => None,
        Some(Err(error)) => Some(error.raw_os_error()),
        // The call that waited was made anew just when it ended.
        None => outcome.filter(|_| found.as_deref().is_some_and(is_ours)),
    };
    if let Some(errno) = said {
        attempts.0.borrow_mut().remove(&cookie);
        return Err(errno);
    }
    let attempt = Rc::new(Attempt {
        thread: caller.thread(),
        destination,
        outcome: Cell::default(),
        ended: Notify::new(),
        callers: Rc::default(),
        delivered: Cell::default(),
        abandoned: Notify::new(),
    });
    attempts.0.borrow_mut().insert(cookie, Rc::clone(&attempt));
    let supervisor = Rc::clone(&caller.supervisor);
    let program = caller.program();
    let own = Rc::clone(&attempt);
    spawn_local(async move {
        let Taken { thread, fd, number, .. } = taken;
        let given_up = || async {
            tokio::select! {
                biased;
                () = own.abandoned.notified() => GivenUp::Dissolved,
                () = has_ended(&thread) => GivenUp::Left,
            }
        };
        let mut teller = None;
        let outcome = match (Socket::new(fd), supervisor.connecting.begin(cookie, number)) {
            (Ok(socket), Some(turn)) => {
                let given_up = pin!(given_up());
                let is_waited_for = || own.callers.is_any();
                let call = &Call { destination, is_nonblocking: !is_blocking };
                let served =
                    supervisor.connector.serve(socket, call, &program, turn, given_up, is_waited_for);
                let ended = served.await;
                teller = ended.teller;
                ended.errno
            }
            // A hooked program has begun one on it.
            (Ok(_), None) => Some(libc::EALREADY),
            (Err(error), _) => Some(Failure::Socket(error).errno()),
        };
        drop((thread, place));
        own.outcome.set(Some(outcome.unwrap_or(libc::ECONNABORTED)));
        own.ended.notify_waiters();
        own.callers.all_left().await;
        if let Some(teller) = teller {
            Box::pin(teller.tell()).await;
        }
        if !own.delivered.get() && outcome.is_some() {
            sleep(REMEMBERED).await;
        }
        // Unless another attempt on this socket has taken its place.
        let mut attempts = supervisor.attempts.0.borrow_mut();
        if attempts.get(&cookie).is_some_and(|attempt| Rc::ptr_eq(attempt, &own)) {
            attempts.remove(&cookie);
        }
    });
    Ok((attempt, false))
}

/// Ready when the thread is gone, and its call with it.
async fn has_ended(thread: &Thread) {
    match watch(thread.as_fd(), Interest::READABLE) {
        Ok(watched) => drop(watched.readable().await),
        // The attempt then ends by its own limits.
        Err(_) => pending().await,
    }
}

impl Attempt {
    async fn outcome(&self) -> i32 {
        loop {
            // Registered before the look, so that no end is missed.
            let ended = self.ended.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            ended.await;
        }
    }
}
