//! Names and the addresses that stand for them.
//!
//! A name of this machine (/etc/hosts, localhost) keeps its addresses. Every other name gets a stand-in, without a question to
//! anybody: the same one for the whole session, and, because it is found by hashing, mostly the same in the next. A
//! stand-in that this session has not given out means nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;

use presocks_proto::frame::{Addresses, Family};
use presocks_proto::name::Name;
use presocks_proto::standin::{COUNT, Index, Kind, kind};

use super::hosts::Hosts;

/// A session's names.
#[derive(Default)]
pub(super) struct Names {
    hosts: Hosts,
    given: HashMap<Index, Box<[u8]>>,
}

impl Names {
    /// The addresses for a name.
    ///
    /// # Errors
    /// `ENOENT` when it has none of the family; `ENOSPC` when all stand-ins are given out.
    pub(super) fn resolve(&mut self, name: &Name, family: Family) -> Result<Addresses, i32> {
        if let Some(local) = self.hosts.addresses(name) {
            let of_family: Addresses = local.into_iter().filter(|address| is_of(*address, family)).collect();
            return if of_family.is_empty() { Err(libc::ENOENT) } else { Ok(of_family) };
        }
        let index = self.stand_in(name).ok_or(libc::ENOSPC)?;
        // IPv4 first: every socket can use it, and a program that wants IPv6 alone picks that out itself.
        let both = [IpAddr::from(index.v4()), IpAddr::from(index.v6())];
        Ok(both.into_iter().filter(|address| is_of(*address, family)).collect())
    }

    /// The name of an address, if it has one here.
    pub(super) fn reverse(&mut self, address: IpAddr) -> Option<Name> {
        match kind(address) {
            Kind::StandIn(index) => self.name(index),
            Kind::Reserved => None,
            Kind::Ordinary => self.hosts.name(address),
        }
    }

    /// The name that a stand-in of this session means.
    pub(super) fn name(&self, index: Index) -> Option<Name> {
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
