//! Waiting for a descriptor until something can be done with it: every such loop of the broker's own is one of these.
//!
//! The runtime keeps what the kernel has told of a descriptor until a call finds nothing to do (`WouldBlock`). That a direction is *closed* it keeps
//! for ever. Of a program's socket that need not be true: it is dissolved and connected anew, it was shut before it was connected, its
//! error queue holds a message. A loop that only tries and clears would then never wait again, and the broker, which has one thread, would
//! answer nobody. So a descriptor that counts as closed, and has nothing to do, is waited for by edges (`Edges`): what has been told once is
//! not told again, whatever its program does to it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that can be waited for.
pub(crate) struct Watched<'a> {
    fd: BorrowedFd<'a>,
    by: Means<'a>,
}

/// By what it is waited for.
enum Means<'a> {
    Runtime(AsyncFd<BorrowedFd<'a>>, Interest),
    Edges(Edges),
}

impl<'a> Watched<'a> {
    /// `interest`: what it will mostly be waited for.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub(crate) fn new(fd: BorrowedFd<'a>, interest: Interest) -> io::Result<Self> {
        Ok(Self { fd, by: Means::Runtime(watch(fd, interest)?, interest) })
    }

    /// Waits until the descriptor is ready, and `call` does not answer `WouldBlock`.
    ///
    /// # Errors
    /// Those of `call`; of epoll_create1(2) and epoll_ctl(2).
    pub(crate) async fn until<T>(
        &mut self,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> io::Result<T> {
        let fd = self.fd;
        if let Means::Runtime(registered, of) = &self.by {
            let is_of = (!interest.is_readable() || of.is_readable())
                && (!interest.is_writable() || of.is_writable());
            if is_of && let Some(result) = until_closed(registered, interest, || call(fd)).await? {
                return Ok(result);
            }
            self.by = Means::Edges(Edges::of(fd)?);
        }
        loop {
            match call(fd) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if let Means::Edges(edges) = &self.by {
                edges.next().await?;
            }
        }
    }
}

/// As [`Watched::until`]; `None` when the descriptor counts as closed, and yet there is nothing to do.
///
/// # Errors
/// Those of `call`.
pub(crate) async fn until_closed<T>(
    registered: &AsyncFd<impl AsRawFd>,
    interest: Interest,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<Option<T>> {
    loop {
        let mut ready = registered.ready(interest).await?;
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(Some),
        }
        let state = ready.ready();
        if interest.is_readable() && state.is_read_closed()
            || interest.is_writable() && state.is_write_closed()
        {
            return Ok(None);
        }
        ready.clear_ready();
    }
}

/// An epoll set of one descriptor, which tells of it when something changes (epoll(7), `EPOLLET`).
struct Edges(AsyncFd<OwnedFd>);

impl Edges {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        use epoll::EventFlags;
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
        epoll::add(&set, fd, epoll::EventData::new_u64(0), events)?;
        #[allow(unsafe_code, reason = "the runtime asks for a promise that the owner keeps")]
        // SAFETY: the descriptor is the registration's own, and closed after it.
        let registered = unsafe { AsyncFd::register_with_interest(set, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Waits for the next change. What it is, the next call finds out.
    async fn next(&self) -> io::Result<()> {
        const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ready = self.0.readable().await?;
        let mut room =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        // With this it is told. That nothing is there is no harm: a set of one's own is never closed.
        let told = epoll::wait(self.0.as_fd(), &mut room, Some(&NOT_AT_ALL));
        ready.clear_ready();
        match told {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Registers a descriptor with the runtime, to be waited for once.
///
/// # Errors
/// Those of epoll_ctl(2).
pub(crate) fn watch(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    #[allow(unsafe_code, reason = "the runtime asks for a promise that the borrow keeps")]
    // SAFETY: a borrowed descriptor is open, and the same, for as long as the borrow lives.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(watched?)
}

/// Sends all bytes. As a rule there is room for them.
///
/// # Errors
/// Those of send(2).
pub(crate) async fn send_all(socket: &mut Watched<'_>, mut bytes: &[u8]) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !bytes.is_empty() {
        let sent = match send(socket.fd, bytes, flags) {
            Err(Errno::AGAIN) => {
                socket.until(Interest::WRITABLE, |socket| Ok(send(socket, bytes, flags)?)).await?
            }
            result => result?,
        };
        bytes = bytes.get(sent..).unwrap_or(&[]);
    }
    Ok(())
}

/// Receives at most `buffer.len()` bytes; 0 at the end.
///
/// # Errors
/// Those of recv(2).
pub(crate) async fn receive(socket: &mut Watched<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    socket
        .until(Interest::READABLE, |socket| {
            Ok(recv(socket, &mut *buffer, RecvFlags::DONTWAIT).map(|(len, _)| len)?)
        })
        .await
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{
        AddressFamily, Shutdown, SocketFlags, SocketType, bind, connect, connect_unspec, listen, shutdown,
        socket_with,
    };
    use tokio::time::timeout;

    use super::*;
    use crate::socket::set_option;

    /// Looks that a wait may take of its descriptor while nothing happens, or one thing.
    const FEW: usize = 8;

    /// As the broker runs.
    pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    pub(crate) fn tcp() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
    }

    /// A listener that answers no further connect(), as its queue is full.
    pub(crate) struct Silent {
        _listener: OwnedFd,
        _first: OwnedFd,
        pub(crate) address: SocketAddr,
    }

    impl Silent {
        pub(crate) fn new() -> Self {
            let listener = tcp();
            bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            listen(&listener, 0).unwrap();
            let address = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
            let first = tcp();
            assert_eq!(connect(&first, &address), Err(Errno::INPROGRESS));
            // With a backlog of 0 the queue is full when there is one to be accepted.
            poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
            Self { _listener: listener, _first: first, address }
        }
    }

    /// How often a wait looks at a descriptor that has nothing to do, before `disturbed` happens to it and for a while after.
    fn looks(fd: &OwnedFd, interest: Interest, disturbed: impl FnOnce()) -> usize {
        let looks = Cell::new(0);
        run(async {
            let mut watched = Watched::new(fd.as_fd(), interest).unwrap();
            let wait = watched.until(interest, |_| {
                looks.set(looks.get() + 1);
                assert!(looks.get() < 1000, "it never waits");
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            let mut wait = std::pin::pin!(wait);
            assert!(timeout(Duration::from_millis(20), &mut wait).await.is_err());
            disturbed();
            assert!(timeout(Duration::from_millis(20), &mut wait).await.is_err());
        });
        looks.get()
    }

    #[test]
    fn what_counts_as_closed_and_has_nothing_to_do_is_not_looked_at_for_ever() {
        let silent = Silent::new();
        for interest in [Interest::READABLE, Interest::WRITABLE] {
            let unconnected = tcp();
            assert!(looks(&unconnected, interest, || {}) <= FEW);
            let pending = tcp();
            assert_eq!(connect(&pending, &silent.address), Err(Errno::INPROGRESS));
            assert!(looks(&pending, interest, || connect_unspec(&pending).unwrap()) <= FEW);
            assert_eq!(connect(&pending, &silent.address), Err(Errno::INPROGRESS));
            assert!(looks(&pending, interest, || shutdown(&pending, Shutdown::Both).unwrap()) <= FEW);
            let shut_before = tcp();
            assert_eq!(shutdown(&shut_before, Shutdown::Both), Err(Errno::NOTCONN));
            assert_eq!(connect(&shut_before, &silent.address), Err(Errno::INPROGRESS));
            assert!(looks(&shut_before, interest, || {}) <= FEW);
        }
    }

    #[test]
    fn what_counts_as_closed_is_still_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dissolved = tcp();
        connect_unspec(&dissolved).unwrap();
        run(async {
            let mut watched = Watched::new(dissolved.as_fd(), Interest::READABLE).unwrap();
            let peer = Cell::new(None);
            let is_connected = Cell::new(false);
            let wait = watched.until(Interest::READABLE, |socket| {
                if is_connected.get() {
                    Ok(recv(socket, &mut [0; 1], RecvFlags::DONTWAIT)?.0)
                } else {
                    Err(Errno::AGAIN.into())
                }
            });
            let mut wait = std::pin::pin!(wait);
            assert!(timeout(Duration::from_millis(20), &mut wait).await.is_err());
            assert_eq!(connect(&dissolved, &address), Err(Errno::INPROGRESS));
            peer.set(Some(listener.accept().unwrap().0));
            is_connected.set(true);
            assert!(timeout(Duration::from_millis(20), &mut wait).await.is_err());
            rustix::io::write(peer.take().unwrap(), b"!").unwrap();
            assert_eq!(wait.await.unwrap(), 1);
        });
    }

    #[test]
    fn a_message_in_the_error_queue_does_not_keep_a_sender_awake() {
        const SO_TIMESTAMPING: i32 = 37;
        const WHEN_SCHEDULED: i32 = 1 << 8;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        set_option(socket.as_fd(), libc::SOL_SOCKET, SO_TIMESTAMPING, WHEN_SCHEDULED).unwrap();
        run(async {
            let mut watched = Watched::new(socket.as_fd(), Interest::WRITABLE).unwrap();
            let looks = Cell::new(0);
            let much = vec![7; 1 << 20];
            let (mut left, mut seen) = (32 << 20, 0_u64);
            while left > 0 {
                let sent = watched.until(Interest::WRITABLE, |socket| {
                    looks.set(looks.get() + 1);
                    Ok(send(socket, &much, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
                });
                let mut sent = std::pin::pin!(sent);
                let before = looks.get();
                match timeout(Duration::from_millis(20), &mut sent).await {
                    Ok(sent) => left -= sent.unwrap().min(left),
                    Err(_) => {
                        assert!(looks.get() - before <= FEW);
                        let taken = std::io::Read::read(&mut peer, &mut vec![0; 4 << 20]).unwrap();
                        seen += taken as u64;
                    }
                }
            }
            assert!(seen > 0, "nothing was ever full");
        });
    }
}
