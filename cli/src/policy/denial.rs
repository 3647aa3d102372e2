//! What a rule, or the default, forbids.

use std::fmt;

use crate::policy::route::{Routes, Rule};

/// A rule, or the default, has forbidden something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Which rule: each is told once. 0 for the default.
    number: u32,
    /// Where the user has written it, and what.
    shown: Option<String>,
}

impl Denial {
    /// Of this rule, or the default.
    pub(crate) fn new(routes: &Routes, rule: Option<&Rule>) -> Self {
        let is_it = |other: &Rule| rule.is_some_and(|rule| std::ptr::eq(rule, other));
        let place = routes.rules.iter().position(is_it);
        let number = place.map_or(0, |place| u32::try_from(place + 1).unwrap_or(u32::MAX));
        Self { number, shown: rule.map(ToString::to_string) }
    }

    /// Denials with the same number have the same cause and are told once.
    pub(crate) fn cause(&self) -> u32 {
        const FIRST: u32 = 0x3000_0000;
        FIRST.saturating_add(self.number)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some(rule) => write!(f, "a rule denies it ({rule})"),
            None => f.write_str("no rule permits it, and the default is to deny"),
        }
    }
}
