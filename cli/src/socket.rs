//! System calls on a program's own socket.
//!
//! The socket is shared with the program: its flags are left as they were, nothing is read beyond a reply, and no call blocks. Two
//! options are cleared where they stand in the way, `IPV6_V6ONLY` and `TCP_FASTOPEN_CONNECT`; neither can be set again when the socket is
//! connected. Others are set aside for as long as a handshake lasts (`options.rs`).

mod failed;
mod filter;
mod options;
pub(crate) mod signals;
pub(crate) mod source;

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread;

use presocks_abi::sockaddr::{Encoded, MAPPED_BROADCAST};
use presocks_abi::socket::{IP_UNICAST_IF, IPV6_UNICAST_IF, Kind, is_loopback, is_not_loopback};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{Shutdown, connect, connect_unspec, getpeername, getsockname, shutdown, sockopt};
use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::readiness::Watched;
pub(crate) use failed::probe;
pub(crate) use filter::{hear_all, hear_loopback_alone, stay_on_loopback, take_nothing};
pub(crate) use options::SetAside;
use options::{Lifted, for_both_families, with_options_kept};

use source::NotConnected;

/// A program's socket on its way to being connected.
pub(crate) struct Socket {
    fd: OwnedFd,
    bound: SocketAddr,
    cookie: u64,
    lifted: Lifted,
    /// Where its program has bound it, while it is bound to loopback instead ([`source`]).
    moved: Cell<Option<SocketAddr>>,
}

impl Socket {
    /// Takes a program's descriptor.
    ///
    /// # Errors
    /// `EBADF` for what is neither TCP nor MPTCP: by now the program's number means something else; and those of getsockopt(2).
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut bound = own_address(fd.as_fd()).ok_or(Errno::BADF)?;
        let domain = if bound.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
        let protocol = protocol(fd.as_fd())?;
        if Kind::new(domain, protocol) != Kind::Stream {
            return Err(Errno::BADF.into());
        }
        if protocol == libc::IPPROTO_MPTCP && source::is_left_over(fd.as_fd(), bound) {
            bound = source::any_like(bound);
        }
        let cookie = sockopt::socket_cookie(&fd)?;
        Ok(Self { fd, bound, cookie, lifted: Lifted::default(), moved: Cell::default() })
    }

    /// `SO_COOKIE`.
    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Is it an IPv6 socket?
    pub(crate) fn is_v6(&self) -> bool {
        self.bound.is_ipv6()
    }

    /// Where its program had bound it when it came to us, if to anything.
    pub(crate) fn bound(&self) -> Option<SocketAddr> {
        Some(self.bound).filter(|own| own.port() > 0 || !own.ip().is_unspecified())
    }

    /// Has its program bound it to a port?
    pub(crate) fn has_port(&self) -> bool {
        self.bound.port() > 0
    }

    /// getsockname(2).
    ///
    /// # Errors
    /// Those of getsockname(2), and `EAFNOSUPPORT` for what is no IP address.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::try_from(getsockname(&self.fd)?)?)
    }

    /// The address that a connect() on this socket to `address` needs; `None` when its family cannot reach it. An IPv6 socket
    /// reaches IPv4 by mapped addresses, if it is not for IPv6 alone or can be freed from that (ipv6(7): only while it is
    /// unbound).
    pub(crate) fn reach(&self, address: SocketAddr) -> Option<SocketAddr> {
        match (self.is_v6(), address.ip().to_canonical()) {
            (false, IpAddr::V4(v4)) => Some((v4, address.port()).into()),
            (false, IpAddr::V6(_)) => None,
            (true, IpAddr::V6(_)) => Some(address),
            (true, IpAddr::V4(v4)) => {
                let mapped = SocketAddr::from((v4.to_ipv6_mapped(), address.port()));
                let is_for_both = self.lifted.lift(self.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
                is_for_both.then_some(mapped)
            }
        }
    }

    /// Connects; ready when the connection is there.
    ///
    /// # Errors
    /// Those of connect(2), and those of [`source`]. After `EISCONN` the socket is as before, and after `ECONNABORTED` it is what its program has made of
    /// it meanwhile: neither is ours to touch. Else see [`Socket::reset`].
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<(), NotConnected> {
        if self.begin(address)? {
            return Ok(());
        }
        // Registered only now: an unconnected socket counts as ready.
        let mut watched = Watched::new(self.as_fd(), Interest::WRITABLE)?;
        Ok(watched.until(Interest::WRITABLE, |_| self.outcome(address)).await?)
    }

    /// Begins to connect; is the connection there already?
    ///
    /// # Errors
    /// As [`Socket::connect`].
    pub(crate) fn begin(&self, address: SocketAddr) -> Result<bool, NotConnected> {
        // The kernel refuses it, and whatever follows here would end the listening.
        if self.has_port() && tcp_state(self.as_fd()) == Some(TCP_LISTEN) {
            return Err(Errno::ISCONN.into());
        }
        // By another device than lo the packets for a loopback address would leave the machine.
        if is_loopback(address.ip()) && leaves_loopback(self.fd.as_fd()) {
            return Err(Errno::NETUNREACH.into());
        }
        // With this (tcp(7)) connect() only pretends, and the first bytes would be ours. Kernels without it do not pretend either.
        self.lifted.lift(self.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT);
        if address.ip().to_canonical().is_ipv6()
            && let Some(outcome) = restore(self.fd.as_fd())
        {
            return Ok(outcome.map(|()| true)?);
        }
        if let Some(own) = source::suit(self.fd.as_fd(), address)? {
            self.moved.set(Some(own));
        }
        // Until it had a port, a thread could bind it to a link's address, and so to its device.
        if is_loopback(address.ip()) && address.is_ipv6() && leaves_loopback(self.fd.as_fd()) {
            return Err(Errno::NETUNREACH.into());
        }
        match connect_at_once(self.fd.as_fd(), Encoded::new(address).as_bytes()) {
            Ok(()) => Ok(true),
            // On loopback, and with a proxy near by, it is there already, or has failed.
            Err(Errno::INPROGRESS | Errno::ALREADY) => match self.outcome(address) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// What a connect() to `address` has come to; `WouldBlock` while it is under way. Whatever else the socket is, its program has made it that.
    fn outcome(&self, address: SocketAddr) -> io::Result<()> {
        let is_at = |peer: SocketAddr| {
            // The kernel takes "this host" for loopback.
            let (asked, found) = (address.ip().to_canonical(), peer.ip().to_canonical());
            peer.port() == address.port() && (found == asked || asked.is_unspecified())
        };
        match self.peer_address() {
            Some(peer) if is_at(peer) => return Ok(()),
            Some(_) => return Err(Errno::CONNABORTED.into()),
            None => {}
        }
        // Looked at first: when it is over, the error is there.
        let is_under_way = is_under_way(self.as_fd());
        match sockopt::socket_error(&self.fd)? {
            Err(error) if !self.is_dissolved() => Err(error.into()),
            Ok(()) if is_under_way => Err(io::ErrorKind::WouldBlock.into()),
            _ => Err(Errno::CONNABORTED.into()),
        }
    }

    /// Has its program made it something else than what a connect() to `address` makes of it? (A pending error is taken.)
    pub(crate) fn is_its_programs(&self, address: SocketAddr) -> bool {
        self.outcome(address).is_err_and(|error| error.raw_os_error() == Some(libc::ECONNABORTED))
    }

    /// Has somebody dissolved its connection (connect() with `AF_UNSPEC`, shutdown() while it was under way)? Then it has lost its own address, too, if its program
    /// has not bound it to one. After an error or a reset it keeps that.
    pub(crate) fn is_dissolved(&self) -> bool {
        let own = self.local_address();
        !self.is_connected() && own.is_ok_and(|own| own.ip().to_canonical().is_unspecified())
    }

    /// Has its program shut it (shutdown(2)), whatever its peer has done?
    pub(crate) fn is_shut(&self) -> bool {
        // Asked first: when the peer's end arrives in between, the state is another one.
        let mut polled = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        let has_ended =
            poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|told| told > 0);
        match tcp_state(self.as_fd()) {
            Some(TCP_ESTABLISHED) => has_ended,
            Some(state) => TCP_SHUT.contains(&state),
            None => false,
        }
    }

    /// After the handshake: on a blocking socket the kernel, too, must take the connect() for finished, so that the next one says
    /// `EISCONN`. On a non-blocking one the next connect() is to say 0 first, as ever.
    pub(crate) fn settle(&self, address: SocketAddr) {
        if fcntl_getfl(&self.fd).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK)) {
            // On a connected socket this sends nothing, whatever it answers. One that the peer has reset is unconnected then.
            if connect(&self.fd, &address).is_err_and(|error| error != Errno::ISCONN) {
                self.reset();
            }
        }
    }

    /// Is it connected already?
    pub(crate) fn is_connected(&self) -> bool {
        self.peer_address().is_some()
    }

    /// getpeername(2), while there is a peer.
    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        peer_of(self.fd.as_fd())
    }

    /// After a failure: unconnected, without a pending error, as after a failed connect(). The program's bytes must never go
    /// into a half-negotiated connection.
    pub(crate) fn reset(&self) {
        let socket = self.as_fd();
        if with_options_kept(socket, || dissolve(socket, self.is_v6())).is_err() {
            // Some kernels dissolve no socket in which a thread waits, and none that speaks TLS (`TCP_ULP`). Then it is of no use to anybody.
            // Where this is refused, too, it is not connected, and carries nothing.
            let _ = shutdown(&self.fd, Shutdown::Both);
        }
        self.lifted.put_back(socket);
        // Fails only on a socket that cannot carry bytes anyway.
        let _ = sockopt::socket_error(socket);
        if let Some(own) = self.moved.take() {
            source::put_back(socket, own);
        }
    }

    /// Closes the broker's copy. If it is the last, and the socket lingers (socket(7), `SO_LINGER`), that takes as long as its peer takes to
    /// acknowledge the end; only this attempt waits for it.
    pub(crate) async fn close(self) {
        if sockopt::socket_linger(&self.fd).is_ok_and(|time| time.is_some_and(|time| !time.is_zero())) {
            let (closed, is_closed) = oneshot::channel::<()>();
            // Where no thread can be had it is closed here.
            let close = move || drop((self, closed));
            if thread::Builder::new().spawn(close).is_ok() {
                // An error is what is waited for: the thread has dropped its end.
                let _ = is_closed.await;
            }
        }
    }

    /// The descriptor.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// connect() that does not wait, blocking though the socket may be; `address` is in the kernel's layout.
///
/// # Errors
/// Those of connect(2).
pub(crate) fn connect_at_once(socket: BorrowedFd<'_>, address: &[u8]) -> rustix::io::Result<()> {
    let flags = fcntl_getfl(socket)?;
    // On a connected socket it does not wait in any case.
    let was_blocking = !flags.contains(OFlags::NONBLOCK) && peer_of(socket).is_none();
    // The flag is shared with the program; it is only touched around the call, while the program waits in its own.
    if was_blocking {
        fcntl_setfl(socket, flags | OFlags::NONBLOCK)?;
    }
    let result = connect_to(socket, address);
    if was_blocking {
        fcntl_setfl(socket, flags)?;
    }
    result
}

/// connect(2) to an address of any family, in the kernel's layout.
///
/// # Errors
/// Those of connect(2).
pub(crate) fn connect_to(socket: BorrowedFd<'_>, address: &[u8]) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let len = libc::socklen_t::try_from(address.len()).unwrap_or_default();
    #[allow(unsafe_code, reason = "rustix takes no bytes for an address")]
    // SAFETY: an address and its length.
    let result = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Gives an unconnected IPv6 socket its functions back ([`MAPPED_BROADCAST`]) before the kernel connects it; or what the kernel says to the next
/// connect() wherever it goes: how the last one has ended.
pub(crate) fn restore(socket: BorrowedFd<'_>) -> Option<rustix::io::Result<()>> {
    let outcome =
        for_both_families(socket, || connect_at_once(socket, Encoded::new(MAPPED_BROADCAST).as_bytes()));
    match outcome {
        // It goes nowhere; or it is on its way, for the kernel to say.
        Err(Errno::NETUNREACH | Errno::ALREADY | Errno::ISCONN) => None,
        // Somebody forbids it.
        Err(Errno::ACCESS | Errno::PERM) => None,
        outcome => Some(outcome),
    }
}

/// connect() with `AF_UNSPEC` on a TCP socket, and what it leaves undone ([`MAPPED_BROADCAST`]).
///
/// # Errors
/// Those of connect(2).
pub(crate) fn dissolve(socket: BorrowedFd<'_>, is_v6: bool) -> rustix::io::Result<()> {
    connect_unspec(socket)?;
    if is_v6 {
        // Fails always: that is what it is for.
        let _ = for_both_families(socket, || connect(socket, &MAPPED_BROADCAST));
    }
    Ok(())
}

/// Would a packet of this socket for a loopback address leave the machine? So it does when the socket is bound to another device
/// (socket(7), `SO_BINDTODEVICE`), sends by another (ip(7), `IP_UNICAST_IF`), or carries a source route.
pub(crate) fn leaves_loopback(fd: BorrowedFd<'_>) -> bool {
    let mut name = [0; libc::IFNAMSIZ];
    // What cannot be told is taken for the worse.
    let is_bound = match option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut name) {
        Ok(len) => len > 0 && !name.starts_with(b"lo\0"),
        Err(_) => true,
    };
    let sends_by_another = |level, name| {
        let mut device = [0; 4];
        let is_known = option(fd, level, name, &mut device).is_ok();
        is_known && is_not_loopback(i32::from_be_bytes(device))
    };
    // An IPv4 socket has no IPv6 options.
    let has = |level, name| option(fd, level, name, &mut [0; 256]).is_ok_and(|len| len > 0);
    is_bound
        || sends_by_another(libc::IPPROTO_IP, IP_UNICAST_IF)
        || sends_by_another(libc::IPPROTO_IPV6, IPV6_UNICAST_IF)
        || has(libc::IPPROTO_IP, libc::IP_OPTIONS)
        || has(libc::IPPROTO_IPV6, libc::IPV6_RTHDR)
        || is_bound_within(fd)
}

/// Is this an MPTCP socket whose inner TCP socket may be bound to another device than it says itself? (The shim's function of this name says
/// how that comes.) It is told once more what it says, and hands it on.
fn is_bound_within(fd: BorrowedFd<'_>) -> bool {
    if protocol(fd).is_ok_and(|protocol| protocol != libc::IPPROTO_MPTCP) {
        return false;
    }
    let mut device = [0; 4];
    let said_again = option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &mut device)
        .and_then(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, i32::from_ne_bytes(device)));
    // `EINVAL`: no connect() begins in this state. `EPERM`: it is bound, and only the privileged may free it.
    said_again.is_err_and(|error| error.raw_os_error() != Some(libc::EINVAL))
}

/// getpeername(2), while there is an IP peer.
pub(crate) fn peer_of(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(getpeername(fd).ok()??).ok()
}

/// An IPv4-mapped address as IPv4; an IPv6 address without flow (RFC 2553).
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V6(v6), SocketAddr::V6(scoped)) => {
            SocketAddrV6::new(v6, scoped.port(), 0, scoped.scope_id()).into()
        }
        (plain, _) => SocketAddr::new(plain, address.port()),
    }
}

/// `SO_NETNS_COOKIE` (since Linux 5.14): a number for the network namespace that the socket is in.
pub(crate) fn network_namespace(fd: BorrowedFd<'_>) -> Option<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    let mut cookie = [0; 8];
    let len = option(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie).ok()?;
    (len == cookie.len()).then(|| u64::from_ne_bytes(cookie))
}

/// getsockname(2), of an IP socket.
pub(crate) fn own_address(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(fd).ok()?).ok()
}

/// What the socket is to us.
///
/// # Errors
/// Those of getsockopt(2).
pub(crate) fn kind(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    Ok(Kind::new(i32::from(sockopt::socket_domain(fd)?.as_raw()), protocol(fd)?))
}

/// `SO_PROTOCOL` (socket(7)).
///
/// # Errors
/// Those of getsockopt(2).
pub(crate) fn protocol(fd: BorrowedFd<'_>) -> io::Result<i32> {
    let mut number = [0; 4];
    option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, &mut number)?;
    Ok(i32::from_ne_bytes(number))
}

/// States of `<netinet/tcp.h>`.
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
/// Our own end has been sent: `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`, `TCP_TIME_WAIT`, `TCP_LAST_ACK`, `TCP_CLOSING`.
const TCP_SHUT: [u8; 5] = [4, 5, 6, 9, 11];

/// The first byte of a `tcp_info`; `None` where the kernel does not tell, as of MPTCP before Linux 5.16.
fn tcp_state(fd: BorrowedFd<'_>) -> Option<u8> {
    let mut state = [0];
    option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).ok()?;
    let [state] = state;
    Some(state)
}

/// Has a TCP socket sent a SYN that is not answered yet? Not as far as can be told, of any other socket.
pub(crate) fn awaits_syn_ack(fd: BorrowedFd<'_>) -> bool {
    tcp_state(fd).is_some_and(|state| matches!(state, TCP_SYN_SENT | TCP_SYN_RECV))
}

/// Is a connect() under way, as far as can be told?
fn is_under_way(fd: BorrowedFd<'_>) -> bool {
    tcp_state(fd).is_none_or(|state| matches!(state, TCP_SYN_SENT | TCP_SYN_RECV))
}

/// Bytes that the kernel has not yet had acknowledged (tcp(7), `SIOCOUTQ`); 0 when there is no telling, and when there is nobody who would: after
/// a reset the kernel counts for ever what was under way then.
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> i32 {
    use std::os::fd::AsRawFd as _;
    if tcp_state(fd) == Some(TCP_CLOSE) {
        return 0;
    }
    let mut left: libc::c_int = 0;
    #[allow(unsafe_code, reason = "rustix has no way to ask for this")]
    // SAFETY: the kernel writes an int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
    if result == 0 { left } else { 0 }
}

/// Has the TCP socket sent or received anything since it was made, or dissolved? (`tcpi_segs_out` and `tcpi_segs_in` of `TCP_INFO`, linux/tcp.h.)
pub(crate) fn has_spoken(fd: BorrowedFd<'_>) -> bool {
    const SEGMENTS: std::ops::Range<usize> = 136..144;
    let mut info = [0; 144];
    // What the kernel does not fill stays 0.
    let _ = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info);
    info.get(SEGMENTS).is_some_and(|segments| segments.iter().any(|byte| *byte != 0))
}

/// How many connections wait to be accepted, which a listener's `TCP_INFO` has as `tcpi_unacked`; 0 when there is no telling.
pub(crate) fn waiting_connections(fd: BorrowedFd<'_>) -> u32 {
    const UNACKED: usize = std::mem::offset_of!(libc::tcp_info, tcpi_unacked);
    let mut info = [0; size_of::<libc::tcp_info>()];
    // What the kernel does not fill stays 0.
    let _ = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info);
    info.get(UNACKED..).and_then(|info| info.first_chunk()).map_or(0, |count| u32::from_ne_bytes(*count))
}

/// getsockopt(2), for options that rustix has not: how much of the buffer the value takes.
pub(crate) fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    let mut len = libc::socklen_t::try_from(value.len()).unwrap_or_default();
    #[allow(unsafe_code, reason = "rustix has no way to ask for any option")]
    // SAFETY: a buffer and its length.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    if result == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// setsockopt(2) with an int, for options that rustix has not.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option_bytes(fd, level, name, &value.to_ne_bytes())
}

/// setsockopt(2) with any value.
pub(crate) fn set_option_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let len = libc::socklen_t::try_from(value.len()).unwrap_or_default();
    #[allow(unsafe_code, reason = "rustix has no way to set any option")]
    // SAFETY: a value and its length.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
