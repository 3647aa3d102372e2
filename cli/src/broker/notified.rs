//! Seccomp user notifications: what becomes of each call that the filter has caught (`crate::seccomp`).
//!
//! The second way in, beside tickets, and to the same ends: a connect is handed over by `connect::serve`, datagrams and names are what
//! they are for the shim. Nothing in this module waits but the tasks that it starts.
//!
//! # Which calls continue
//!
//! When a call continues, the kernel looks at everything anew: at the descriptor's number, which another thread may have made another socket's by
//! then, and at the program's memory. So a call continues only if it is harmless whatever socket the number means in the end. Never for what the
//! socket is at the moment: that is out of date when the answer is given.
//!
//! - A call without an address, and without a control message that names a device or a source, goes to the socket's peer. Each socket's peer is one that the
//!   socket may speak to.
//! - An address of another family than IP leads nowhere from an IP socket. It continues if the socket is a Unix or netlink socket: only the kernel can
//!   do such a call with the program's own credentials (`SO_PEERCRED`, `SCM_CREDENTIALS`), directory and descriptors.
//! - What sends nothing: to receive, to bind, to listen, to ask for a name, to set an option to a value that leads nothing astray.
//!
//! Each `Continue` below says which of these it is. Every other call is done here, on the descriptor that was taken over and the address that was read, or
//! refused.
//!
//! What this leaves open is memory that a thread changes while another one's call waits: the header of a sendmsg() without an address, the value of
//! an option, the arguments of a socketcall(). For an address of another family it takes both, other memory and another socket at the number. Only a
//! program that wants to get out does that (SECURITY.md).

mod connect;
mod datagram;
mod facts;
mod listen;
mod loopback;
mod message;
mod payload;
mod receive;
mod send;
mod stream;
mod turn;
mod wait;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use presocks_abi::decision::{self, Connect};
use presocks_abi::sockaddr::{self, Encoded, Given};
use presocks_abi::socket::Kind;
use presocks_abi::{option, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::task::spawn_local;

use super::bind::Bindings;
use super::connect::Connector;
use super::connecting::Connecting;
use super::datagram::Datagrams;
use super::device::Devices;
use super::peer_names::PeerNames;
use super::program::Program;
use super::report::Report;
use crate::descriptors::{Descriptors, PAUSE, Place};
use crate::readiness::{until_closed, watch};
use crate::seccomp::call::{self, Call, Layout, Span, decode};
use crate::seccomp::listener::{Answer, Listener, Notification};
use crate::seccomp::target::{Memory, Thread};
use crate::socket::{connect_at_once, connect_to, dissolve, kind, peer_of, probe};
pub(super) use connect::Attempts;

/// The kernel takes no longer address (`struct sockaddr_storage`).
const LONGEST_ADDRESS: usize = 128;

/// How often to look whether a caller has a signal to act on, which the kernel holds back while it waits for us, or waits no more.
const TICK: Duration = Duration::from_millis(200);

/// Calls that are answered before others have their turn.
const TURN: usize = 16;

/// Judges the calls that are caught.
pub(super) struct Supervisor {
    pub(super) connector: Rc<Connector>,
    pub(super) connecting: Rc<Connecting>,
    pub(super) datagrams: Rc<Datagrams>,
    pub(super) devices: Rc<Devices>,
    pub(super) bindings: Rc<Bindings>,
    pub(super) peer_names: Rc<PeerNames>,
    pub(super) descriptors: Rc<Descriptors>,
    pub(super) attempts: Attempts,
    pub(super) report: Rc<Report>,
}

impl Supervisor {
    /// Answers calls until nobody is left who could make one. Should it fail, the listener is closed, and the kernel refuses the calls.
    pub(super) async fn attend(self: Rc<Self>, listener: Listener) {
        if let Err(error) = self.attend_to(Rc::new(listener)).await {
            self.report.listener_failed(&error);
        }
    }

    async fn attend_to(self: &Rc<Self>, listener: Rc<Listener>) -> io::Result<()> {
        let watched = watch(listener.as_fd(), Interest::READABLE)?;
        for served in 1_usize.. {
            // While one call waits after the other, nothing else would come to its turn.
            if served.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
            match until_closed(&watched, Interest::READABLE, || state(&listener)).await? {
                Some(State::Over) | None => return Ok(()),
                Some(State::Interrupted) => {}
                Some(State::Called) => match listener.receive() {
                    Ok(Some(notification)) => Caller::new(self, &listener, &notification).serve(),
                    Ok(None) => {}
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
            }
        }
        Ok(())
    }
}

enum State {
    Called,
    Interrupted,
    /// No process has the filter any more.
    Over,
}

/// Receiving would wait when there is nothing, so it is asked first. `WouldBlock`: nothing.
fn state(listener: &Listener) -> io::Result<State> {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        // A child has ended, say. The next look will tell.
        Err(Errno::INTR) => return Ok(State::Interrupted),
        result => result?,
    };
    let [polled] = polled;
    let events = polled.revents();
    match (events.contains(PollFlags::IN), events.contains(PollFlags::HUP)) {
        (true, _) => Ok(State::Called),
        (false, true) => Ok(State::Over),
        (false, false) => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A call that waits, and who made it.
struct Caller {
    supervisor: Rc<Supervisor>,
    listener: Rc<Listener>,
    notification: Notification,
}

/// A descriptor of the caller's, taken over.
struct Taken {
    thread: Thread,
    fd: OwnedFd,
    /// The caller's.
    number: RawFd,
    domain: i32,
    kind: Kind,
}

impl Taken {
    /// # Errors
    /// Those of fcntl(2).
    fn try_clone(&self) -> io::Result<Self> {
        let (thread, fd) = (self.thread.try_clone()?, self.fd.try_clone()?);
        Ok(Self { thread, fd, number: self.number, domain: self.domain, kind: self.kind })
    }
}

/// How a call ends that a signal interrupts. With a limit it is not made anew (signal(7)), or it would have no end.
fn interrupted(limit: Option<Duration>) -> Answer {
    if limit.is_some() { Answer::Errno(libc::EINTR) } else { Answer::Interrupted }
}

/// What is decided at once; `None`: a task will answer.
type Judged = io::Result<Option<Answer>>;

fn now(answer: Answer) -> Judged {
    Ok(Some(answer))
}

fn errno(errno: i32) -> Judged {
    now(Answer::Errno(errno))
}

fn outcome(result: rustix::io::Result<()>) -> Judged {
    now(result.map_or_else(|error| Answer::Errno(error.raw_os_error()), |()| Answer::Value(0)))
}

impl Caller {
    fn new(supervisor: &Rc<Supervisor>, listener: &Rc<Listener>, notification: &Notification) -> Self {
        let (supervisor, listener) = (Rc::clone(supervisor), Rc::clone(listener));
        Self { supervisor, listener, notification: *notification }
    }

    /// Answers, or starts a task that will.
    fn serve(self) {
        let caller = Rc::new(self);
        let judged = match decode(&caller.notification) {
            Ok(Some((call, layout))) => judge(&caller, call, layout),
            Ok(None) => errno(libc::ENOSYS),
            Err(error) => Err(error),
        };
        caller.conclude(judged);
    }

    /// Answers as was judged, if there is an answer.
    fn conclude(self: Rc<Self>, judged: Judged) {
        match judged {
            Ok(Some(answer)) => self.answer(answer),
            Ok(None) => {}
            Err(error) if is_want_of_descriptors(&error) => {
                spawn_local(async move {
                    tokio::time::sleep(PAUSE).await;
                    if self.waits() {
                        Self::new(&self.supervisor, &self.listener, &self.notification).serve();
                    }
                });
            }
            Err(error) => self.fail(&error),
        }
    }

    fn thread(&self) -> i32 {
        self.notification.thread
    }

    fn answer(&self, answer: Answer) {
        self.is_answered(answer);
    }

    /// Answers; does the caller get the answer? Not when a signal has ended its wait meanwhile, or it is gone.
    fn is_answered(&self, answer: Answer) -> bool {
        self.listener.answer(self.notification.id, answer)
    }

    /// Answers with what kept us from looking at the call, or from doing it.
    fn fail(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::EACCES);
        if !matches!(errno, libc::EPERM | libc::ESRCH) {
            return self.answer(Answer::Errno(errno));
        }
        if self.waits() {
            self.supervisor.report.not_looked_into(&self.program(), error);
        }
        self.answer(Answer::Errno(libc::EACCES))
    }

    /// Does the call still wait? Then what was read until now was its thread's.
    fn waits(&self) -> bool {
        self.listener.waits(self.notification.id)
    }

    fn program(&self) -> Program<'static> {
        Program::Thread(self.thread())
    }

    /// A place for a connect, if nobody is to wait for it.
    fn place_now(&self) -> Option<Place> {
        self.supervisor.descriptors.connect_now(|| self.program().process())
    }

    /// # Errors
    /// `ESRCH` when the call waits no more; those of pidfd_getfd(2), and `ENOTSOCK`.
    fn take(&self, number: RawFd) -> io::Result<Taken> {
        let thread = Thread::open(self.thread())?;
        let fd = thread.descriptor(number)?;
        if !self.waits() {
            return Err(Errno::SRCH.into());
        }
        let domain = i32::from(sockopt::socket_domain(&fd)?.as_raw());
        let kind = kind(fd.as_fd())?;
        Ok(Taken { thread, fd, number, domain, kind })
    }

    /// The caller's memory, to write results to.
    ///
    /// # Errors
    /// `ESRCH` when the call waits no more; those of open(2).
    fn memory(&self) -> io::Result<Memory> {
        let memory = Memory::open(self.thread())?;
        if self.waits() { Ok(memory) } else { Err(Errno::SRCH.into()) }
    }

    /// # Errors
    /// `EINVAL` for a length that the kernel refuses, `EFAULT`; `ESRCH` when the call waits no more.
    fn address(&self, span: Span) -> io::Result<Address> {
        let mut bytes = [0; LONGEST_ADDRESS];
        if span.len > LONGEST_ADDRESS as u64 {
            return Err(Errno::INVAL.into());
        }
        let len = span.read_into(self.thread(), &mut bytes)?.len();
        if self.waits() { Ok(Address { bytes, len }) } else { Err(Errno::SRCH.into()) }
    }
}

/// May nobody look into the program (`PR_SET_DUMPABLE`, or another user's)?
fn is_not_allowed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// It passes when connections end that are under way.
fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A socket address as the program gave it.
struct Address {
    bytes: [u8; LONGEST_ADDRESS],
    len: usize,
}

impl Address {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn given(&self) -> Given {
        sockaddr::parse(self.bytes())
    }
}

fn judge(caller: &Rc<Caller>, call: Call, layout: Layout) -> Judged {
    match call {
        Call::Socket { domain, kind, protocol } => {
            // Continue: it sends nothing.
            now(socket::refused(domain, kind, protocol).map_or(Answer::Continue, Answer::Errno))
        }
        Call::Connect { fd, address } => judge_connect(caller, Asked { fd, address }, None),
        Call::SendTo { .. } | Call::SendMessage { .. } | Call::SendMessages { .. } => {
            send::judge(caller, call, layout)
        }
        Call::ReceiveFrom { .. } | Call::ReceiveMessage { .. } | Call::ReceiveMessages { .. } => {
            receive::judge(caller, call, layout)
        }
        Call::PeerName { fd, address, len } => peer_name(caller, fd, address, len),
        Call::SetOption { fd, level, name, value } => set_option(caller, fd, (level, name), value),
        Call::Bind { fd, address } => listen::judge_bind(caller, fd, address),
        Call::Listen { fd, backlog } => listen::judge(caller, fd, backlog),
        Call::OwnName { fd, address, len } => listen::own_name(caller, fd, address, len),
        // Continue: the kernel refuses it: EFAULT without a filter, as libseccomp tries it; else EBUSY, for there is our listener.
        Call::Supervise { filter: 0 } => now(Answer::Continue),
        Call::Supervise { .. } => {
            caller.supervisor.report.has_no_listener(&caller.program());
            now(Answer::Continue)
        }
    }
}

/// The arguments of a connect(), to be looked at again when it has waited for its turn.
#[derive(Clone, Copy)]
struct Asked {
    fd: RawFd,
    address: Span,
}

/// `place`: the one that it has waited for ([`turn`]).
fn judge_connect(caller: &Rc<Caller>, asked: Asked, place: Option<Place>) -> Judged {
    let address = caller.address(asked.address)?;
    if address.given() == Given::Other && sockaddr::is_resolver(address.bytes()) {
        return errno(libc::ECONNREFUSED);
    }
    let taken = caller.take(asked.fd)?;
    match (address.given(), taken.kind) {
        // Continue: from an IP socket such an address leads nowhere.
        (Given::Other, Kind::NotIp) => now(Answer::Continue),
        (Given::Other, Kind::Refused) => errno(libc::ENETUNREACH),
        (Given::Ip(destination), _) => judge_ip(caller, taken, destination, asked, place),
        (Given::Unspecified(_), Kind::Stream) => {
            caller.supervisor.attempts.forget(&taken.fd);
            caller.supervisor.connecting.dissolve(sockopt::socket_cookie(&taken.fd)?);
            dissolve(taken.fd.as_fd(), taken.domain == libc::AF_INET6)?;
            now(Answer::Value(0))
        }
        // No address for such a socket, or none that leads anywhere: what the kernel says to it, on the descriptor that was taken. Only TCP could wait.
        (Given::Unreadable | Given::Other, Kind::Stream) => {
            outcome(connect_at_once(taken.fd.as_fd(), address.bytes()))
        }
        (Given::Unspecified(_) | Given::Unreadable, Kind::Datagram | Kind::NotIp | Kind::Refused)
        | (Given::Other, Kind::Datagram) => outcome(connect_to(taken.fd.as_fd(), address.bytes())),
    }
}

/// What becomes of connect() to an IP address.
fn judge_ip(
    caller: &Rc<Caller>,
    taken: Taken,
    destination: SocketAddr,
    asked: Asked,
    place: Option<Place>,
) -> Judged {
    match decide(caller, &taken, destination)? {
        Connect::Datagram => match datagram::connect(caller, &taken, destination) {
            Ok(()) => now(Answer::Value(0)),
            Err(error) => errno(error.raw_os_error().unwrap_or(libc::ENETUNREACH)),
        },
        Connect::UnderWay if !caller.supervisor.attempts.has(&taken.fd, destination) => errno(libc::EALREADY),
        Connect::Refused => outcome(connect_nowhere(&taken, destination)),
        Connect::Unreachable => errno(libc::ENETUNREACH),
        Connect::OutOfReach => match probe(taken.fd.as_fd()) {
            Some(said) => outcome(said),
            None => errno(libc::ENETUNREACH),
        },
        Connect::Loopback => {
            match caller.supervisor.connector.permit_on_loopback(destination, &caller.program()) {
                Ok(()) => loopback::connect(caller, taken, destination),
                Err(denied) => errno(denied),
            }
        }
        Connect::UnderWay | Connect::Broker => {
            match place.or_else(|| caller.place_now()) {
                Some(place) => connect::serve(Rc::clone(caller), taken, destination, place),
                None => turn::wait(Rc::clone(caller), taken, asked),
            }
            Ok(None)
        }
    }
}

fn decide(caller: &Caller, taken: &Taken, destination: SocketAddr) -> rustix::io::Result<Connect> {
    decision::connect(destination, &facts::Socket { caller, taken })
}

/// What the kernel says to a connect() that is not for such a socket.
fn connect_nowhere(taken: &Taken, destination: SocketAddr) -> rustix::io::Result<()> {
    connect_at_once(taken.fd.as_fd(), Encoded::new(nowhere(destination)).as_bytes())
}

/// Does the broker connect it for somebody?
fn is_being_connected(caller: &Caller, socket: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(caller.supervisor.connecting.has(sockopt::socket_cookie(socket)?))
}

/// Loopback's port 0 in the destination's family.
fn nowhere(destination: SocketAddr) -> SocketAddr {
    match destination {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    }
}

/// What the program asked for, as the shim shows it.
fn peer_name(caller: &Caller, fd: RawFd, address: u64, len: u64) -> Judged {
    if caller.supervisor.peer_names.are_none() {
        // Continue: it sends nothing.
        return now(Answer::Continue);
    }
    let taken = match caller.take(fd) {
        // A hooked program asks by a ticket then; any other was told when it could not connect.
        Err(error) if is_not_allowed(&error) => return errno(libc::EACCES),
        taken => taken?,
    };
    let asked = peer_of(taken.fd.as_fd()).and_then(|actual| {
        let cookie = sockopt::socket_cookie(&taken.fd).ok()?;
        caller.supervisor.peer_names.of(cookie, actual)
    });
    // Continue: as above.
    let Some(asked) = asked else { return now(Answer::Continue) };
    let encoded = Encoded::new(sockaddr::in_family(asked, taken.domain));
    call::return_address(caller.thread(), &caller.memory()?, address, len, encoded.as_bytes())?;
    now(Answer::Value(0))
}

fn set_option(caller: &Caller, fd: RawFd, (level, name): (i32, i32), value: Span) -> Judged {
    // Continue: by socketcall(2) other options are caught, too. They send nothing, and lead nothing astray.
    let Some(kind) = option::kind(level, name) else { return now(Answer::Continue) };
    let mut bytes = [0; option::MAX_LEN];
    let value = value.read_into(caller.thread(), &mut bytes)?;
    if let Some(error) = option::refused(kind, value) {
        return errno(error);
    }
    if !option::is_another_device(kind, value) {
        // Continue: to any socket the value does no harm.
        return now(Answer::Continue);
    }
    let taken = caller.take(fd)?;
    match caller.supervisor.devices.set(taken.fd.as_fd(), (level, name), value) {
        Ok(()) => now(Answer::Value(0)),
        Err(error) => errno(error.raw_os_error().unwrap_or(libc::EINVAL)),
    }
}
