//! A set that forgets the members that were not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most so many members.
pub(super) struct Recent<T> {
    most: usize,
    /// When each was last used.
    members: HashMap<T, u64>,
    by_use: BTreeMap<u64, T>,
    uses: u64,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, members: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Inserts, which is a use.
    pub(super) fn insert(&mut self, member: T) {
        self.uses += 1;
        if let Some(before) = self.members.insert(member, self.uses) {
            self.by_use.remove(&before);
        }
        self.by_use.insert(self.uses, member);
        if self.members.len() > self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.members.remove(&oldest);
        }
    }

    /// Uses a member; false if there is none such.
    pub(super) fn touch(&mut self, member: T) -> bool {
        let is_there = self.members.contains_key(&member);
        if is_there {
            self.insert(member);
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        let mut recent = Recent::new(2);
        for member in [1, 2, 2] {
            recent.insert(member);
        }
        assert!(recent.touch(1));
        recent.insert(3);
        assert_eq!([1, 2, 3].map(|member| recent.touch(member)), [true, false, true]);
        assert_eq!(recent.by_use.len(), 2);
    }
}
