//! Which sockets programs have closed: nobody tells the broker, and a copy of a socket would keep its port.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;

use super::Datagrams;

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
            let Ok(open) = open_sockets() else { continue };
            for cookie in datagrams.flows.borrow_mut().sweep(&open) {
                datagrams.let_go(cookie);
            }
        }
        datagrams.is_swept.set(false);
    });
}

/// The inodes of all UDP sockets of this network namespace (proc(5)).
fn open_sockets() -> io::Result<HashSet<u64>> {
    const INODE: usize = 9;
    let mut open = HashSet::new();
    for (table, is_needed) in [("/proc/net/udp", true), ("/proc/net/udp6", false)] {
        let text = match std::fs::read_to_string(table) {
            Ok(text) => text,
            Err(error) if is_needed => return Err(error),
            // A kernel without IPv6.
            Err(_) => continue,
        };
        let inode = |line: &str| line.split_ascii_whitespace().nth(INODE)?.parse::<u64>().ok();
        open.extend(text.lines().filter_map(inode));
    }
    Ok(open)
}
