//! What a failed connect() leaves: the state in which Linux has a socket whose connect() nobody waited for. Until the next connect() such a socket is hung up:
//! what is received is the end, what is sent is a broken pipe. That connect() only says so, once, and makes of it an unconnected socket again.
//!
//! No call puts a socket into this state but a connect() that fails. So the socket is connected to loopback's port 0, where nobody listens.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use presocks_abi::probe;
use presocks_abi::sockaddr::Encoded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{bind, sockopt};
use tokio::io::Interest;
use tokio::time::timeout;

use super::source::{any_like, loopback_like, suit};
use super::{Socket, Watched, connect_at_once, dissolve, leaves_loopback, with_options_kept};

/// How long the kernel may take for a refusal: nothing with TCP, while a worker of its own tells MPTCP.
const PATIENCE: Duration = Duration::from_millis(50);

impl Socket {
    /// After a failure that the program learns later: hung up as Linux leaves it, with the error if that is `ECONNREFUSED`, else without. Where that
    /// cannot be had it is unconnected, as after [`Socket::reset`].
    pub(crate) async fn hang_up(&self, errno: i32) {
        self.reset();
        // With it the kernel says yes and connects later, with the first bytes.
        self.lifted.lift(self.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT);
        let is_hung_up = self.is_refused().await;
        self.lifted.put_back(self.as_fd());
        if errno != libc::ECONNREFUSED || !is_hung_up {
            // There may be none.
            let _ = sockopt::socket_error(self.as_fd());
        }
    }

    async fn is_refused(&self) -> bool {
        let socket = self.as_fd();
        let nobody = SocketAddr::new(loopback_like(self.bound).ip(), 0);
        // From another address the answer may go elsewhere; and once it has a port it is bound to no link's address (`source.rs`).
        let stays = |own: SocketAddr| {
            let own = own.ip().to_canonical();
            own.is_unspecified() || own.is_loopback()
        };
        if !stays(self.bound) {
            return false;
        }
        if !self.local_address().is_ok_and(stays) {
            // MPTCP's keeps the address of the connection that is no more.
            let _ = bind(socket, &any_like(self.bound));
        }
        if !self.local_address().is_ok_and(stays) || suit(socket, nobody).is_err() || leaves_loopback(socket)
        {
            return false;
        }
        match connect_at_once(socket, Encoded::new(nobody).as_bytes()) {
            Err(Errno::INPROGRESS) => {}
            Err(_) => return false,
            Ok(()) => {
                let _ = with_options_kept(socket, || dissolve(socket, self.is_v6()));
                return false;
            }
        }
        if has_ended(socket).is_err() {
            let until_told = async {
                Watched::new(socket, Interest::WRITABLE)?.until(Interest::WRITABLE, has_ended).await
            };
            if !matches!(timeout(PATIENCE, until_told).await, Ok(Ok(()))) {
                // A packet filter keeps the answer back, say.
                let _ = with_options_kept(socket, || dissolve(socket, self.is_v6()));
                return false;
            }
        }
        true
    }
}

/// `WouldBlock`: it is on its way.
fn has_ended(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// What the kernel says to the next connect() wherever it goes ([`probe`](presocks_abi::probe)); `None`: nothing, another attempt may begin.
pub(crate) fn probe(socket: BorrowedFd<'_>) -> Option<rustix::io::Result<()>> {
    let said = connect_at_once(socket, &probe::address());
    Some(said).filter(|said| !said.is_err_and(|error| probe::says_nothing(error.raw_os_error())))
}
