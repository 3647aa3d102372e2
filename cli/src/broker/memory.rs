//! What a burst of connects has needed is given back to the system: the allocator would keep it, as small things lie between the free pages.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Fewer at the same time are no burst: a few hundred need less than the broker has at rest.
const MANY: usize = 512;

/// A burst has ended when so many times fewer are left.
const FEWER: usize = 8;

/// What comes after a burst comes first: giving back takes a millisecond or two.
const PAUSE: Duration = Duration::from_secs(1);

/// The most that there have been at once since memory was given back.
#[derive(Default)]
pub(super) struct Burst {
    most: Cell<usize>,
    ended: Notify,
}

impl Burst {
    /// So many there are now.
    pub(super) fn count(&self, now: usize) {
        let most = self.most.get();
        if now > most {
            self.most.set(now);
        } else if most >= MANY && now <= most / FEWER {
            self.most.set(now);
            self.ended.notify_one();
        }
    }

    /// Ready when a burst has ended.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// Gives memory back after each burst. Between them nothing wakes the broker.
pub(super) async fn attend(burst: impl AsyncFn()) {
    loop {
        burst().await;
        sleep(PAUSE).await;
        give_back();
    }
}

/// malloc_trim(3).
fn give_back() {
    #[allow(unsafe_code, reason = "nothing else asks the allocator for this")]
    // SAFETY: a number.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn has_ended(burst: &Burst) -> bool {
        matches!(pin!(burst.ended()).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    #[test]
    fn a_burst_ends_once_and_few_are_none() {
        let burst = Burst::default();
        (1..MANY).chain((0..MANY - 1).rev()).for_each(|now| burst.count(now));
        assert!(!has_ended(&burst));
        (1..=MANY).chain((MANY / FEWER + 1..MANY).rev()).for_each(|now| burst.count(now));
        assert!(!has_ended(&burst));
        (0..=MANY / FEWER).rev().for_each(|now| burst.count(now));
        assert!(has_ended(&burst) && !has_ended(&burst));
    }
}
