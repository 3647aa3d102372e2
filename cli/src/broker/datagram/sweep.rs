//! Which sockets programs have closed: nobody tells the broker, and a copy of a socket would keep its port.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;

use super::Datagrams;
use crate::procfs::udp_sockets;

/// How often to look which sockets programs have closed.
const SWEEP: Duration = Duration::from_secs(2);

/// Looks from now on which sockets are closed, until none is left.
pub(super) fn keep_swept(datagrams: &Rc<Datagrams>) {
    if datagrams.is_swept.replace(true) {
        return;
    }
    let datagrams = Rc::clone(datagrams);
    spawn_local(async move {
        while !datagrams.flows.borrow().is_empty() {
            tokio::time::sleep(SWEEP).await;
            // Without /proc nothing is ever swept, and the oldest flows make room.
            let Ok(open) = udp_sockets() else { continue };
            for cookie in datagrams.flows.borrow_mut().sweep(&open) {
                datagrams.let_go(cookie);
            }
        }
        datagrams.is_swept.set(false);
    });
}
