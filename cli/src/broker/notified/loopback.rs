//! A caught connect() to loopback on TCP or MPTCP: made from here, on the descriptor that was looked at. Were it to continue, the number could become that
//! of a socket which is bound to a device, and the SYN would leave by it.
//!
//! A non-blocking socket is told at once what the kernel says; a blocking one waits as its own call would (`wait`).

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;

use presocks_abi::sockaddr::Encoded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::task::spawn_local;

use super::wait::{Stop, Wait};
use super::{Caller, Judged, Taken, outcome};
use crate::seccomp::listener::Answer;
use crate::socket::{connect_at_once, dissolve, leaves_loopback, peer_of, restore};

pub(super) fn connect(caller: &Rc<Caller>, taken: Taken, destination: SocketAddr) -> Judged {
    let mut wait = Wait::new(&taken.fd, 0);
    let begun = prepare(&taken, destination)
        .unwrap_or_else(|| connect_at_once(taken.fd.as_fd(), Encoded::new(destination).as_bytes()));
    let error = match begun {
        Err(error @ (Errno::INPROGRESS | Errno::ALREADY)) if wait.is_allowed() => error,
        decided => return outcome(decided),
    };
    // Mostly it is there already.
    if let Some(decided) = progress(&taken, destination) {
        return outcome(decided);
    }
    let caller = Rc::clone(caller);
    spawn_local(async move {
        match self::wait(&caller, &taken, destination, &mut wait, error).await {
            Ok(()) => caller.answer(Answer::Value(0)),
            Err(Stop::Answer(answer)) => caller.answer(answer),
            Err(Stop::Unseen(error)) => caller.fail(&error),
            Err(Stop::BrokenPipe | Stop::Gone) => {}
        }
    });
    Ok(None)
}

/// Before the kernel may connect the socket to loopback; what connect() is to say without it.
pub(super) fn prepare(taken: &Taken, destination: SocketAddr) -> Option<rustix::io::Result<()>> {
    let socket = taken.fd.as_fd();
    if leaves_loopback(socket) {
        return Some(Err(Errno::NETUNREACH));
    }
    // Whoever has dissolved it before may have left this undone.
    if destination.is_ipv6() { restore(socket) } else { None }
}

/// Waits for a connection that is under way. `begun`: what was said when it was asked for, as a blocking call does when its time is over.
///
/// # Errors
/// connect()'s error, or what has ended the wait.
pub(super) async fn wait(
    caller: &Caller,
    taken: &Taken,
    destination: SocketAddr,
    wait: &mut Wait,
    begun: Errno,
) -> Result<(), Stop> {
    loop {
        if let Some(outcome) = progress(taken, destination) {
            return outcome.map_err(Stop::from);
        }
        wait.until_writable(caller, &taken.fd, begun.raw_os_error()).await?;
    }
}

/// How a blocking connect() ends; `None` while that is not decided.
fn progress(taken: &Taken, destination: SocketAddr) -> Option<rustix::io::Result<()>> {
    let socket = taken.fd.as_fd();
    if peer_of(socket).is_some() {
        // The kernel, too, is to take the connect() for finished.
        return Some(match connect_at_once(socket, Encoded::new(destination).as_bytes()) {
            Err(Errno::ISCONN) => Ok(()),
            outcome => outcome,
        });
    }
    // Looked at first: once it is over, the error is there.
    let is_over = is_hung_up(taken);
    match sockopt::socket_error(socket) {
        Ok(Ok(())) if is_over => Some(Err(Errno::CONNABORTED)),
        Ok(Ok(())) => None,
        Ok(Err(error)) | Err(error) => {
            // As the kernel does it in a connect() that waits. Where a thread keeps it from that, the next connect() finds out.
            let _ = dissolve(socket, destination.is_ipv6());
            Some(Err(error))
        }
    }
}

/// Is it unconnected again? If so without an error, another thread has dissolved it.
fn is_hung_up(taken: &Taken) -> bool {
    let mut polled = [PollFd::new(&taken.fd, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_told = poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0);
    is_told && polled.iter().any(|polled| polled.revents().contains(PollFlags::HUP))
}
