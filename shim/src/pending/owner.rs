//! Whose descriptors a slot's numbers are.
//!
//! Memory and descriptors are shared by different rules. A child of vfork(2) has our memory and a table of descriptors of its own, and so has a
//! thread after unshare(CLONE_FILES): what they close is not closed for us. So only who shares the table in which a connect was begun may
//! conclude from a number that the program has closed something, and end the slot.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

const ID_BITS: u32 = 22;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
/// The table was that of the process' first thread as well.
const IS_FIRSTS: u64 = 1 << (2 * ID_BITS);

/// This is a child's copy.
const IS_COPY: u64 = 1 << (2 * ID_BITS + 1);

/// The thread that began a connect; process and thread are below 2^22 (`pid_max`, proc(5)).
pub(super) struct Owner(AtomicU64);

impl Owner {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Makes the calling thread the owner.
    pub(super) fn take(&self) {
        self.0.store(us(), Ordering::Relaxed);
    }

    /// Was the connect begun by the process from which this one was forked, which may hold the same descriptors?
    pub(super) fn is_copy(&self) -> bool {
        self.0.load(Ordering::Relaxed) & IS_COPY != 0
    }

    /// Does the calling thread share the table? `None` where there is no telling. A child made by fork(2) has both memory and table of its
    /// own, with all that was there: it becomes the owner of its copy.
    pub(super) fn is_us(&self) -> Option<bool> {
        let word = self.0.load(Ordering::Relaxed);
        let (process, thread) = (number(word >> ID_BITS), number(word));
        let own = sys::process();
        if process == own && thread == sys::thread() {
            return Some(true);
        }
        match sys::shares_descriptors_with(thread) {
            Ok(true) => Some(true),
            Ok(false) if process == own => Some(false),
            // The thread has ended, the table lives on with the others that have it.
            Err(libc::ESRCH) if process == own && word & IS_FIRSTS != 0 => {
                sys::shares_descriptors_with(own).ok()
            }
            Err(libc::ESRCH) if process == own => None,
            Ok(false) | Err(libc::ESRCH) => {
                let is_copy = !sys::shares_memory_with(process);
                if is_copy {
                    self.0.store(us() | IS_COPY, Ordering::Relaxed);
                }
                Some(is_copy)
            }
            Err(_) => None,
        }
    }
}

fn us() -> u64 {
    let (process, thread) = (sys::process(), sys::thread());
    let is_firsts = process == thread || sys::shares_descriptors_with(process) == Ok(true);
    id(process) << ID_BITS | id(thread) | if is_firsts { IS_FIRSTS } else { 0 }
}

fn id(number: libc::c_int) -> u64 {
    u64::from(number.cast_unsigned()) & ID_MASK
}

fn number(word: u64) -> libc::c_int {
    (word & ID_MASK) as libc::c_int
}
