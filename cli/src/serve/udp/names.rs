//! The addresses of the names to which an association's datagrams go.
//!
//! Each name is asked for once at a time, while other datagrams go on; those to it wait, a few of them. The answer, also
//! that there is none, is kept for a minute: a datagram is no occasion to ask again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A name and a port.
pub(super) type Place = (String, u16);

/// How long an answer is taken for granted.
const LIFETIME: Duration = Duration::from_secs(60);
/// Names that are known or asked for at a time. Datagrams to more of them are dropped.
const MOST: usize = 4096;
/// Datagrams that wait for one answer. More are dropped, as by any full queue.
const WAITING: usize = 16;

/// All names of an association.
#[derive(Default)]
pub(super) struct Names {
    entries: HashMap<Place, Entry>,
    lookups: JoinSet<(Place, io::Result<SocketAddr>)>,
}

enum Entry {
    /// It has been asked for; these wait.
    Asked(Vec<Vec<u8>>),
    /// This is it, or it has none, until then.
    Known(Option<SocketAddr>, Instant),
}

/// An answer.
pub(super) enum Found {
    /// Where these datagrams go.
    Address(SocketAddr, Vec<Vec<u8>>),
    /// There is none, and why.
    Nothing(Place, io::Error),
}

impl Names {
    /// The address of a name if it is known, the first of several; else `payload` waits for it.
    pub(super) fn address(&mut self, name: &str, port: u16, payload: &[u8]) -> Option<SocketAddr> {
        let place = (name.to_ascii_lowercase(), port);
        let now = Instant::now();
        match self.entries.get_mut(&place) {
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
            self.entries.insert(place.clone(), Entry::Asked(vec![payload.to_vec()]));
            self.lookups.spawn(async move {
                let found = lookup_host((place.0.as_str(), place.1)).await;
                let nothing = || io::Error::new(io::ErrorKind::NotFound, "it has no address");
                let first = found.and_then(|mut addresses| addresses.next().ok_or_else(nothing));
                (place, first)
            });
        }
        None
    }

    /// The next answer; `None` when nothing has been asked.
    pub(super) async fn found(&mut self) -> Option<Found> {
        // A lookup ends by itself: it is neither aborted nor does it panic.
        let (place, found) = self.lookups.join_next().await?.ok()?;
        let known = Entry::Known(found.as_ref().ok().copied(), Instant::now() + LIFETIME);
        let waiting = match self.entries.insert(place.clone(), known) {
            Some(Entry::Asked(waiting)) => waiting,
            _ => Vec::new(),
        };
        Some(match found {
            Ok(address) => Found::Address(address, waiting),
            Err(error) => Found::Nothing(place, error),
        })
    }
}
