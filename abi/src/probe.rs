//! Asking the kernel what it says to the next connect() on a stream socket, wherever that goes: that the socket is connected or listens, or how the last
//! attempt has ended. The kernel looks at the socket before it looks at the address's family, and no IP socket connects to an address of this one.

use libc::c_int;

use crate::sockaddr::MAX_LEN;

/// The address to connect() to.
#[must_use]
pub fn address() -> [u8; MAX_LEN] {
    let mut address = [0; MAX_LEN];
    if let Some(family) = address.first_chunk_mut() {
        *family = (libc::AF_PACKET as u16).to_ne_bytes();
    }
    address
}

/// Does this errno say nothing of the socket, so that another attempt may begin? It speaks of the family, or of somebody who forbids the call.
#[must_use]
pub const fn says_nothing(errno: c_int) -> bool {
    matches!(errno, libc::EAFNOSUPPORT | libc::EACCES | libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockaddr::{Given, parse};

    #[test]
    fn the_address_is_of_no_family_that_an_ip_socket_has() {
        assert_eq!(parse(&address()), Given::Other);
        assert!(
            says_nothing(libc::EAFNOSUPPORT)
                && !says_nothing(libc::EISCONN)
                && !says_nothing(libc::ECONNREFUSED)
        );
    }
}
