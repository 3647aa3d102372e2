//! A connection of the broker's own to a proxy, before the handshake.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use super::failure::Failure;
use super::limits::Limits;

/// Delay between retries while the socket's backlog is full (`EAGAIN`).
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// A TCP connection to a proxy. What is said goes at once: its sender has chosen the segments already.
///
/// # Errors
/// [`Failure`] as the network or the clock has it.
pub(crate) async fn connect_tcp(limits: &Limits, proxy: SocketAddr) -> Result<TcpStream, Failure> {
    let connected = limits.within(limits.connect, TcpStream::connect(proxy)).await;
    let stream = connected.map_err(Failure::ProxyTimeout)?.map_err(Failure::ProxyUnreachable)?;
    // Fails on no TCP socket.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to a Unix socket. While its backlog is full, the kernel does not let a non-blocking connect() wait (unix(7), `EAGAIN`): it is tried again.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY_DELAY).await,
            result => return result,
        }
    }
}
