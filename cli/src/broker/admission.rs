//! Admission control: how many tickets of other users may wait for their request.
//!
//! An abstract Unix socket has no permissions (unix(7)): everybody in the network namespace can connect to it, and each connection costs the
//! broker a descriptor until it has sent its request. Programs of the session that have changed their user are other users too, so none is turned away for
//! its user alone. They send their request at once; of those that do not, only so many are kept.

use std::sync::Arc;

use rustix::process::{Uid, geteuid};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_seqpacket::UnixSeqpacket;

/// Most that may wait at once; in an honest session there are a few, for microseconds.
const LIMIT: usize = 64;

/// Counts the tickets of other users that have not shown the session's token yet.
pub(super) struct AdmissionControl(Arc<Semaphore>);

/// A ticket may wait for its request while this lives.
pub(super) struct Admission {
    _place: Option<OwnedSemaphorePermit>,
}

impl AdmissionControl {
    /// As many as there is room for.
    pub(super) fn new(room: usize) -> Self {
        Self(Arc::new(Semaphore::new(room.clamp(1, LIMIT))))
    }

    /// `None` when too many are waiting already. Our own user and root could harm the broker in any case.
    pub(super) fn admit(&self, ticket: &UnixSeqpacket) -> Option<Admission> {
        let user = ticket.peer_cred().ok().map(|who| who.uid());
        if user.is_some_and(|user| user == geteuid().as_raw() || user == Uid::ROOT.as_raw()) {
            return Some(Admission { _place: None });
        }
        let place = Arc::clone(&self.0).try_acquire_owned().ok()?;
        Some(Admission { _place: Some(place) })
    }
}
