//! A service that calls back, as a server of active FTP does: told where, it connects there from the origin.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use super::Service;
use crate::lab::Lab;

/// What it says first on a connection of its own.
pub const HELLO: &str = "hello from the caller\n";

/// Starts it on this port of the origin. For each line `call ADDRESS:PORT` it connects there and answers `called from ADDRESS:PORT`, or
/// `not called: REASON`. On the connection it says [`HELLO`], then sends everything back, until its peer has said its last.
#[must_use]
pub fn start(lab: &Lab, port: u16) -> Service {
    let door = lab.origin.door();
    Service::start(lab, port, move |control| {
        for line in BufReader::new(control).lines() {
            let line = line?;
            let to = line.strip_prefix("call ").and_then(|to| to.parse::<SocketAddr>().ok());
            let to = to.ok_or(io::ErrorKind::InvalidInput)?;
            // A mapped address is IPv4's, by which the far side knows it.
            let to = SocketAddr::new(to.ip().to_canonical(), to.port());
            let answer = match door.inside(|| TcpStream::connect(to)) {
                Ok(data) => {
                    let from = data.local_addr()?;
                    thread::spawn(move || drop(converse(&data)));
                    format!("called from {from}\n")
                }
                Err(error) => format!("not called: {error}\n"),
            };
            (&*control).write_all(answer.as_bytes())?;
        }
        Ok(())
    })
}

fn converse(data: &TcpStream) -> io::Result<()> {
    (&*data).write_all(HELLO.as_bytes())?;
    io::copy(&mut &*data, &mut &*data)?;
    data.shutdown(Shutdown::Write)
}
