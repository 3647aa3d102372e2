//! Where a socket was connected to, for getpeername.
//!
//! Found by `SO_COOKIE`, which follows a socket through dup, fork, exec and descriptor passing. The broker does not learn when a
//! socket is closed, so the oldest entries make room: then getpeername shows the proxy. Nor does it learn when a program connects a socket
//! anew on its own, to loopback: so an entry counts only as long as the socket is where the broker left it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Most sockets that are remembered: some 1.5 MB.
const MOST: usize = 16_384;

/// Cookies and destinations.
#[derive(Default)]
pub(super) struct Peers(RefCell<All>);

#[derive(Default)]
struct All {
    /// What was asked for, and where the socket truly is.
    destinations: HashMap<u64, (SocketAddr, SocketAddr)>,
    oldest: VecDeque<u64>,
}

impl Peers {
    /// Remembers a socket's destination, and its actual peer; a socket that is connected anew has new ones.
    pub(super) fn insert(&self, cookie: u64, destination: SocketAddr, actual: SocketAddr) {
        let All { destinations, oldest } = &mut *self.0.borrow_mut();
        if destinations.insert(cookie, (destination, canonical(actual))).is_none() {
            oldest.push_back(cookie);
        }
        if oldest.len() > MOST
            && let Some(oldest) = oldest.pop_front()
        {
            destinations.remove(&oldest);
        }
    }

    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().destinations.is_empty()
    }

    /// The destination of a socket whose peer is `actual`.
    pub(super) fn destination(&self, cookie: u64, actual: SocketAddr) -> Option<SocketAddr> {
        let all = self.0.borrow();
        let (destination, noted) = all.destinations.get(&cookie)?;
        (*noted == canonical(actual)).then_some(*destination)
    }
}

/// IPv4-mapped addresses as IPv4, without flow and scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_went_elsewhere_has_no_entry() {
        let peers = Peers::default();
        let [asked, proxy, mapped, other] =
            ["192.0.2.1:80", "10.0.0.1:1080", "[::ffff:10.0.0.1]:1080", "127.0.0.1:80"]
                .map(|text| text.parse().unwrap());
        peers.insert(7, asked, proxy);
        assert_eq!(peers.destination(7, mapped), Some(asked));
        assert_eq!(peers.destination(7, other), None);
    }

    #[test]
    fn the_newest_are_kept() {
        let peers = Peers::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        for cookie in 0..=MOST as u64 {
            peers.insert(cookie, address, address);
            peers.insert(cookie, address, address);
        }
        assert_eq!(peers.destination(0, address), None);
        assert_eq!(peers.destination(1, address), Some(address));
        let all = peers.0.borrow();
        assert_eq!(all.destinations.len(), all.oldest.len());
    }
}
