//! The connects that are under way, by the cookies of their sockets: one at a time for each. Whoever has a copy of the socket can wait for the
//! end with a ticket of their own, and then keeps the attempt going as much as those who began it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::memory::Burst;

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
    burst: Burst,
}

#[derive(Default)]
struct Attempt {
    /// Those who wait beside who began it.
    others: Rc<Waiters>,
    dissolved: Notify,
    outcome: Cell<Option<i32>>,
    ended: Notify,
}

impl Connecting {
    /// Begins an attempt; `None` while another one is under way on this socket.
    pub(super) fn begin(&self, cookie: u64) -> Option<Turn<'_>> {
        let mut all = self.attempts.borrow_mut();
        if all.contains_key(&cookie) {
            return None;
        }
        let attempt = Rc::<Attempt>::default();
        all.insert(cookie, Rc::clone(&attempt));
        self.burst.count(all.len());
        Some(Turn { connecting: self, cookie, attempt })
    }

    /// Is an attempt under way?
    pub(super) fn has(&self, cookie: u64) -> bool {
        self.attempts.borrow().contains_key(&cookie)
    }

    /// Ends an attempt, as the program has dissolved the socket.
    pub(super) fn dissolve(&self, cookie: u64) {
        if let Some(attempt) = self.attempts.borrow().get(&cookie) {
            attempt.dissolved.notify_one();
        }
    }

    /// Ready when there were many, and few are left.
    pub(super) async fn burst_ended(&self) {
        self.burst.ended().await;
        self.attempts.borrow_mut().shrink_to_fit();
    }

    /// Waits for the end of the attempt on this socket: its errno, 0 for success, `ENOENT` when there is none. `None` when it has ended without
    /// one, or nobody waits here any more.
    pub(super) async fn end(&self, cookie: u64, given_up: impl Future<Output = GivenUp>) -> Option<i32> {
        let found = self.attempts.borrow().get(&cookie).map(Rc::clone);
        let Some(attempt) = found else { return Some(libc::ENOENT) };
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
    /// Ready when there is no use in going on: `by_first` says so of those who began it.
    pub(super) async fn given_up(&self, by_first: impl Future<Output = GivenUp> + Unpin) -> GivenUp {
        let by_all = async {
            let why = by_first.await;
            if why == GivenUp::Left {
                self.attempt.others.all_left().await;
            }
            why
        };
        tokio::select! {
            biased;
            () = self.attempt.dissolved.notified() => GivenUp::Dissolved,
            why = by_all => why,
        }
    }

    /// Does anybody wait for it beside those who began it?
    pub(super) fn has_others(&self) -> bool {
        self.attempt.others.count.get() > 0
    }

    /// Ends it: the others are told.
    pub(super) fn end(self, errno: i32) {
        self.attempt.outcome.set(Some(errno));
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

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn one_attempt_at_a_time_is_under_way_on_a_socket() {
        let connecting = Connecting::default();
        let turn = connecting.begin(7).unwrap();
        assert!(connecting.begin(7).is_none() && connecting.has(7) && !connecting.has(8));
        turn.end(0);
        assert!(!connecting.has(7) && connecting.begin(7).is_some());
    }

    #[test]
    fn others_are_told_how_it_ends_and_that_there_is_none() {
        run(async {
            let connecting = Rc::new(Connecting::default());
            assert_eq!(connecting.end(7, pending()).await, Some(libc::ENOENT));
            let turn = connecting.begin(7).unwrap();
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
    fn it_goes_on_for_as_long_as_anybody_waits() {
        run(async {
            let connecting = Rc::new(Connecting::default());
            let turn = connecting.begin(7).unwrap();
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
            let mut given_up = std::pin::pin!(turn.given_up(ready(GivenUp::Left)));
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
    fn it_ends_for_all_when_anybody_dissolves_the_socket() {
        run(async {
            let connecting = Rc::new(Connecting::default());
            let turn = connecting.begin(7).unwrap();
            let other = spawn_local({
                let connecting = Rc::clone(&connecting);
                async move { connecting.end(7, ready(GivenUp::Dissolved)).await }
            });
            yield_now().await;
            assert_eq!(turn.given_up(pending()).await, GivenUp::Dissolved);
            turn.end(libc::EPIPE);
            assert_eq!(other.await.unwrap(), Some(libc::EPIPE));

            let turn = connecting.begin(7).unwrap();
            connecting.dissolve(7);
            assert_eq!(turn.given_up(ready(GivenUp::Left)).await, GivenUp::Dissolved);
        });
    }
}
