//! The addresses of the names to which an association's datagrams go.
//!
//! Each name is asked for once at a time, while other datagrams go on; those to it wait, a few of them. The answer, also
//! that there is none, is kept for a minute: a datagram is no occasion to ask again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use presocks_proto::socks5::{Host, Target};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long an answer is taken for granted.
const LIFETIME: Duration = Duration::from_secs(60);
/// Names that are known or asked for at a time. Datagrams to more of them are dropped.
const MOST: usize = 4096;
/// Datagrams that wait for one answer. More are dropped, as by any full queue.
const WAITING: usize = 16;

/// All names of an association.
#[derive(Default)]
pub(super) struct Names {
    entries: HashMap<Target, Entry>,
    lookups: JoinSet<(Target, io::Result<SocketAddr>)>,
}

enum Entry {
    /// It has been asked for; these wait.
    Asked(Vec<Vec<u8>>),
    /// This is it, or it has none, until then.
    Known(Option<SocketAddr>, Instant),
}

/// An answer.
pub(super) struct Found {
    /// Name and port.
    pub(super) target: Target,
    /// Its address, or why it has none.
    pub(super) address: io::Result<SocketAddr>,
    /// The datagrams that wait for it.
    pub(super) waiting: Vec<Vec<u8>>,
}

impl Names {
    /// The address of a name if it is known, the first of several; else `payload` waits for it.
    pub(super) fn address(&mut self, target: Target, payload: &[u8]) -> Option<SocketAddr> {
        let now = Instant::now();
        match self.entries.get_mut(&target) {
            Some(Entry::Known(address, until)) if now < *until => return *address,
            Some(Entry::Asked(waiting)) => {
                if waiting.len() < WAITING {
                    waiting.push(payload.to_vec());
                }
                return None;
            }
            _ => {}
        }
        if self.entries.len() >= MOST {
            self.entries.retain(|_, entry| match entry {
                Entry::Asked(_) => true,
                Entry::Known(_, until) => now < *until,
            });
        }
        if self.entries.len() < MOST {
            self.entries.insert(target, Entry::Asked(vec![payload.to_vec()]));
            self.lookups.spawn(async move { (target, look_up(target).await) });
        }
        None
    }

    /// The next answer; `None` when nothing has been asked.
    pub(super) async fn found(&mut self) -> Option<Found> {
        // A lookup ends by itself: it is neither aborted nor does it panic.
        let (target, address) = self.lookups.join_next().await?.ok()?;
        let known = Entry::Known(address.as_ref().ok().copied(), Instant::now() + LIFETIME);
        let waiting = match self.entries.insert(target, known) {
            Some(Entry::Asked(waiting)) => waiting,
            _ => Vec::new(),
        };
        Some(Found { target, address, waiting })
    }
}

/// The first address of several.
async fn look_up(target: Target) -> io::Result<SocketAddr> {
    let host = match target.host {
        Host::Address(address) => return Ok((address, target.port).into()),
        Host::Name(name) => name,
    };
    let text = str::from_utf8(host.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut addresses = lookup_host((text, target.port)).await?;
    addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))
}
