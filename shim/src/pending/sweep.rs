//! Slots whose socket was closed are found now and then.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::{State, table};

/// Abandoned slots are looked for once in so many insertions and fruitless looks.
const SWEEP_EVERY: usize = 64;
static SINCE_SWEEP: AtomicUsize = AtomicUsize::new(0);

/// A look among pending sockets found none of them: perhaps their owners are gone.
pub(crate) fn sweep_now_and_then() {
    if SINCE_SWEEP.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
        sweep();
    }
}

/// Frees the slots whose connect was made under a number that no longer means the socket, and whose answer has come. (A copy under another
/// number then finds the error gone; the kernel's own would still be there.)
pub(super) fn sweep() {
    for pending in table::all() {
        if pending.slot.is_socket(pending.slot.fd()) {
            continue;
        }
        if let State::Failed(pending) = pending.refresh() {
            pending.take_error();
        }
    }
}
