//! The source address of a program's TCP socket that is to be connected to loopback, where a proxy, a relay or a service listens.
//!
//! What listens at `::1` answers by the route to the source, whatever device that names: when an IPv6 address has left this machine (temporary
//! addresses do), or was never here (`IPV6_FREEBIND`), the answers leave by the default route, in clear text. Linux keeps them in for IPv4,
//! unless `route_localnet` is set. So a socket that its program has bound to such an address is bound to loopback instead. That
//! can be done while the kernel has chosen its port; one that is bound to a port as well is refused.
//!
//! Nor is anything connected from a loopback address to one that is not: IPv6 would send that, too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use presocks_abi::sockaddr::{Encoded, in_family};
use presocks_abi::socket::{is_loopback, may_leave};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::options::with_options_kept;
use super::{connect_at_once, dissolve, own_address, stay_on_loopback, take_nothing};
use crate::procfs::routes_loopback;

/// Why a socket is not connected.
#[derive(Debug)]
pub(crate) enum NotConnected {
    /// It is bound to this address, which may leave the machine, and to a port.
    Bound(IpAddr),
    /// As the kernel says.
    Kernel(io::Error),
}

impl From<io::Error> for NotConnected {
    fn from(error: io::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<Errno> for NotConnected {
    fn from(error: Errno) -> Self {
        Self::Kernel(error.into())
    }
}

/// Makes sure that what a connection to `destination` is answered stays here if it does. Gives the address to which the socket was bound, if it is bound
/// to loopback now.
///
/// # Errors
/// [`NotConnected::Bound`]; `EINVAL`, as IPv4 has it, for a socket that is bound to loopback and a destination elsewhere.
pub(super) fn suit(
    socket: BorrowedFd<'_>,
    destination: SocketAddr,
) -> Result<Option<SocketAddr>, NotConnected> {
    let Some(own) = own_address(socket) else { return Ok(None) };
    let source = own.ip().to_canonical();
    if !is_loopback(destination.ip()) {
        return if source.is_loopback() { Err(Errno::INVAL.into()) } else { Ok(None) };
    }
    if !may_be_answered_elsewhere(source) {
        if own.is_ipv6() {
            // An MPTCP socket keeps the IPv4 address of a connection that is no more, from which IPv6 reaches nothing.
            let is_left_over = source.is_ipv4() && destination.ip().to_canonical().is_ipv6();
            let from = if is_left_over { destination.ip() } else { own.ip() };
            // A socket with a port is bound to no other address, and by none to a device (ipv6(7)). This fails where it has one.
            let _ = bind(socket, &SocketAddr::new(from, 0));
        }
        return Ok(None);
    }
    match rebind(socket, loopback_like(own)) {
        Ok(()) => Ok(Some(own)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(NotConnected::Bound(source)),
        Err(error) => Err(error.into()),
    }
}

/// May what loopback answers to this address leave the machine, once the address has?
pub(crate) fn may_be_answered_elsewhere(source: IpAddr) -> bool {
    let source = source.to_canonical();
    may_leave(source) || !is_loopback(source) && routes_loopback()
}

/// Binds a socket that has failed to connect to the address that its program has given it. An address that is gone it cannot have again; from
/// loopback it reaches nothing else then.
pub(super) fn put_back(socket: BorrowedFd<'_>, own: SocketAddr) {
    let _ = rebind(socket, own);
}

/// Binds a TCP socket that is bound already, and not connected, to this address, and to a port of the kernel's choice.
///
/// # Errors
/// `EINVAL` when its program has chosen the port; those of bind(2).
pub(crate) fn rebind(socket: BorrowedFd<'_>, mut to: SocketAddr) -> io::Result<()> {
    to.set_port(0);
    match bind(socket, &to) {
        Err(Errno::INVAL) => {
            give_port_back(socket, loopback_like(to))?;
            Ok(bind(socket, &to)?)
        }
        bound => Ok(bound?),
    }
}

/// Linux takes a port that it has chosen back when a connection ends, be it one that nobody has answered; then the socket can be bound once more. Whom it
/// is connected to here answers nobody elsewhere: either its answers go by lo alone, or it gives none.
fn give_port_back(socket: BorrowedFd<'_>, loopback: SocketAddr) -> io::Result<()> {
    let is_v4 = loopback.ip().to_canonical().is_ipv4();
    let family = if is_v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let end = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    stay_on_loopback(end.as_fd()).or_else(|_| take_nothing(end.as_fd()))?;
    bind(&end, &SocketAddr::new(loopback.ip().to_canonical(), 0))?;
    listen(&end, 1)?;
    let mut at = loopback;
    at.set_port(own_address(end.as_fd()).map_or(0, |own| own.port()));
    match connect_at_once(socket, Encoded::new(at).as_bytes()) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        // It listens, say, or another thread connects it.
        Err(error) => return Err(error.into()),
    }
    with_options_kept(socket, || dissolve(socket, loopback.is_ipv6()))?;
    // That there was no answer is no news.
    let _ = sockopt::socket_error(socket);
    Ok(())
}

/// Is this the loopback address of an MPTCP connection that is no more? The kernel lets a socket keep it, while another has lost it. It is not in the way any
/// longer then: what can be bound anew is bound to any.
pub(super) fn is_left_over(socket: BorrowedFd<'_>, own: SocketAddr) -> bool {
    own.ip().to_canonical().is_loopback() && bind(socket, &any_like(own)).is_ok()
}

/// Any address, and no port, as a socket with this address has it.
pub(crate) fn any_like(own: SocketAddr) -> SocketAddr {
    match own {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Loopback as a socket with this address has it.
pub(super) fn loopback_like(own: SocketAddr) -> SocketAddr {
    let family = if own.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    match own.ip().to_canonical() {
        IpAddr::V4(_) => in_family((Ipv4Addr::LOCALHOST, 0).into(), family),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{connect, connect_unspec, ipproto};
    use std::net::TcpListener;

    fn socket_at(own: &str) -> rustix::fd::OwnedFd {
        let own: SocketAddr = own.parse().unwrap();
        let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        sockopt::set_ip_freebind(&socket, true).unwrap();
        bind(&socket, &own).unwrap();
        socket
    }

    #[test]
    fn a_socket_with_a_port_of_the_kernels_choice_is_bound_anew_and_back() {
        for (own, other) in [("127.0.0.5:0", "127.0.0.1:0"), ("[::ffff:127.0.0.5]:0", "[::ffff:127.0.0.1]:0")]
        {
            let (socket, other) = (socket_at(own), other.parse::<SocketAddr>().unwrap());
            let own = own_address(socket.as_fd()).unwrap();
            rebind(socket.as_fd(), other).unwrap();
            let bound = own_address(socket.as_fd()).unwrap();
            assert!(bound.ip() == other.ip() && bound.port() != 0);
            put_back(socket.as_fd(), own);
            assert_eq!(own_address(socket.as_fd()).unwrap().ip(), own.ip());
            assert_eq!(sockopt::socket_error(&socket).unwrap(), Ok(()));
        }
    }

    #[test]
    fn a_socket_with_a_port_of_its_programs_choice_stays_where_it_is() {
        let port = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap().port();
        let socket = socket_at(&format!("127.0.0.5:{port}"));
        let error = rebind(socket.as_fd(), "127.0.0.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(own_address(socket.as_fd()), Some(([127, 0, 0, 5], port).into()));
    }

    #[test]
    fn an_mptcp_socket_forgets_the_address_of_its_last_connection() {
        let listener = TcpListener::bind("127.0.0.5:0").unwrap();
        let flags = SocketFlags::CLOEXEC;
        let Ok(socket) = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::MPTCP))
        else {
            return;
        };
        connect(&socket, &listener.local_addr().unwrap()).unwrap();
        let own = own_address(socket.as_fd()).unwrap();
        assert!(!is_left_over(socket.as_fd(), own));
        connect_unspec(&socket).unwrap();
        let own = own_address(socket.as_fd()).unwrap();
        assert_eq!(is_left_over(socket.as_fd(), own), !own.ip().is_unspecified());
        assert!(own_address(socket.as_fd()).unwrap().ip().is_unspecified());
    }

    #[test]
    fn nothing_is_connected_from_loopback_to_elsewhere() {
        for (own, destination) in
            [("127.0.0.1:0", "192.0.2.1:9"), ("[::ffff:127.0.0.1]:0", "[2001:db8::1]:9")]
        {
            let outcome = suit(socket_at(own).as_fd(), destination.parse().unwrap());
            let Err(NotConnected::Kernel(error)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
