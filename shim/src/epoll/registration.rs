//! A registration in an epoll set that is masked while its socket's connect is under way: kept here, to be given back.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use libc::{c_int, epoll_event};

/// One registration of a pending socket in one epoll set, as the program made it.
pub(crate) struct Registration {
    /// The set's number plus one; 0: not in use. So a table of these is all zero, and takes no room in the file.
    set: AtomicI32,
    pub(super) fd: AtomicI32,
    events: AtomicU32,
    data: AtomicU64,
    /// A failure was shown, once was enough, and the ticket is out of the set.
    pub(super) is_spent: AtomicBool,
}

impl Registration {
    pub(crate) const fn new() -> Self {
        Self {
            set: AtomicI32::new(0),
            fd: AtomicI32::new(0),
            events: AtomicU32::new(0),
            data: AtomicU64::new(0),
            is_spent: AtomicBool::new(false),
        }
    }

    pub(super) fn is(&self, epoll: c_int, fd: c_int) -> bool {
        self.in_set(epoll) && self.fd.load(Ordering::Relaxed) == fd
    }

    /// The epoll set's number, if the registration is in use.
    pub(super) fn set(&self) -> Option<c_int> {
        self.set.load(Ordering::Relaxed).checked_sub(1).filter(|set| *set >= 0)
    }

    pub(super) fn put_in(&self, epoll: c_int) {
        self.set.store(epoll.saturating_add(1), Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.set.store(0, Ordering::Relaxed);
    }

    pub(super) fn in_set(&self, epoll: c_int) -> bool {
        self.set() == Some(epoll)
    }

    pub(super) fn set_event(&self, event: epoll_event) {
        self.events.store(event.events, Ordering::Relaxed);
        self.data.store(event.u64, Ordering::Relaxed);
    }

    pub(super) fn event(&self) -> epoll_event {
        epoll_event { events: self.events.load(Ordering::Relaxed), u64: self.data.load(Ordering::Relaxed) }
    }
}
