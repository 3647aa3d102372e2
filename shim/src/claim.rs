//! Turn-taking on a slot without a lock.
//!
//! One atomic word says everything: which use of the slot this is, its phase, and, while somebody is at work on it, who. So a claim and its owner
//! appear in one step and vanish in one step, and whoever finds a claim can tell what to do: it is our own thread's (we
//! run in a signal handler on top of it): leave it; its owner is at work: wait; its owner is no more, because the thread
//! has died or because this process is a copy made by fork(2): take it over.
//!
//! | bits | |
//! | --- | --- |
//! | 63–48 | the use's number |
//! | 47 | claimed |
//! | 46–45 | phase, the one before the claim while it is claimed |
//! | 43–22 | the owner's process |
//! | 21–0 | the owner's thread (both below 2^22: `pid_max`, proc(5)) |

use core::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

const USE_SHIFT: u32 = 48;
const CLAIMED: u64 = 1 << 47;
const PHASE_SHIFT: u32 = 45;
const PHASE_MASK: u64 = 3 << PHASE_SHIFT;
const ID_BITS: u32 = 22;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
const OWNER_MASK: u64 = ID_MASK << ID_BITS | ID_MASK;

/// How far a slot's connect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is none.
    Free,
    /// Under way.
    Waiting,
    /// Failed, and the error not yet fetched.
    Failed,
}

/// One use of a slot; the next one has another number (until 2^16 have gone by).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use(pub(crate) u16);

/// The word.
pub(crate) struct Claimable(AtomicU64);

impl Claimable {
    /// Free, and all zero.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Starts the next use of a free slot that nobody else can take: it waits from here on.
    pub(crate) fn begin(&self) -> Use {
        let turn = Use(self.turn().0.wrapping_add(1));
        self.0.store(encode(turn, Phase::Waiting), Ordering::Release);
        turn
    }

    /// The number of the present or last use.
    pub(crate) fn turn(&self) -> Use {
        Use((self.0.load(Ordering::Relaxed) >> USE_SHIFT) as u16)
    }

    /// The present use; `None` when the slot is free.
    pub(crate) fn current(&self) -> Option<Use> {
        let word = self.0.load(Ordering::Acquire);
        (phase(word) != Phase::Free).then_some(Use((word >> USE_SHIFT) as u16))
    }

    /// Claims this use, runs `edit` on its phase, and leaves the phase that it returns, which is the result. `None`, and nothing run,
    /// when the use is over. If this very thread holds the claim already, the phase, and nothing run.
    pub(crate) fn claimed(&self, turn: Use, edit: impl FnOnce(Phase) -> Phase) -> Option<Phase> {
        let me = (sys::process() as u64 & ID_MASK) << ID_BITS | sys::thread() as u64 & ID_MASK;
        let before = loop {
            let word = self.0.load(Ordering::Acquire);
            if phase(word) == Phase::Free || (word >> USE_SHIFT) as u16 != turn.0 {
                return None;
            }
            if word & CLAIMED != 0 {
                if word & OWNER_MASK == me {
                    return Some(phase(word));
                }
                if !is_gone(word & OWNER_MASK, me) {
                    sys::pause();
                    continue;
                }
            }
            let claimed = word & !OWNER_MASK | CLAIMED | me;
            if self.0.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break phase(word);
            }
        };
        let after = edit(before);
        self.0.store(encode(turn, after), Ordering::Release);
        Some(after)
    }
}

fn encode(turn: Use, phase: Phase) -> u64 {
    let phase = match phase {
        Phase::Free => 0,
        Phase::Waiting => 1,
        Phase::Failed => 2,
    };
    u64::from(turn.0) << USE_SHIFT | phase << PHASE_SHIFT
}

fn phase(word: u64) -> Phase {
    match (word & PHASE_MASK) >> PHASE_SHIFT {
        0 => Phase::Free,
        1 => Phase::Waiting,
        _ => Phase::Failed,
    }
}

/// Will this owner never come back to our memory? A thread of ours that has died; or a thread of the process that we were copied from, unless
/// that process shares its memory with us (vfork(2)).
fn is_gone(owner: u64, me: u64) -> bool {
    let (process, thread) = ((owner >> ID_BITS) as libc::c_int, (owner & ID_MASK) as libc::c_int);
    if owner >> ID_BITS == me >> ID_BITS {
        !sys::is_alive(process, thread)
    } else {
        !sys::shares_memory_with(process)
    }
}
