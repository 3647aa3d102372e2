//! Tickets that come in turn, on their way in. A question about a connect comes by the other queue, and may overtake it; so it waits for what has come before it.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Waker};
use std::time::Duration;

use presocks_proto::session::Queue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep;

use crate::descriptors::Descriptors;

/// Tickets that may wait in a queue until they are taken in; the kernel lowers it to its own limit.
pub(crate) const BACKLOG: i32 = 4096;

/// After so many of them others have their turn.
const AT_A_TIME: u64 = 32;

/// How often to look whether they are.
const INTERVAL: Duration = Duration::from_millis(1);

/// The queue, and how many tickets have been taken in from it.
pub(crate) struct Arrivals {
    listener: OwnedFd,
    taken_in: Cell<u64>,
}

impl Arrivals {
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new(rendezvous: &[(Queue, OwnedFd); 2]) -> io::Result<Self> {
        let in_turn = rendezvous.iter().find(|(queue, _)| *queue == Queue::InTurn);
        let (_, listener) = in_turn.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { listener: listener.try_clone()?, taken_in: Cell::new(0) })
    }

    /// Serves a ticket in a task of its own, and here as far as that goes without a wait: from then on its connect is known to be under way.
    pub(super) async fn take_in(&self, serve: impl Future<Output = ()> + 'static) {
        let mut serve = Box::pin(serve);
        // The task asks again.
        let is_served = serve.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if !is_served {
            spawn_local(serve);
        }
        self.taken_in.update(|count| count + 1);
        // There may be thousands.
        if self.taken_in.get().is_multiple_of(AT_A_TIME) {
            yield_now().await;
        }
    }

    /// Ready when all that have come by now are taken in, unless descriptors are short: then nobody knows when that is.
    pub(super) async fn all_taken_in(&self, descriptors: &Descriptors) {
        // The queue may be empty at no time.
        let last = self.taken_in.get() + BACKLOG as u64 + 1;
        while self.taken_in.get() < last && !descriptors.holds_back() && self.is_any_left() {
            sleep(INTERVAL).await;
        }
    }

    fn is_any_left(&self) -> bool {
        let mut polled = [PollFd::new(&self.listener, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::pin::pin;
    use std::rc::Rc;

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::readiness::tests::run;

    #[test]
    fn a_question_waits_until_what_came_before_it_is_taken_in() {
        let directory = std::env::temp_dir().join(format!("presocks-arrivals-{}", std::process::id()));
        let listener = UnixListener::bind(&directory).unwrap();
        let connect = || UnixStream::connect(&directory).unwrap();
        let _first = connect();
        let _second = connect();
        std::fs::remove_file(&directory).unwrap();
        run(async {
            let held = OwnedFd::from(listener.try_clone().unwrap());
            let other = OwnedFd::from(UnixListener::from(OwnedFd::from(listener.try_clone().unwrap())));
            let arrivals = Arrivals::new(&[(Queue::AtOnce, other), (Queue::InTurn, held)]).unwrap();
            let descriptors = Descriptors::new();
            let mut waits = pin!(arrivals.all_taken_in(&descriptors));
            assert!(timeout(INTERVAL * 3, &mut waits).await.is_err());
            let begun = Rc::new(Notify::new());
            for _ in 0..2 {
                listener.accept().unwrap();
                let begins = Rc::clone(&begun);
                arrivals.take_in(async move { begins.notify_one() }).await;
            }
            waits.await;
            begun.notified().await;
        });
    }
}
