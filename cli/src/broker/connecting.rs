//! The connects that are under way, by the cookies of their sockets: one at a time for each. Whoever has a copy of the socket can wait for the
//! end with a ticket of their own, and then keeps the attempt going as much as those who began it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::holders::{self, Holder};
use super::memory::Burst;

/// How long a program that has the socket may take to start, and to ask how the connect stands.
const PATIENCE: Duration = Duration::from_secs(5);

/// While it is executed, a program cannot be looked at.
const PATIENCE_WITH_THE_UNKNOWN: Duration = Duration::from_millis(300);

/// Why an attempt ends before it is done, or a wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Nobody waits for it any more.
    Left,
    /// The program has dissolved the socket's association (`AF_UNSPEC`).
    Dissolved,
}

/// All that are under way.
#[derive(Default)]
pub(super) struct Connecting {
    attempts: RefCell<HashMap<u64, Rc<Attempt>>>,
    /// Those that have failed when somebody had been told that they were under way, from the oldest to the newest: he may be about to wait.
    failed: RefCell<VecDeque<(u64, i32)>>,
    burst: Burst,
}

#[derive(Default)]
struct Attempt {
    /// Those who wait beside who began it.
    others: Rc<Waiters>,
    /// Is it being looked whether anybody has the socket who will wait?
    is_in_doubt: Cell<bool>,
    /// Was a copy of the socket sent to another process? For a while nobody may have it.
    is_handed_on: Cell<bool>,
    dissolved: Notify,
    /// Has a caught call dissolved the socket? The attempt ends when it next runs, and does nothing more.
    is_dissolved: Cell<bool>,
    /// The number of which a signal is to speak when it ends (`O_ASYNC`).
    signal: Cell<Option<i32>>,
    /// Was somebody told that it is under way?
    is_known: Cell<bool>,
    outcome: Cell<Option<i32>>,
    ended: Notify,
}

/// Most failures that are remembered; the oldest make room.
const MOST_FAILED: usize = 256;

impl Connecting {
    /// Begins an attempt; `None` while another one is under way on this socket. `number`: of the program's descriptor.
    pub(super) fn begin(&self, cookie: u64, number: i32) -> Option<Turn<'_>> {
        let mut all = self.attempts.borrow_mut();
        if all.contains_key(&cookie) {
            return None;
        }
        self.failed.borrow_mut().retain(|(other, _)| *other != cookie);
        let attempt = Rc::<Attempt>::default();
        attempt.signal.set(Some(number));
        all.insert(cookie, Rc::clone(&attempt));
        self.burst.count(all.len());
        Some(Turn { connecting: self, cookie, attempt })
    }

    /// Is an attempt under way? Then who asks may wait for its end afterwards, even if it has failed by then.
    pub(super) fn has(&self, cookie: u64) -> bool {
        let all = self.attempts.borrow();
        let attempt = all.get(&cookie).filter(|attempt| !attempt.is_dissolved.get());
        attempt.inspect(|attempt| attempt.is_known.set(true)).is_some()
    }

    /// A copy of the socket is about to be sent to another process. False when no attempt is under way.
    pub(super) fn hand_on(&self, cookie: u64) -> bool {
        let all = self.attempts.borrow();
        all.get(&cookie).inspect(|attempt| attempt.is_handed_on.set(true)).is_some()
    }

    /// Whether a signal is to tell of the end, and of which number. False when no attempt is under way.
    pub(super) fn set_signal(&self, cookie: u64, signal: Option<i32>) -> bool {
        let all = self.attempts.borrow();
        all.get(&cookie).inspect(|attempt| attempt.signal.set(signal)).is_some()
    }

    /// Ends an attempt, as the program has dissolved the socket.
    pub(super) fn dissolve(&self, cookie: u64) {
        if let Some(attempt) = self.attempts.borrow().get(&cookie) {
            attempt.is_dissolved.set(true);
            attempt.dissolved.notify_one();
        }
    }

    /// Ready when there were many, and few are left.
    pub(super) async fn burst_ended(&self) {
        self.burst.ended().await;
        self.attempts.borrow_mut().shrink_to_fit();
    }

    fn failure(&self, cookie: u64) -> Option<i32> {
        self.failed.borrow().iter().find(|(other, _)| *other == cookie).map(|(_, errno)| *errno)
    }

    /// Waits for the end of the attempt on this socket: its errno, 0 for success, `ENOENT` when there is none. `None` when it has ended without
    /// one, or nobody waits here any more.
    pub(super) async fn end(&self, cookie: u64, given_up: impl Future<Output = GivenUp>) -> Option<i32> {
        let found = self.attempts.borrow().get(&cookie).map(Rc::clone);
        let Some(attempt) = found else { return Some(self.failure(cookie).unwrap_or(libc::ENOENT)) };
        let _other = attempt.others.enter();
        let mut ended = std::pin::pin!(attempt.ended.notified());
        tokio::select! {
            biased;
            () = &mut ended => return attempt.outcome.get(),
            why = given_up => match why {
                GivenUp::Left => return None,
                GivenUp::Dissolved => attempt.dissolved.notify_one(),
            },
        }
        ended.await;
        attempt.outcome.get()
    }
}

/// An attempt, for as long as it is under way.
pub(super) struct Turn<'a> {
    connecting: &'a Connecting,
    cookie: u64,
    attempt: Rc<Attempt>,
}

impl Turn<'_> {
    /// See [`Connecting::set_signal`].
    pub(super) fn signal(&self) -> &Cell<Option<i32>> {
        &self.attempt.signal
    }

    /// Ready when there is no use in going on: `by_first` says so of those who began it, `held` by whom the socket is.
    pub(super) async fn given_up(
        &self,
        by_first: impl Future<Output = GivenUp> + Unpin,
        held: impl AsyncFn() -> Holder,
    ) -> GivenUp {
        let by_all = async {
            let why = by_first.await;
            if why == GivenUp::Left {
                // Seldom, and large.
                Box::pin(self.left(held)).await;
            }
            why
        };
        tokio::select! {
            biased;
            () = self.attempt.dissolved.notified() => GivenUp::Dissolved,
            why = by_all => why,
        }
    }

    /// Runs the attempt, which stands still while it is not known whether it is for anybody.
    pub(super) async fn unless_in_doubt<T>(&self, mut attempt: Pin<&mut impl Future<Output = T>>) -> T {
        // Whoever looks runs in the same task, so this is asked again afterwards.
        poll_fn(
            |context| {
                if self.attempt.is_in_doubt.get() { Poll::Pending } else { attempt.as_mut().poll(context) }
            },
        )
        .await
    }

    /// Ready when nobody waits, and nobody will. A program that has the socket across execve(2), or received it, asks as soon as it runs; only one that the
    /// shim is in can be kept out of the handshake until then.
    async fn left(&self, held: impl AsyncFn() -> Holder) {
        loop {
            self.attempt.others.all_left().await;
            let since = Instant::now();
            while !self.attempt.others.is_any() {
                self.attempt.is_in_doubt.set(true);
                let held = held().await;
                self.attempt.is_in_doubt.set(false);
                let patience = match held {
                    Holder::Nobody if self.attempt.is_handed_on.get() => Duration::MAX,
                    Holder::WithShim => PATIENCE,
                    Holder::Unknown => PATIENCE_WITH_THE_UNKNOWN,
                    Holder::Nobody | Holder::WithoutShim => Duration::ZERO,
                };
                if !self.attempt.others.is_any() && since.elapsed() >= patience {
                    return;
                }
                sleep(holders::INTERVAL).await;
            }
        }
    }

    /// Ends it: the others are told.
    pub(super) fn end(self, errno: i32) {
        self.attempt.outcome.set(Some(errno));
        if errno != 0 && self.attempt.is_known.get() {
            let mut failed = self.connecting.failed.borrow_mut();
            failed.push_back((self.cookie, errno));
            if failed.len() > MOST_FAILED {
                failed.pop_front();
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let left = {
            let mut all = self.connecting.attempts.borrow_mut();
            all.remove(&self.cookie);
            all.len()
        };
        self.connecting.burst.count(left);
        self.attempt.ended.notify_waiters();
    }
}

/// Those who wait for something that goes on for as long as anybody does.
#[derive(Default)]
pub(super) struct Waiters {
    count: Cell<usize>,
    one_left: Notify,
}

impl Waiters {
    /// One more, for as long as what this returns lives.
    pub(super) fn enter(self: &Rc<Self>) -> Waiter {
        self.count.update(|count| count + 1);
        Waiter(Rc::clone(self))
    }

    pub(super) fn is_any(&self) -> bool {
        self.count.get() > 0
    }

    /// Ready when nobody waits.
    pub(super) async fn all_left(&self) {
        while self.is_any() {
            self.one_left.notified().await;
        }
    }
}

/// Counts as one that waits while it lives.
pub(super) struct Waiter(Rc<Waiters>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.count.update(|count| count - 1);
        self.0.one_left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::{LocalSet, spawn_local, yield_now};
    use tokio::time::timeout;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    fn held_by(held: Holder) -> impl AsyncFn() -> Holder {
        move || ready(held)
    }

    #[test]
    fn one_attempt_at_a_time_is_under_way_on_a_socket() {
        let connecting = Connecting::default();
        let turn = connecting.begin(7, 3).unwrap();
        assert!(connecting.begin(7, 3).is_none() && connecting.has(7) && !connecting.has(8));
        turn.end(0);
        assert!(!connecting.has(7) && connecting.begin(7, 3).is_some());
    }

    #[test]
    fn others_are_told_how_it_ends_and_that_there_is_none() {
        run(async {
            let connecting = Rc::new(Connecting::default());
            assert_eq!(connecting.end(7, pending()).await, Some(libc::ENOENT));
            let turn = connecting.begin(7, 3).unwrap();
            let other = spawn_local({
                let connecting = Rc::clone(&connecting);
                async move { connecting.end(7, pending()).await }
            });
            yield_now().await;
            turn.end(libc::ECONNREFUSED);
            assert_eq!(other.await.unwrap(), Some(libc::ECONNREFUSED));
        });
    }

    #[test]
    fn who_knows_of_it_is_told_that_it_has_failed_until_there_is_another() {
        run(async {
            let connecting = Connecting::default();
            for (is_known, told) in [(false, libc::ENOENT), (true, libc::ECONNREFUSED)] {
                let turn = connecting.begin(7, 3).unwrap();
                assert!(!is_known || connecting.has(7));
                turn.end(libc::ECONNREFUSED);
                assert_eq!(connecting.end(7, pending()).await, Some(told));
            }
            drop(connecting.begin(7, 3));
            assert_eq!(connecting.end(7, pending()).await, Some(libc::ENOENT));
            for cookie in 0..=MOST_FAILED as u64 {
                let turn = connecting.begin(cookie, 3).unwrap();
                assert!(connecting.has(cookie));
                turn.end(libc::ETIMEDOUT);
            }
            assert_eq!(connecting.end(0, pending()).await, Some(libc::ENOENT));
            assert_eq!(connecting.end(1, pending()).await, Some(libc::ETIMEDOUT));
        });
    }

    #[test]
    fn it_goes_on_for_as_long_as_anybody_waits() {
        run(async {
            let connecting = Rc::new(Connecting::default());
            let turn = connecting.begin(7, 3).unwrap();
            let leave = Rc::new(Notify::new());
            let other = spawn_local({
                let (connecting, leave) = (Rc::clone(&connecting), Rc::clone(&leave));
                let left = async move {
                    leave.notified().await;
                    GivenUp::Left
                };
                async move { connecting.end(7, left).await }
            });
            yield_now().await;
            let mut given_up = std::pin::pin!(turn.given_up(ready(GivenUp::Left), held_by(Holder::Nobody)));
            tokio::select! {
                biased;
                _ = &mut given_up => panic!("given up while another waits"),
                () = yield_now() => {}
            }
            leave.notify_one();
            assert_eq!(given_up.await, GivenUp::Left);
            assert_eq!(other.await.unwrap(), None);
        });
    }

    #[test]
    fn it_goes_on_while_somebody_may_ask_who_has_the_socket() {
        run(async {
            let connecting = Connecting::default();
            for (held, is_handed_on, goes_on) in [
                (Holder::Nobody, false, false),
                (Holder::Nobody, true, true),
                (Holder::Unknown, false, true),
                (Holder::WithShim, false, true),
                (Holder::WithoutShim, true, false),
            ] {
                let turn = connecting.begin(7, 3).unwrap();
                assert!(!is_handed_on || connecting.hand_on(7));
                let given_up = turn.given_up(ready(GivenUp::Left), held_by(held));
                let soon = timeout(Duration::from_millis(1), given_up).await;
                assert_eq!(soon.is_err(), goes_on, "{held:?}");
            }
            assert!(!connecting.hand_on(7));
        });
    }

    #[test]
    fn it_ends_for_all_when_anybody_dissolves_the_socket() {
        run(async {
            let connecting = Rc::new(Connecting::default());
            let turn = connecting.begin(7, 3).unwrap();
            let other = spawn_local({
                let connecting = Rc::clone(&connecting);
                async move { connecting.end(7, ready(GivenUp::Dissolved)).await }
            });
            yield_now().await;
            assert_eq!(turn.given_up(pending(), held_by(Holder::Nobody)).await, GivenUp::Dissolved);
            turn.end(libc::EPIPE);
            assert_eq!(other.await.unwrap(), Some(libc::EPIPE));

            let turn = connecting.begin(7, 3).unwrap();
            connecting.dissolve(7);
            assert!(!connecting.has(7), "the socket is its program's again");
            assert_eq!(
                turn.given_up(ready(GivenUp::Left), held_by(Holder::Nobody)).await,
                GivenUp::Dissolved
            );
        });
    }
}
