//! What the kernel says of a socket that a caught call is to connect.

use std::os::fd::AsFd as _;

use presocks_abi::decision::Facts;
use presocks_abi::socket::{Kind, is_loopback};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::{Caller, Taken, is_being_connected};
use crate::socket::{leaves_loopback, own_address};

/// A socket that was taken over.
pub(super) struct Socket<'a> {
    pub(super) caller: &'a Caller,
    pub(super) taken: &'a Taken,
}

impl Facts for Socket<'_> {
    type Error = Errno;

    fn kind(&self) -> Kind {
        self.taken.kind
    }

    fn domain(&self) -> i32 {
        self.taken.domain
    }

    fn is_under_way(&self) -> Result<bool, Errno> {
        is_being_connected(self.caller, &self.taken.fd)
    }

    fn leaves_loopback(&self) -> bool {
        leaves_loopback(self.taken.fd.as_fd())
    }

    fn is_bound_off_loopback(&self) -> bool {
        own_address(self.taken.fd.as_fd()).is_none_or(|own| !is_loopback(own.ip()))
    }

    fn is_v6_only(&self) -> Result<bool, Errno> {
        sockopt::ipv6_v6only(&self.taken.fd)
    }
}
