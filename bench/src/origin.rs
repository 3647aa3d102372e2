//! The far ends: one that accepts and closes, one that sends many bytes over HTTP, two that send datagrams back.
//!
//! They are threads of the bench, which is none of the measured processes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;

use crate::stage::FAR;
use crate::{Outcome, system};

/// Room for connections that wait to be accepted.
pub(crate) const BACKLOG: i32 = 1024;

/// Listens on a free port and serves each connection by `serve`, on a thread of its own or, when that is short, at once.
///
/// # Errors
/// Those of bind(2) and listen(2).
pub(crate) fn listen(
    address: impl Into<IpAddr>,
    serve: impl Fn(TcpStream) + Send + 'static,
) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((address.into(), 0))?;
    system::widen_backlog(&listener, BACKLOG)?;
    let address = listener.local_addr()?;
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    Ok(address)
}

/// Accepts connections and closes them at once.
///
/// # Errors
/// Those of [`listen`].
pub(crate) fn silent(address: impl Into<IpAddr>) -> Outcome<SocketAddr> {
    listen(address, drop)
}

/// Answers every HTTP request with `size` zero bytes.
///
/// # Errors
/// Those of [`listen`].
pub(crate) fn download(address: impl Into<IpAddr>, size: u64) -> Outcome<SocketAddr> {
    listen(address, move |connection| {
        thread::spawn(move || {
            // A client that goes away early has its own complaint.
            let _ = send(connection, size);
        });
    })
}

/// Sends datagrams back, each from the address to which it was sent: every one of this machine, on as many ports as said,
/// of which the first is in the answer.
///
/// # Errors
/// Those of bind(2) and setsockopt(2).
pub(crate) fn datagrams(ports: usize) -> Outcome<SocketAddrV4> {
    /// The namespace is ours, so they are free.
    const FIRST: u16 = 7000;
    for port in (FIRST..).take(ports) {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        system::tell_destinations(&socket)?;
        thread::spawn(move || {
            let mut buffer = vec![0; 2048];
            loop {
                // A client that goes away early has its own complaint.
                let _ = system::send_back(&socket, &mut buffer);
            }
        });
    }
    Ok(SocketAddrV4::new(FAR, FIRST))
}

/// Sends datagrams back, as plainly as can be, from one port of loopback.
///
/// # Errors
/// Those of bind(2).
pub(crate) fn echo() -> Outcome<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = vec![0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            // A client that goes away early has its own complaint.
            let _ = socket.send_to(buffer.get(..len).unwrap_or_default(), from);
        }
    });
    Ok(address)
}

fn send(mut connection: TcpStream, size: u64) -> std::io::Result<()> {
    const PIECE: usize = 256 * 1024;
    let mut request = [0; 4096];
    // curl's request is short and comes in one piece; all that matters is that it has come.
    if connection.read(&mut request)? == 0 {
        return Ok(());
    }
    write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n")?;
    let zeroes = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        connection.write_all(zeroes.get(..len).unwrap_or(&zeroes))?;
        left -= len as u64;
    }
    Ok(())
}
