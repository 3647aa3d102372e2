//! Names and the addresses that stand for them.
//!
//! A name of this machine (/etc/hosts, its own, localhost) keeps its addresses, unless a rule speaks of it: rules hear of names by stand-ins. Every other
//! name gets a stand-in, without a question to anybody: the same one for the whole session, and, because it is found by hashing, mostly the same in the next. A
//! stand-in that this session has not given out means nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;

use presocks_proto::frame::{Addresses, Family};
use presocks_proto::name::Name;
use presocks_proto::standin::{COUNT, Index, Kind, kind};

use super::hosts::Hosts;
use crate::policy::route::pattern::Pattern;

/// A session's names.
#[derive(Default)]
pub(crate) struct Names {
    hosts: Hosts,
    /// Whom rules speak of.
    ruled: Vec<Pattern>,
    given: HashMap<Index, Box<[u8]>>,
}

impl Names {
    /// With rules that speak of these.
    pub(crate) fn new<'a>(ruled: impl Iterator<Item = &'a Pattern>) -> Self {
        Self { ruled: ruled.cloned().collect(), ..Self::default() }
    }

    /// The addresses for a name.
    ///
    /// # Errors
    /// `ENOENT` when it has none of the family; `ENOSPC` when all stand-ins are given out.
    pub(crate) fn resolve(&mut self, name: &Name, family: Family) -> Result<Addresses, i32> {
        let bare = name.bare();
        // An address in a name's clothes would get by the rules for addresses; so would an empty label (RFC 1035 section 3.1) by those for names.
        if let Some(address) = std::str::from_utf8(bare).ok().and_then(|text| text.parse::<IpAddr>().ok()) {
            let found = is_of(address, family).then(|| [address].into_iter().collect());
            return found.ok_or(libc::ENOENT);
        }
        if bare.split(|byte| *byte == b'.').any(<[u8]>::is_empty) {
            return Err(libc::ENOENT);
        }
        let is_ruled = self.ruled.iter().any(|pattern| pattern.matches(name.as_bytes()));
        if (!is_ruled || name.is_localhost())
            && let Some(local) = self.hosts.addresses(name)
        {
            let of_family: Addresses = local.into_iter().filter(|address| is_of(*address, family)).collect();
            return if of_family.is_empty() { Err(libc::ENOENT) } else { Ok(of_family) };
        }
        let index = self.stand_in(name).ok_or(libc::ENOSPC)?;
        // IPv4 first: every socket can use it, and a program that wants IPv6 alone picks that out itself.
        let both = [IpAddr::from(index.v4()), IpAddr::from(index.v6())];
        Ok(both.into_iter().filter(|address| is_of(*address, family)).collect())
    }

    /// The name of an address, if it has one here.
    pub(crate) fn reverse(&mut self, address: IpAddr) -> Option<Name> {
        match kind(address) {
            Kind::StandIn(index) => self.name(index),
            Kind::Reserved => None,
            Kind::Ordinary => self.hosts.name(address),
        }
    }

    /// The name that a stand-in of this session means.
    pub(crate) fn name(&self, index: Index) -> Option<Name> {
        self.given.get(&index).and_then(|name| Name::new(name))
    }

    fn stand_in(&mut self, name: &Name) -> Option<Index> {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        let hash = hasher.finish() % u64::from(COUNT);
        let mut index = Index::wrapping(u32::try_from(hash).unwrap_or_default());
        for _ in 0..COUNT {
            match self.given.get(&index) {
                Some(other) if **other == *name.as_bytes() => return Some(index),
                None if looks_like_a_host(index) => {
                    self.given.insert(index, name.as_bytes().into());
                    return Some(index);
                }
                _ => index = index.following(),
            }
        }
        None
    }
}

/// Some programs take addresses that end in 0 or 255 for a network's.
fn looks_like_a_host(index: Index) -> bool {
    let [_, _, _, last] = index.v4().octets();
    !matches!(last, 0 | 255)
}

fn is_of(address: IpAddr, family: Family) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn first(names: &mut Names, text: &str, family: Family) -> IpAddr {
        names.resolve(&name(text), family).unwrap().iter().next().unwrap()
    }

    #[test]
    fn rules_hear_of_a_local_name_that_they_speak_of_but_not_of_localhost() {
        let patterns = [Pattern::parse(".ruled.test").unwrap(), Pattern::parse("*").unwrap()];
        let [below, all] = &patterns;
        let hosts = || Hosts::of(b"192.0.2.7 a.ruled.test free.test\n");
        let is_local = |ruled: &Pattern, text: &str| {
            let mut names = Names { hosts: hosts(), ..Names::new(std::iter::once(ruled)) };
            kind(first(&mut names, text, Family::V4)) == Kind::Ordinary
        };
        assert!(is_local(below, "free.test") && !is_local(below, "a.ruled.test"));
        assert!(!is_local(all, "free.test") && is_local(all, "localhost") && is_local(all, "x.localhost."));
    }

    #[test]
    fn an_address_in_a_names_clothes_is_that_address() {
        let mut names = Names::default();
        assert_eq!(first(&mut names, "192.0.2.7.", Family::Any), IpAddr::from([192, 0, 2, 7]));
        assert_eq!(names.resolve(&name("192.0.2.7."), Family::V6), Err(libc::ENOENT));
        for text in ["a..test", "a.test..", ".a.test", "."] {
            assert_eq!(names.resolve(&name(text), Family::Any), Err(libc::ENOENT), "{text}");
        }
    }

    #[test]
    fn ten_thousand_names_have_ten_thousand_addresses_that_last() {
        let mut names = Names::default();
        let all: Vec<_> =
            (0..10_000).map(|n| first(&mut names, &format!("h{n}.example"), Family::Any)).collect();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 10_000);
        for (n, address) in all.into_iter().enumerate() {
            assert_eq!(names.reverse(address), Some(name(&format!("h{n}.example"))));
            assert_eq!(first(&mut names, &format!("H{n}.EXAMPLE"), Family::V4), address);
        }
    }

    #[test]
    fn both_families_mean_the_same_name_and_another_session_gives_the_same() {
        let mut names = Names::default();
        let v6 = first(&mut names, "a.example", Family::V6);
        assert!(v6.is_ipv6());
        assert_eq!(names.reverse(v6), Some(name("a.example")));
        assert_eq!(first(&mut Names::default(), "a.example", Family::V6), v6);
    }

    #[test]
    fn an_address_that_was_not_given_out_has_no_name() {
        let mut names = Names::default();
        assert_eq!(names.reverse("198.18.7.7".parse().unwrap()), None);
        assert_eq!(names.reverse("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn the_space_is_used_to_the_last_address_and_then_says_so() {
        let mut names = Names::default();
        let free = Index::wrapping(300);
        let all = (0..COUNT).map(Index::wrapping).filter(|index| *index != free);
        names.given.extend(all.map(|index| (index, (*b"taken").into())));
        assert_eq!(first(&mut names, "last.example", Family::Any), IpAddr::from(free.v4()));
        assert_eq!(names.resolve(&name("one.more"), Family::Any), Err(libc::ENOSPC));
        assert_eq!(first(&mut names, "last.example", Family::Any), IpAddr::from(free.v4()));
    }
}
