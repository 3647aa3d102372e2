//! What a worker process does: the measured code itself, the same for every contestant.
//!
//! Only std and libc calls, so that a preloaded library sees them as it sees any program's.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::system::{self, Epoll, poll_readable};
use crate::{Outcome, datagrams, local, proxy, queries};

/// Tells this executable that it is a worker.
pub(crate) const FLAG: &str = "--task";

/// Connects: `connects DESTINATION [PROXY]`; with a proxy it speaks SOCKS itself.
pub(crate) const CONNECTS: &str = "connects";
/// One byte there and back: `ping plain|poll|epoll DESTINATION [PROXY]`.
pub(crate) const PING: &str = "ping";
/// System calls: `calls free|caught`.
pub(crate) const CALLS: &str = "calls";
/// One that nobody looks at.
pub(crate) const FREE: &str = "free";
/// One that the broker is asked about, and that goes on.
pub(crate) const CAUGHT: &str = "caught";
/// Calls that stay on this machine: `local CALL DIRECTORY`.
pub(crate) const LOCAL: &str = "local";
/// Starts a program: `start PROGRAM`.
pub(crate) const START: &str = "start";
/// Connects, and looks up [`NAMES_PER_CONNECT`] names that are new: `names DESTINATION`.
pub(crate) const NAMES: &str = "names";
/// See [`NAMES`].
pub(crate) const NAMES_PER_CONNECT: usize = 10;

/// Datagrams: `datagrams WAY FIRST-DESTINATION [PROXY]`; with a proxy it speaks SOCKS itself. The ways:
pub(crate) const DATAGRAMS: &str = "datagrams";
/// There and back on a connected socket.
pub(crate) const PEER: &str = "peer";
/// There and back on one that is not.
pub(crate) const ANYBODY: &str = "anybody";
/// Many in flight.
pub(crate) const FLIGHT: &str = "flight";
/// Many in flight to thousands of destinations, all of which have been written to.
pub(crate) const MANY: &str = "many";
/// Many in flight, each to a destination that is new, as long as there are any.
pub(crate) const NEW: &str = "new";
/// A new socket each time.
pub(crate) const SOCKETS: &str = "sockets";
/// A new socket each time, none of them closed.
pub(crate) const KEPT_SOCKETS: &str = "kept-sockets";

/// DNS queries: `queries alone|flight|stream SERVER [echo]`; many in flight as datagrams, or over one connection.
pub(crate) const QUERIES: &str = "queries";
/// There and back, one after the other.
pub(crate) const ALONE: &str = "alone";
/// Many in flight over TCP.
pub(crate) const STREAM: &str = "stream";
/// The server is none, and sends back what it gets.
pub(crate) const ECHO: &str = "echo";
/// The names of [`QUERIES`] by getaddrinfo(3): `look-ups`.
pub(crate) const LOOK_UPS: &str = "look-ups";

/// Does as the words say until standard input ends.
///
/// # Errors
/// The first failure of the task; it answers no more questions.
pub(crate) fn run(words: &[String]) -> Outcome<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        [CONNECTS, destination] => {
            let destination = destination.parse()?;
            answer(each(|| TcpStream::connect::<SocketAddr>(destination)))
        }
        [CONNECTS, destination, proxy] => {
            let (destination, proxy) = (destination.parse()?, proxy.parse()?);
            answer(each(|| proxy::connect(proxy, destination)))
        }
        [PING, how, destination] => ping(how, TcpStream::connect(destination)?),
        [PING, how, destination, proxy] => ping(how, proxy::connect(proxy.parse()?, destination.parse()?)?),
        [CALLS, FREE] => answer(mean(system::parent)),
        [CALLS, CAUGHT] => answer(mean(system::connect_nowhere)),
        [LOCAL, call, directory] => local::run(call, directory),
        [START, program] => {
            answer(each(|| Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).status()))
        }
        [DATAGRAMS, way, far] => datagrams::run(way, far.parse()?, None),
        [DATAGRAMS, way, far, proxy] => datagrams::run(way, far.parse()?, Some(proxy.parse()?)),
        [QUERIES, way, server] => queries::run(way, server.parse()?, queries::is_answer),
        [QUERIES, way, server, ECHO] => queries::run(way, server.parse()?, queries::is_echo),
        [LOOK_UPS] => queries::look_up(),
        [NAMES, destination] => {
            let destination: SocketAddr = destination.parse()?;
            let mut number = 0;
            answer(each(|| {
                for _ in 0..NAMES_PER_CONNECT {
                    number += 1;
                    format!("host-{number}.bench.example:80").to_socket_addrs()?;
                }
                TcpStream::connect(destination)
            }))
        }
        _ => Err("not a task".into()),
    }
}

/// Answers questions: how much to do in, nanoseconds out.
///
/// # Errors
/// Those of the work, and when the bench is gone.
pub(crate) fn answer(mut work: impl FnMut(usize) -> io::Result<Vec<u128>>) -> Outcome<()> {
    for question in io::stdin().lock().lines() {
        let samples = work(question?.trim().parse()?)?;
        let mut line = String::new();
        for sample in samples {
            write!(line, "{sample} ")?;
        }
        println!("{}", line.trim_end());
        io::stdout().flush()?;
    }
    Ok(())
}

/// Times each piece of work by itself; what it returns is dropped outside the time.
pub(crate) fn each<T>(
    mut piece: impl FnMut() -> io::Result<T>,
) -> impl FnMut(usize) -> io::Result<Vec<u128>> {
    move |count| {
        (0..count)
            .map(|_| {
                let started = Instant::now();
                let result = piece()?;
                let took = started.elapsed();
                drop(result);
                Ok(took.as_nanos())
            })
            .collect()
    }
}

fn ping(how: &str, mut connection: TcpStream) -> Outcome<()> {
    connection.set_nodelay(true)?;
    let fd = connection.as_raw_fd();
    let epoll = Epoll::watching(fd)?;
    let wait: &dyn Fn() -> io::Result<()> = match how {
        "plain" => &|| Ok(()),
        "poll" => &|| poll_readable(fd),
        "epoll" => &|| epoll.wait(),
        _ => return Err("not a way to wait".into()),
    };
    answer(mean(|| {
        connection.write_all(b"x")?;
        wait()?;
        connection.read_exact(&mut [0])
    }))
}

/// What is too short to be timed alone: the mean of as many as asked for.
pub(crate) fn mean(mut piece: impl FnMut() -> io::Result<()>) -> impl FnMut(usize) -> io::Result<Vec<u128>> {
    move |count| {
        let started = Instant::now();
        for _ in 0..count {
            piece()?;
        }
        Ok(vec![started.elapsed().as_nanos() / count.max(1) as u128])
    }
}
