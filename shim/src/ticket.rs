//! One connection to the broker for one call.
//!
//! A ticket is opened, used for one request and one reply, and closed. Nothing is shared between calls, threads or
//! processes, so fork, exec, daemonising and close_range() have nothing to break. The reply is only ever peeked at: after
//! a fork two processes hold the same ticket, and each must find the reply.

use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
use presocks_proto::frame::{self, Reply, Request};
use presocks_proto::session::{Queue, RENDEZVOUS_LEN, Session};

use crate::errno::Errno;
use crate::{pass, session, sys};

const GONE: &[u8] = b"presocks: the broker is gone: network access refused\n";

/// The line that says which call a sandbox of the program's forbids.
macro_rules! forbids {
    ($call:literal) => {
        concat!(
            "presocks: a sandbox of this program (a seccomp filter, say) forbids ",
            $call,
            ", by which the broker is asked, and the backstop is not there to ask instead: network access refused; ",
            "allow the call, or run presocks with its backstop\n"
        )
        .as_bytes()
    };
}

const NO_SESSION: &[u8] =
    b"presocks: no session in the environment (PRESOCKS_SESSION): network access refused\n";

/// Where the numbers of tickets that outlive their call begin, if the limit allows.
const HIGH: c_int = 512;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a name is its largest part, and nothing here can allocate")]
pub(crate) enum Outcome {
    /// No reply yet.
    NotYet,
    /// The broker's reply.
    Reply(Reply),
    /// There will be no reply that can be believed: the broker is gone, or what answered is not the broker.
    Broken,
}

/// Why there is no ticket. The broker may still be reached by the seccomp filter (`connect::unjudged`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTicket {
    /// The environment names no session.
    Session,
    /// No descriptor is left, or no memory.
    Descriptor,
    /// Nobody listens at the rendezvous: the broker is gone, or in another network namespace.
    Broker,
    /// A sandbox of the program's forbids a call that it takes.
    Forbidden(Forbidden),
}

/// What a sandbox of the program's forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    Socket,
    Connect,
    Send,
    Options,
}

impl Forbidden {
    fn line(self) -> &'static [u8] {
        match self {
            Self::Socket => forbids!("socket(AF_UNIX, SOCK_SEQPACKET)"),
            Self::Connect => forbids!("connect() on Unix sockets"),
            Self::Send => forbids!("sendmsg()"),
            Self::Options => forbids!("getsockopt()"),
        }
    }

    /// The same, once it has been noted.
    fn noted(self) -> NoTicket {
        IS_FORBIDDEN.store(true, Ordering::Relaxed);
        NoTicket::Forbidden(self)
    }
}

/// Has a sandbox of this process's been found to forbid what it takes to ask the broker? It stays.
static IS_FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Is this process so confined that its calls are better left to the seccomp filter, which brings them before the broker?
pub(crate) fn is_left_to_the_filter() -> bool {
    IS_FORBIDDEN.load(Ordering::Relaxed) && pass::filter_stands()
}

/// Is this how a sandbox refuses a call of ours, which without one cannot fail so? `None`: no.
pub(crate) fn forbidden(error: Errno) -> Option<NoTicket> {
    matches!(error, libc::EPERM | libc::EACCES | libc::ENOSYS).then(|| Forbidden::Options.noted())
}

impl NoTicket {
    /// Says so, as there is no broker to say it. `ENETUNREACH`: the program cannot be proxied.
    pub(crate) fn report(self) -> Errno {
        match self {
            Self::Session => complain(false, NO_SESSION),
            Self::Descriptor => {}
            Self::Broker => return report_gone(),
            Self::Forbidden(what) => complain(is_quiet(), what.line()),
        }
        libc::ENETUNREACH
    }
}

/// Says that the broker is gone. `ENETUNREACH`.
pub(crate) fn report_gone() -> Errno {
    complain(is_quiet(), GONE);
    libc::ENETUNREACH
}

fn is_quiet() -> bool {
    session::current().is_some_and(|session| session.quiet)
}

/// An open ticket; closed when dropped.
pub(crate) struct Ticket {
    fd: c_int,
    session: Session,
}

/// For how many milliseconds a socket waits for its turn to be sent to the broker, which waits for half a minute for a request.
const QUEUE_LIMIT: u64 = 20_000;

impl Ticket {
    /// A socket for a ticket, not yet connected.
    pub(crate) fn new() -> Result<Self, NoTicket> {
        let session = session::current().ok_or(NoTicket::Session)?;
        let fd = sys::own_socket(libc::AF_UNIX, libc::SOCK_SEQPACKET).map_err(|error| match error {
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => NoTicket::Descriptor,
            _ => Forbidden::Socket.noted(),
        })?;
        Ok(Self { fd, session })
    }

    /// A ticket for a question that waits in this queue.
    pub(crate) fn open(queue: Queue) -> Result<Self, NoTicket> {
        let ticket = Self::new()?;
        ticket.connect(queue)?;
        Ok(ticket)
    }

    /// A ticket that somebody keeps by its number; the caller has made sure that it is one.
    pub(crate) fn from_number(fd: c_int) -> Option<Self> {
        session::current().map(|session| Self { fd, session })
    }

    /// Gives the number away; it is not closed here any more.
    pub(crate) fn into_number(self) -> c_int {
        let fd = self.fd;
        core::mem::forget(self);
        fd
    }

    /// The descriptor's number.
    pub(crate) fn number(&self) -> c_int {
        self.fd
    }

    /// Moves to a higher number, out of the way of programs that count on the lowest ones, for a ticket that outlives its
    /// call. Not too high: the kernel's table of descriptors grows with the highest.
    pub(crate) fn move_up(&mut self) {
        let limit = sys::descriptor_limit().unwrap_or(0);
        let floor = c_int::try_from(limit / 2).unwrap_or(HIGH).clamp(sys::FIRST_FREE, HIGH);
        if let Ok(high) = sys::duplicate_from(self.fd, floor) {
            sys::close(self.fd);
            self.fd = high;
        }
    }

    /// Sends the request, with the program's socket where it carries one.
    ///
    /// # Errors
    /// `ENETUNREACH` when the broker cannot be told; `EPERM` when a sandbox forbids it; `EAGAIN` when too many descriptors are on their way (unix(7)).
    pub(crate) fn send(&self, request: &Request, socket: Option<c_int>) -> Result<(), Errno> {
        let attached = if request.carries_socket() { socket } else { None };
        if attached.is_some() && !self.is_brokers() {
            return Err(report_gone());
        }
        let packet = request.encode(&self.session.token);
        let begun = sys::coarse_milliseconds();
        loop {
            match sys::send_packet(self.fd, &packet, attached) {
                // The program's own may be on their way as well, to nobody who takes them.
                Err(libc::ETOOMANYREFS) if sys::coarse_milliseconds() - begun > QUEUE_LIMIT => {
                    return Err(libc::EAGAIN);
                }
                // As many sockets are on their way as this process may have open, of all this user's (unix(7)): the broker has others to take first.
                Err(libc::ETOOMANYREFS) => sys::pause(),
                Err(error) if forbidden(error).is_some() => return Err(libc::EPERM),
                result => return result.map_err(|_| report_gone()),
            }
        }
    }

    /// Connects to the broker, for a request that waits in this queue.
    pub(crate) fn connect(&self, queue: Queue) -> Result<(), NoTicket> {
        let mut address = [0_u8; 2 + RENDEZVOUS_LEN];
        let (family, path) = address.split_at_mut(2);
        family.copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        path.copy_from_slice(&self.session.rendezvous(queue));
        loop {
            match sys::connect(self.fd, &address) {
                Err(libc::EINTR) => {}
                Err(error) if forbidden(error).is_some() => return Err(Forbidden::Connect.noted()),
                result => return result.map_err(|_| NoTicket::Broker),
            }
        }
    }

    /// Is the other side the broker's user? When the broker has died, another user may listen at its address, and must not get the
    /// program's socket. In another user namespace the numbers differ; there an answer with the session's proof tells as much.
    fn is_brokers(&self) -> bool {
        if sys::peer_user(self.fd) == Ok(self.session.uid) {
            return true;
        }
        let address = Ipv4Addr::UNSPECIFIED.into();
        ask(&Request::Reverse { address }, None) != Err(libc::ENETUNREACH)
    }

    /// The reply, if it is there.
    pub(crate) fn peek(&self) -> Outcome {
        let mut packet = [0_u8; frame::LEN];
        match sys::peek(self.fd, &mut packet) {
            Err(libc::EAGAIN | libc::EINTR) => Outcome::NotYet,
            result => self.read(result, &packet),
        }
    }

    /// Waits for the reply as a blocking call does.
    ///
    /// # Errors
    /// `EINTR` when a signal handler ran that does not restart calls; `EAGAIN` after the socket's receive timeout.
    pub(crate) fn wait(&self) -> Result<Outcome, Errno> {
        self.wait_by(sys::receive_cancellable)
    }

    /// Gives the request up: the broker sees that our half is shut, and answers once it has let go of the socket. Not interrupted by signals. A request
    /// that waits for its turn is not received at all, and we do not wait until it is. A packet behind it tells the broker that the socket is its program's
    /// again: one whose ticket is only closed may be going on in another program (execve(2)).
    pub(crate) fn call_off(&self) {
        let before = sys::unreceived(self.fd);
        if before > 0 {
            // A broker that is gone does nothing with the socket any more.
            let _ = sys::send_packet(self.fd, &[0], None);
        }
        let is_shut = sys::shut_for_writing(self.fd).is_ok();
        // What is left when the request has been received is no larger than the request was.
        let is_unreceived = sys::unreceived(self.fd) > before;
        if is_shut && !is_unreceived {
            while let Err(libc::EINTR | libc::EAGAIN) = sys::receive(self.fd, &mut [0]) {}
        }
    }

    fn wait_by(&self, receive: fn(c_int, &mut [u8]) -> Result<usize, Errno>) -> Result<Outcome, Errno> {
        let mut packet = [0_u8; frame::LEN];
        match receive(self.fd, &mut packet) {
            Err(error @ (libc::EINTR | libc::EAGAIN)) => Err(error),
            result => Ok(self.read(result, &packet)),
        }
    }

    fn read(&self, result: Result<usize, Errno>, packet: &[u8]) -> Outcome {
        match result.map(|len| packet.get(..len).map(|packet| Reply::decode(packet, &self.session.proof))) {
            Ok(Some(Ok(reply))) => Outcome::Reply(reply),
            _ => {
                report_gone();
                Outcome::Broken
            }
        }
    }
}

impl Ticket {
    /// Asks the broker what it can answer at once. Not interrupted by signals.
    ///
    /// # Errors
    /// `ENETUNREACH` when the broker does not answer; the errno that it answers.
    pub(crate) fn ask(self, request: &Request, socket: Option<c_int>) -> Result<Reply, Errno> {
        self.send(request, socket).map_err(|error| match error {
            libc::EPERM => Forbidden::Send.noted().report(),
            error => error,
        })?;
        loop {
            match self.wait_by(sys::receive) {
                Ok(Outcome::Reply(Reply::Done { errno })) if errno != 0 => return Err(errno),
                Ok(Outcome::Reply(reply)) => return Ok(reply),
                Ok(Outcome::Broken) => return Err(libc::ENETUNREACH),
                Ok(Outcome::NotYet) | Err(_) => {}
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        sys::close(self.fd);
    }
}

/// Asks the broker what it can answer at once: names, addresses, permissions. Not interrupted by signals.
///
/// # Errors
/// `ENETUNREACH` when there is no broker to ask; the errno that the broker answers.
pub(crate) fn ask(request: &Request, socket: Option<c_int>) -> Result<Reply, Errno> {
    Ticket::open(request.queue()).map_err(NoTicket::report)?.ask(request, socket)
}

/// As [`ask`]. `None`: a sandbox forbids it, and libc's own calls, which the seccomp filter brings before the broker, are to do instead.
pub(crate) fn ask_unless_left(request: &Request) -> Option<Result<Reply, Errno>> {
    if is_left_to_the_filter() {
        return None;
    }
    match Ticket::open(request.queue()) {
        Ok(ticket) => Some(ticket.ask(request, None)),
        Err(_) if is_left_to_the_filter() => None,
        Err(why) => Some(Err(why.report())),
    }
}

/// One line on stderr, once per process, when there is no broker to say it. Not into a socket: a server's descriptor 2
/// may be its client.
fn complain(quiet: bool, line: &[u8]) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if quiet || SAID.swap(true, Ordering::Relaxed) || sys::is_socket(2) {
        return;
    }
    let _ = sys::write(2, line);
}
