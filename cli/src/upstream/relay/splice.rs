//! Bytes that go on as they have come: the kernel moves them by way of a pipe (splice(2)), and none comes to us.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;

use super::Relays;
use super::side::{Broken, Side, receive_now, until_both_end};

/// Bytes that one call moves at most: what a pipe holds (pipe(7)).
const MOST: usize = 64 * 1024;

/// Bytes that are taken at a time where splice(2) does not get on.
const FEW: usize = 4096;

/// Until both sides have ended.
///
/// # Errors
/// Those of either side; of pipe(2).
pub(super) async fn both_ways(relays: &Relays, one: &impl Side, other: &impl Side) -> io::Result<()> {
    let (there, back) = (one_way(relays, one, other), one_way(relays, other, one));
    until_both_end(there, back, one.broken(), other.broken()).await
}

/// One direction, to its end, which is passed on.
async fn one_way(relays: &Relays, from: &impl Side, to: &impl Side) -> Result<(), Broken> {
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    let pipe = pipe.map_err(|error| Broken::Reading(error.into()))?;
    loop {
        let taken = from.when(Interest::READABLE, || take(from, &pipe.1)).await.map_err(Broken::Reading)?;
        match taken {
            Taken::End => return to.end().map_err(Broken::Writing),
            Taken::Few(bytes) => {
                relays.count(bytes.len());
                to.send_all(&bytes).await.map_err(Broken::Writing)?;
            }
            // All of it goes out before more comes in: so a pipe that takes nothing is never the reason why nothing comes.
            Taken::Inside(mut inside) => {
                relays.count(inside);
                while inside > 0 {
                    let out = to.when(Interest::WRITABLE, || moved(&pipe.0, to)).await;
                    inside -= out.map_err(Broken::Writing)?;
                }
            }
        }
    }
}

/// What has come.
enum Taken {
    /// So many bytes, which are in the pipe.
    Inside(usize),
    Few(Vec<u8>),
    End,
}

/// splice(2) does not get by an urgent byte, and takes it for the end: so what it finds nothing of is looked at once more.
fn take(from: &impl AsFd, pipe: &impl AsFd) -> io::Result<Taken> {
    match moved(from, pipe) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        result => return result.map(Taken::Inside),
    }
    let mut room = [0; FEW];
    let len = receive_now(from, &mut room)?;
    Ok(if len == 0 { Taken::End } else { Taken::Few(room.iter().take(len).copied().collect()) })
}

fn moved(from: &impl AsFd, to: &impl AsFd) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match splice(from, None, to, None, MOST, flags) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
