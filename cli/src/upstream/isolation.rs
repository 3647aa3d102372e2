//! User and password that are made up, so that a SOCKS5 proxy keeps connections apart which have others: Tor gives each its own circuit.

use std::hash::{BuildHasher as _, RandomState};
use std::io;

use presocks_proto::socks5::Credentials;
use presocks_proto::target::{Host, Target};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::policy::route::Isolation;

/// What no other session has.
pub(crate) struct Mark {
    password: String,
    /// Makes a number of a name, as in a hash table: nobody who is told the number learns the name.
    key: RandomState,
}

impl Mark {
    /// A new one.
    ///
    /// # Errors
    /// Those of getrandom(2).
    pub(crate) fn new() -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom(&mut random, GetRandomFlags::empty())?;
        Ok(Self { password: format!("{:032x}", u128::from_ne_bytes(random)), key: RandomState::new() })
    }
}

/// Who a connection is to be taken for.
#[derive(Clone)]
pub(crate) struct Stranger {
    user: String,
    password: String,
}

impl Stranger {
    /// As the user wants connections kept apart. No proxy learns from it whose they are, nor where they go: in a chain, others come between.
    pub(crate) fn new(
        isolation: Isolation,
        mark: &Mark,
        process: impl FnOnce() -> Option<i32>,
        target: &Target,
    ) -> Self {
        let who = match isolation {
            Isolation::Session => String::new(),
            Isolation::Process => process().map(identity).unwrap_or_default(),
            Isolation::Destination => match target.host {
                Host::Name(name) => name.to_string(),
                Host::Address(address) => address.to_canonical().to_string(),
            },
        };
        Self { user: format!("{:016x}", mark.key.hash_one(who)), password: mark.password.clone() }
    }

    /// As RFC 1929 has them.
    pub(crate) fn credentials(&self) -> Option<Credentials<'_>> {
        Credentials::new(self.user.as_bytes(), self.password.as_bytes())
    }
}

/// A process by its number, and by when it was started: numbers come again (proc(5): `stat`, field 22).
fn identity(process: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is a name in brackets, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let started = fields.split_ascii_whitespace().nth(19).unwrap_or("0");
    format!("{process}.{started}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use presocks_proto::name::Name;

    #[test]
    fn each_process_or_destination_is_one_and_none_shows() {
        let mark = Mark::new().unwrap();
        let user = |isolation, process, host: &[u8]| {
            let target = Target { host: Host::Name(Name::new(host).unwrap()), port: 80 };
            Stranger::new(isolation, &mark, || process, &target).user
        };
        let own = i32::try_from(std::process::id()).unwrap();
        let process = |process| user(Isolation::Process, process, b"a.example");
        assert_eq!(process(Some(own)), process(Some(own)));
        assert_ne!(process(Some(own)), process(Some(1)));
        assert_ne!(process(Some(own)), process(None));
        let to = |host| user(Isolation::Destination, Some(own), host);
        assert_eq!(to(b"a.example"), to(b"a.example"));
        assert_ne!(to(b"a.example"), to(b"b.example"));
        assert!(to(b"a.example").bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(user(Isolation::Session, Some(own), b"a"), user(Isolation::Session, None, b"b"));
    }

    #[test]
    fn a_process_is_told_by_when_it_was_started() {
        let own = i32::try_from(std::process::id()).unwrap();
        let shown = identity(own);
        assert!(shown.starts_with(&format!("{own}.")) && !shown.ends_with(".0"), "{shown}");
    }

    #[test]
    fn no_two_sessions_have_the_same_mark() {
        let (one, other) = (Mark::new().unwrap(), Mark::new().unwrap());
        assert!(one.password.len() == 32 && one.password != other.password);
        assert_ne!(one.key.hash_one("a"), other.key.hash_one("a"));
    }
}
