//! A set of sockets, by `SO_COOKIE`. Nobody tells the broker that one is closed, so the oldest make room.

use std::collections::{HashSet, VecDeque};

/// Most sockets that are remembered.
const MOST: usize = 4096;

/// Some sockets.
#[derive(Default)]
pub(super) struct Cookies {
    all: HashSet<u64>,
    oldest: VecDeque<u64>,
}

impl Cookies {
    pub(super) fn insert(&mut self, cookie: u64) {
        if self.all.insert(cookie) {
            self.oldest.push_back(cookie);
        }
        if self.oldest.len() > MOST
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.all.remove(&oldest);
        }
    }

    pub(super) fn has(&self, cookie: u64) -> bool {
        self.all.contains(&cookie)
    }

    /// Was it among them? It is no more.
    pub(super) fn remove(&mut self, cookie: u64) -> bool {
        let was_there = self.all.remove(&cookie);
        if was_there {
            self.oldest.retain(|other| *other != cookie);
        }
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_what_is_taken_out_is_gone() {
        let mut cookies = Cookies::default();
        for cookie in 0..=MOST as u64 {
            cookies.insert(cookie);
            cookies.insert(cookie);
        }
        assert!(!cookies.has(0) && cookies.has(1));
        assert!(cookies.remove(1) && !cookies.remove(1) && !cookies.has(1));
        assert_eq!(cookies.all.len(), cookies.oldest.len());
    }
}
