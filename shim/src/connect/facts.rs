//! What the kernel says of a socket that is to be connected.

use libc::c_int;
use presocks_abi::decision::Facts;

use crate::errno::Errno;
use crate::socket::{self, Kind};
use crate::{pending, sys};

/// A socket to which an IP address was given.
pub(crate) struct Socket {
    fd: c_int,
    domain: c_int,
    kind: Kind,
}

impl Socket {
    /// # Errors
    /// `EBADF` or `ENOTSOCK`, for the kernel to report.
    pub(crate) fn of(fd: c_int) -> Result<Self, Errno> {
        let (domain, kind) = socket::domain_and_kind(fd)?;
        Ok(Self { fd, domain, kind })
    }
}

impl Facts for Socket {
    type Error = Errno;

    fn kind(&self) -> Kind {
        self.kind
    }

    fn domain(&self) -> c_int {
        self.domain
    }

    fn is_under_way(&self) -> Result<bool, Errno> {
        Ok(pending::is_under_way_elsewhere(self.fd))
    }

    fn leaves_loopback(&self) -> bool {
        socket::leaves_loopback(self.fd)
    }

    fn is_bound_off_loopback(&self) -> bool {
        socket::is_bound_off_loopback(self.fd)
    }

    fn is_v6_only(&self) -> Result<bool, Errno> {
        Ok(sys::option(self.fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)? != 0)
    }
}
