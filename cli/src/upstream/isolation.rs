//! Isolation: a SOCKS5 proxy keeps connections with different users and passwords apart (Tor gives each pair a circuit of its own), so presocks makes
//! such pairs up.

use std::hash::{BuildHasher as _, RandomState};
use std::io;

use presocks_proto::socks5::Credentials;
use presocks_proto::target::{Host, Target};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::policy::route::Isolation;
use crate::procfs::Stat;

/// Keeps the connections of one session apart from those of all others.
pub(crate) struct SessionKey {
    password: String,
    /// Makes a number of a name, as in a hash table: nobody who is told the number learns the name.
    key: RandomState,
}

impl SessionKey {
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

/// A user and password for SOCKS5 (RFC 1929): connections with the same pair may share a circuit, others do not.
#[derive(Clone)]
pub(crate) struct IsolationKey {
    user: String,
    password: String,
}

impl IsolationKey {
    /// The pair for a connection of this process to this target. It is a keyed hash, so no proxy learns the process or the target from it.
    pub(crate) fn new(
        isolation: Isolation,
        session: &SessionKey,
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
        Self { user: format!("{:016x}", session.key.hash_one(who)), password: session.password.clone() }
    }

    /// As RFC 1929 has them.
    pub(crate) fn credentials(&self) -> Option<Credentials<'_>> {
        Credentials::new(self.user.as_bytes(), self.password.as_bytes())
    }
}

/// A process by its number, and by when it was started: numbers come again.
fn identity(process: i32) -> String {
    let stat = Stat::of(process);
    let started = stat.as_ref().and_then(Stat::start_time).unwrap_or("0");
    format!("{process}.{started}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use presocks_proto::name::Name;

    #[test]
    fn each_process_or_destination_is_one_and_none_shows() {
        let session = SessionKey::new().unwrap();
        let user = |isolation, process, host: &[u8]| {
            let target = Target { host: Host::Name(Name::new(host).unwrap()), port: 80 };
            IsolationKey::new(isolation, &session, || process, &target).user
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
    fn no_two_sessions_have_the_same_key() {
        let (one, other) = (SessionKey::new().unwrap(), SessionKey::new().unwrap());
        assert!(one.password.len() == 32 && one.password != other.password);
        assert_ne!(one.key.hash_one("a"), other.key.hash_one("a"));
    }
}
