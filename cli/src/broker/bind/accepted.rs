//! Who has come by a BIND, for accept(), getpeername() and getsockname().
//!
//! An accepted connection comes from an address of the broker's on loopback, which is nobody else's while the broker's socket lives. Once a program
//! has asked, its socket is known by `SO_COOKIE`, and the address may be used again.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Most sockets that are remembered.
const MOST: usize = 4096;

/// Somebody who has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Come {
    /// Who.
    pub(super) peer: SocketAddr,
    /// Where the proxy has listened.
    pub(super) external: SocketAddr,
}

/// By the address from which the broker has brought them, and by the cookies of sockets that have been asked about.
#[derive(Default)]
pub(super) struct Accepted {
    by_source: HashMap<SocketAddr, (u64, Come)>,
    brought: u64,
    by_cookie: HashMap<u64, (SocketAddr, Come)>,
    oldest: VecDeque<u64>,
}

impl Accepted {
    /// From this address somebody is brought. The number by which to forget it.
    pub(super) fn expect(&mut self, source: SocketAddr, come: Come) -> u64 {
        self.brought += 1;
        self.by_source.insert(source, (self.brought, come));
        self.brought
    }

    /// The address is no longer ours, unless somebody else has been brought from it since.
    pub(super) fn forget(&mut self, source: SocketAddr, number: u64) {
        if self.by_source.get(&source).is_some_and(|(newest, _)| *newest == number) {
            self.by_source.remove(&source);
        }
    }

    /// Is there nobody?
    pub(super) fn is_empty(&self) -> bool {
        self.by_source.is_empty() && self.by_cookie.is_empty()
    }

    /// Who is on the other side of the socket with this cookie, whose peer is `actual`.
    pub(super) fn get(&mut self, cookie: u64, actual: SocketAddr) -> Option<Come> {
        let actual = SocketAddr::new(actual.ip().to_canonical(), actual.port());
        if let Some((source, come)) = self.by_cookie.get(&cookie) {
            return (*source == actual).then_some(*come);
        }
        // It is one connection: who comes from there later is somebody else.
        let (_, come) = self.by_source.remove(&actual)?;
        self.by_cookie.insert(cookie, (actual, come));
        self.oldest.push_back(cookie);
        if self.oldest.len() > MOST
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.by_cookie.remove(&oldest);
        }
        Some(come)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_asked_about_is_known_when_its_source_is_not() {
        let mut accepted = Accepted::default();
        let [source, mapped, other, peer, external] = [
            "127.0.0.1:4000",
            "[::ffff:127.0.0.1]:4000",
            "127.0.0.1:4001",
            "192.0.2.7:20",
            "198.51.100.1:5000",
        ]
        .map(|text| text.parse().unwrap());
        let come = Come { peer, external };
        let number = accepted.expect(source, come);
        assert_eq!(accepted.get(7, other), None);
        assert_eq!(accepted.get(7, mapped), Some(come));
        assert_eq!(accepted.get(9, source), None, "another connection from there");
        let next = accepted.expect(source, Come { peer: other, external });
        accepted.forget(source, number);
        assert_eq!(accepted.get(7, source), Some(come));
        accepted.forget(source, next);
        assert_eq!(accepted.get(7, other), None);
        assert_eq!(accepted.get(8, source), None);
    }

    #[test]
    fn the_newest_are_kept() {
        let mut accepted = Accepted::default();
        let source: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        for cookie in 0..=MOST as u64 {
            accepted.expect(source, Come { peer: source, external: source });
            assert!(accepted.get(cookie, source).is_some());
        }
        assert_eq!(accepted.get(0, source), None);
        assert!(accepted.get(1, source).is_some());
        assert_eq!(accepted.by_cookie.len(), accepted.oldest.len());
    }
}
