//! Bytes that change on their way, as with TLS: read, and written.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use super::Relays;

/// Bytes that are under way, each way: two records of TLS (RFC 8446 section 5.1).
const BUFFER: usize = 32 * 1024;

/// Until both sides have ended.
///
/// # Errors
/// Those of either side.
pub(super) async fn both_ways(
    relays: &Relays,
    one: &mut (impl AsyncRead + AsyncWrite + Unpin),
    other: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    let (from_one, to_one) = split(one);
    let (from_other, to_other) = split(other);
    tokio::try_join!(one_way(relays, from_one, to_other), one_way(relays, from_other, to_one))?;
    Ok(())
}

/// One direction, to its end, which is passed on.
async fn one_way(
    relays: &Relays,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..len).unwrap_or(&[])).await?;
        to.flush().await?;
        relays.count(len);
    }
}
