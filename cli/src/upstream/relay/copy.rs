//! Bytes that change on their way, as with TLS and GSSAPI: read, and written.

use std::future::pending;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use super::Relays;
use super::side::{Broken, Side, until_both_end};

/// Bytes that are under way, each way: two records of TLS (RFC 8446 section 5.1).
const BUFFER: usize = 32 * 1024;

/// Until both sides have ended.
///
/// # Errors
/// Those of either side.
pub(super) async fn both_ways(
    relays: &Relays,
    program: &impl Side,
    proxy: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    let (from_proxy, to_proxy) = split(proxy);
    let (there, back) = (there(relays, program, to_proxy), back(relays, from_proxy, program));
    until_both_end(there, back, program.broken(), pending()).await
}

async fn there(
    relays: &Relays,
    program: &impl Side,
    mut proxy: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = program.receive(&mut buffer).await.map_err(Broken::Reading)?;
        if len == 0 {
            return proxy.shutdown().await.map_err(Broken::Writing);
        }
        proxy.write_all(buffer.get(..len).unwrap_or(&[])).await.map_err(Broken::Writing)?;
        proxy.flush().await.map_err(Broken::Writing)?;
        relays.count(len);
    }
}

async fn back(relays: &Relays, mut proxy: impl AsyncRead + Unpin, program: &impl Side) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = proxy.read(&mut buffer).await.map_err(Broken::Reading)?;
        if len == 0 {
            return program.end().map_err(Broken::Writing);
        }
        program.send_all(buffer.get(..len).unwrap_or(&[])).await.map_err(Broken::Writing)?;
        relays.count(len);
    }
}
