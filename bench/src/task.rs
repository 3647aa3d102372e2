//! What a worker process does: the measured code itself, the same for every contestant.
//!
//! Only std and libc calls, so that a preloaded library sees them as it sees any program's.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use crate::measure::{answer, each, mean};
use crate::system::{self, Epoll, poll_readable};
use crate::words::{
    CALLS, CAUGHT, CONNECTS, DATAGRAMS, ECHO, FREE, LOCAL, LOOK_UPS, NAMES, NAMES_PER_CONNECT, PING, QUERIES,
    START,
};
use crate::{Outcome, datagrams, local, proxy, queries};

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
