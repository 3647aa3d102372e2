//! Waiting for something that will happen: look, rest briefly, look again, fail when it takes absurdly long.
//!
//! The limit is there to end a broken test, never to decide the outcome of a sound one.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take before a test counts as hung.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks until `look` finds something; panics naming `what` when it never does.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds; panics naming `what` when it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}
