//! What the kernel's routing tables make of an address (rtnetlink(7), `RTM_GETROUTE`): they alone know which addresses are this machine's, and which are
//! a network's broadcast address.
//!
//! It is asked each time: addresses and routes come and go.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, getsockname, recv, send,
    socket_with,
};

/// `struct nlmsghdr` (netlink(7)).
const HEADER: usize = 16;
/// `struct rtmsg` (rtnetlink(7)).
const ROUTE: usize = 12;

/// Is the address one of this machine's own? Then the kernel sends to it from it. Nothing is sent to find out.
pub(crate) fn is_of_this_machine(address: IpAddr) -> bool {
    const DISCARD: u16 = 9;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let own = || {
        let probe = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
        connect(&probe, &SocketAddr::new(address, DISCARD)).ok()?;
        SocketAddr::try_from(getsockname(&probe).ok()?).ok()
    };
    own().is_some_and(|own| own.ip() == address)
}

/// Would a packet from `source` for this address stay on this machine?
pub(crate) fn leads_here(address: IpAddr, source: IpAddr) -> bool {
    kind(address, Some(source)).is_ok_and(|kind| kind == libc::RTN_LOCAL)
}

/// Is this the broadcast address of a network that this machine is in? What cannot be told is none.
pub(crate) fn is_broadcast(address: IpAddr) -> bool {
    address.to_canonical().is_ipv4()
        && kind(address.to_canonical(), None).is_ok_and(|kind| kind == libc::RTN_BROADCAST)
}

/// `rtm_type` of the route.
///
/// # Errors
/// Those of netlink(7), and those of the look-up: there is no route.
fn kind(address: IpAddr, source: Option<IpAddr>) -> io::Result<u8> {
    // Without a protocol it is NETLINK_ROUTE, whose number is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(address, source), SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered when send() returns.
    recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    read_answer(&answer)
}

fn request(address: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    const REQUEST: u16 = 1;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let bits =
        |address: Option<IpAddr>| address.map_or(0, |address| if address.is_ipv4() { 32 } else { 128 });
    let mut message = vec![0; HEADER];
    message.extend(family.as_raw().to_ne_bytes().iter().take(1));
    message.extend([bits(Some(address)), bits(source)]);
    message.resize(HEADER + ROUTE, 0);
    put_attribute(&mut message, libc::RTA_DST, address);
    if let Some(source) = source {
        put_attribute(&mut message, libc::RTA_SRC, source);
    }
    let len = u32::try_from(message.len()).unwrap_or_default();
    let head = [&len.to_ne_bytes()[..], &libc::RTM_GETROUTE.to_ne_bytes(), &REQUEST.to_ne_bytes()].concat();
    message.iter_mut().zip(head).for_each(|(to, from)| *to = from);
    message
}

/// `struct rtattr` (rtnetlink(7)), and the address behind it.
fn put_attribute(message: &mut Vec<u8>, kind: u16, address: IpAddr) {
    const HEADER: u16 = 4;
    let (len, octets): (u16, Vec<u8>) = match address {
        IpAddr::V4(v4) => (4, v4.octets().into()),
        IpAddr::V6(v6) => (16, v6.octets().into()),
    };
    message.extend((HEADER + len).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(octets);
}

/// An error, or a route.
fn read_answer(answer: &[u8]) -> io::Result<u8> {
    const TYPE: usize = 4;
    const ERROR: u16 = 2;
    /// `rtm_type`.
    const KIND: usize = HEADER + 7;
    let kind = answer.get(TYPE..).and_then(|rest| rest.first_chunk()).map(|kind| u16::from_ne_bytes(*kind));
    match kind {
        Some(libc::RTM_NEWROUTE) => Ok(answer.get(KIND).copied().unwrap_or(libc::RTN_UNSPEC)),
        Some(ERROR) => {
            let error = answer.get(HEADER..).and_then(|rest| rest.first_chunk());
            let error = error.map_or(0, |error| i32::from_ne_bytes(*error));
            Err(Errno::from_raw_os_error(error.wrapping_neg().max(1)).into())
        }
        _ => Err(Errno::BADMSG.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_is_here_and_its_broadcast_address_is_one() {
        for here in ["127.0.0.1", "127.9.8.7", "::1"] {
            assert!(leads_here(at(here), at(here)), "{here}");
            assert!(!is_broadcast(at(here)), "{here}");
        }
        for elsewhere in ["192.0.2.1", "2001:db8::1"] {
            let own = if elsewhere.contains(':') { at("::1") } else { at("127.0.0.1") };
            assert!(!leads_here(at(elsewhere), own), "{elsewhere}");
            assert!(!is_broadcast(at(elsewhere)), "{elsewhere}");
        }
        for broadcast in ["127.255.255.255", "::ffff:127.255.255.255", "255.255.255.255"] {
            assert!(is_broadcast(at(broadcast)), "{broadcast}");
        }
    }

    #[test]
    fn an_answer_that_is_none_tells_nothing() {
        for answer in [&[][..], &[0; 20], &[0xff; 60]] {
            assert!(read_answer(answer).is_err());
        }
    }
}
