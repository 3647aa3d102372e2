//! Where a socket was connected to, for getpeername.
//!
//! Found by `SO_COOKIE`, which follows a socket through dup, fork, exec and descriptor passing. The broker does not learn when a
//! socket is closed, so the oldest entries make room: then getpeername shows the proxy.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Most sockets that are remembered: some 1.5 MB.
const MOST: usize = 16_384;

/// Cookies and destinations.
#[derive(Default)]
pub(super) struct Peers {
    destinations: HashMap<u64, SocketAddr>,
    oldest: VecDeque<u64>,
}

impl Peers {
    /// Remembers a socket's destination; a socket that is connected anew has a new one.
    pub(super) fn insert(&mut self, cookie: u64, destination: SocketAddr) {
        if self.destinations.insert(cookie, destination).is_none() {
            self.oldest.push_back(cookie);
        }
        if self.oldest.len() > MOST
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.destinations.remove(&oldest);
        }
    }

    /// The destination of a socket.
    pub(super) fn destination(&self, cookie: u64) -> Option<SocketAddr> {
        self.destinations.get(&cookie).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut peers = Peers::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        for cookie in 0..=MOST as u64 {
            peers.insert(cookie, address);
            peers.insert(cookie, address);
        }
        assert_eq!(peers.destination(0), None);
        assert_eq!(peers.destination(1), Some(address));
        assert_eq!(peers.destinations.len(), peers.oldest.len());
    }
}
