//! User and password that are made up, so that a SOCKS5 proxy keeps connections apart which have others: Tor gives each its own circuit.

use std::fmt::Write as _;
use std::io;

use presocks_proto::socks5::Credentials;
use presocks_proto::target::{Host, Target};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::route::Isolation;

/// What no other session has.
pub(super) struct Mark(String);

impl Mark {
    /// A new one.
    ///
    /// # Errors
    /// Those of getrandom(2).
    pub(super) fn new() -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let mut text = String::with_capacity(32);
        for byte in random {
            // A string takes all that it is given.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }
}

/// Who a connection is to be taken for.
pub(super) struct Stranger {
    user: String,
    password: String,
}

impl Stranger {
    /// As the user wants connections kept apart.
    pub(super) fn new(
        isolation: Isolation,
        mark: &Mark,
        process: impl FnOnce() -> Option<i32>,
        target: &Target,
    ) -> Self {
        let user = match isolation {
            Isolation::Session => "session".to_owned(),
            Isolation::Process => process().map_or("nobody".to_owned(), identity),
            Isolation::Destination => match target.host {
                Host::Name(name) => name.to_string(),
                Host::Address(address) => address.to_string(),
            },
        };
        Self { user, password: mark.0.clone() }
    }

    /// As RFC 1929 has them.
    pub(super) fn credentials(&self) -> Option<Credentials<'_>> {
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

    fn user(isolation: Isolation, process: Option<i32>, host: &[u8]) -> String {
        let target = Target { host: Host::Name(Name::new(host).unwrap()), port: 80 };
        Stranger::new(isolation, &Mark("x".into()), || process, &target).user
    }

    #[test]
    fn each_process_or_destination_is_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = |process| user(Isolation::Process, process, b"a.example");
        assert_eq!(process(Some(own)), process(Some(own)));
        assert!(process(Some(own)).starts_with(&format!("{own}.")) && !process(Some(own)).ends_with(".0"));
        assert_ne!(process(Some(own)), process(Some(1)));
        assert_ne!(process(Some(own)), process(None));
        let to = |host| user(Isolation::Destination, Some(own), host);
        assert_eq!(to(b"a.example"), "a.example");
        assert_eq!(user(Isolation::Session, Some(own), b"a"), user(Isolation::Session, None, b"b"));
    }

    #[test]
    fn no_two_sessions_have_the_same_mark() {
        let (one, other) = (Mark::new().unwrap(), Mark::new().unwrap());
        assert!(one.0.len() == 32 && one.0 != other.0);
    }
}
