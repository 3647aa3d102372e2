//! Proxies: a real one, and a scripted one that is always the same speed.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Daemon;
use crate::stage::{Stage, find};
use crate::{Outcome, origin};

/// The namespace is ours, so the ports from here on are free.
const FIRST_PORT: u16 = 1080;
const PATIENCE: Duration = Duration::from_secs(10);

/// A running proxy.
pub(crate) struct Real {
    pub(crate) address: SocketAddr,
    pub(crate) daemon: Daemon,
}

impl Real {
    /// microsocks where there is one, else presocks's own server.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(stage: &Stage) -> Outcome<Self> {
        let Some(path) = find("microsocks") else {
            stage.note("proxy of the rows connects, bulk and memory: presocks --serve (no microsocks)");
            return Self::ours(stage);
        };
        stage.note("proxy of the rows connects, bulk and memory: microsocks");
        Self::run(stage, FIRST_PORT, &mut microsocks(&path, FIRST_PORT))
    }

    /// So many of microsocks, each at a port of its own.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub(crate) fn start_many<const COUNT: usize>(stage: &Stage) -> Outcome<[Self; COUNT]> {
        let path = find("microsocks").ok_or("no microsocks here")?;
        let all: Outcome<Vec<_>> = (FIRST_PORT..)
            .take(COUNT)
            .map(|port| Self::run(stage, port, &mut microsocks(&path, port)))
            .collect();
        all?.try_into().map_err(|_| "not as many as wanted".into())
    }

    /// presocks's own server, which relays datagrams as well.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn ours(stage: &Stage) -> Outcome<Self> {
        let mut command = Command::new(stage.presocks());
        command.args(["--serve", &local(FIRST_PORT).to_string()]);
        Self::run(stage, FIRST_PORT, &mut command)
    }

    /// A server that listens on this port of loopback.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn run(stage: &Stage, port: u16, command: &mut Command) -> Outcome<Self> {
        stage.network()?;
        let address = local(port);
        let daemon = Daemon::start(command)?;
        let started = Instant::now();
        while let Err(error) = TcpStream::connect(address) {
            if started.elapsed() > PATIENCE {
                return Err(format!("the proxy does not listen on {address}: {error}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { address, daemon })
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn microsocks(path: &Path, port: u16) -> Command {
    let mut command = Command::new(path);
    command.args(["-i", &Ipv4Addr::LOCALHOST.to_string(), "-p", &port.to_string()]);
    command
}

/// A SOCKS5 proxy that answers every request with success, `delay` after it came, and then sends back what it receives: proxy and
/// far end in one, so that nothing else is measured.
///
/// # Errors
/// Those of bind(2) and listen(2).
pub(crate) fn scripted(delay: Duration) -> Outcome<SocketAddr> {
    origin::listen(Ipv4Addr::LOCALHOST, move |connection| {
        thread::spawn(move || {
            // Connections end when their clients do.
            let _ = serve(connection, delay);
        });
    })
}

fn serve(mut connection: TcpStream, delay: Duration) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let [_, methods] = read(&mut connection)?;
    let mut offered = vec![0; usize::from(methods)];
    connection.read_exact(&mut offered)?;
    connection.write_all(&[5, 0])?;
    let [_, _, _, kind] = read(&mut connection)?;
    if kind != 1 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let [..]: [u8; 6] = read(&mut connection)?;
    if !delay.is_zero() {
        thread::sleep(delay);
    }
    connection.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let mut buffer = [0; 4096];
    loop {
        let len = connection.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        connection.write_all(buffer.get(..len).unwrap_or(&[]))?;
    }
}

fn read<const LEN: usize>(connection: &mut TcpStream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    connection.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Connects to `destination` through a SOCKS5 proxy, as a program that speaks SOCKS itself does.
///
/// # Errors
/// Those of the connection, and `InvalidData` for a proxy that refuses.
pub(crate) fn connect(proxy: SocketAddr, destination: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(destination) = destination else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    request(proxy, 1, destination).map(|(connection, _)| connection)
}

/// Opens an association, as a program that speaks SOCKS itself does: the connection that keeps it, and where its relay is.
///
/// # Errors
/// As [`connect`].
pub(crate) fn associate(proxy: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    request(proxy, 3, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
}

fn request(proxy: SocketAddr, command: u8, destination: SocketAddrV4) -> io::Result<(TcpStream, SocketAddr)> {
    let refused = || io::Error::from(io::ErrorKind::InvalidData);
    let mut connection = TcpStream::connect(proxy)?;
    connection.write_all(&[5, 1, 0])?;
    if read(&mut connection)? != [5, 0] {
        return Err(refused());
    }
    let mut request = vec![5, command, 0, 1];
    request.extend(destination.ip().octets());
    request.extend(destination.port().to_be_bytes());
    connection.write_all(&request)?;
    let [_, code, _, kind, a, b, c, d, high, low]: [u8; 10] = read(&mut connection)?;
    if code != 0 || kind != 1 {
        return Err(refused());
    }
    let bound = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    Ok((connection, bound))
}
