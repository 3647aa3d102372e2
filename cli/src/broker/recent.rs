//! A set that forgets its oldest members.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// At most so many, the newest.
pub(super) struct Recent<T> {
    most: usize,
    members: HashSet<T>,
    oldest: VecDeque<T>,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, members: HashSet::new(), oldest: VecDeque::new() }
    }

    /// Inserts; one that is there already keeps its age.
    pub(super) fn insert(&mut self, member: T) {
        if !self.members.insert(member) {
            return;
        }
        self.oldest.push_back(member);
        if self.oldest.len() > self.most
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.members.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_one_counts_once() {
        let mut recent = Recent::new(2);
        for member in [1, 2, 2, 3] {
            recent.insert(member);
        }
        assert_eq!([1, 2, 3].map(|member| recent.contains(&member)), [false, true, true]);
    }
}
