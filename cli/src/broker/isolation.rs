//! User and password that are made up, so that a SOCKS5 proxy keeps connections apart which have others: Tor gives each its own circuit.

use presocks_proto::socks5::Credentials;
use presocks_proto::target::Target;

use super::Broker;

/// Who a connection is to be taken for.
pub(super) struct Stranger {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Stranger {
    /// As the user wants connections kept apart; `None`: not at all.
    pub(super) fn new(
        broker: &Broker,
        process: impl FnOnce() -> Option<i32>,
        target: &Target,
    ) -> Option<Self> {
        let _ = (broker, process, target);
        None
    }

    /// As RFC 1929 has them.
    pub(super) fn credentials(&self) -> Option<Credentials<'_>> {
        Credentials::new(&self.user, &self.password)
    }
}
