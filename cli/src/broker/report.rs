//! What the user reads on stderr: each cause of failure once, and with `-v` every connection.
//!
//! A line is dropped rather than waited for: a full pipe must not hold up the broker. Names and program names are escaped, credentials
//! are nowhere in reach.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use tokio_seqpacket::UnixSeqpacket;

use super::failure::Failure;
use crate::proxy::Proxy;
use crate::settings::Talk;

/// Causes that have no [`Failure`].
const DATAGRAM: u32 = u32::MAX;
const TICKET: u32 = u32::MAX - 1;

/// The session's voice.
pub(super) struct Report {
    talk: Talk,
    proxy: String,
    said: RefCell<HashSet<u32>>,
}

/// The program on whose behalf something happens: who opened the ticket.
pub(super) struct Program<'a>(pub(super) &'a UnixSeqpacket);

impl fmt::Display for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.0.peer_cred().ok().and_then(|who| who.pid()) else { return f.write_str("?") };
        match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => write!(f, "{}[{pid}]", name.trim_end().escape_debug()),
            Err(_) => write!(f, "[{pid}]"),
        }
    }
}

impl Report {
    pub(super) fn new(talk: Talk, proxy: &Proxy) -> Self {
        Self { talk, proxy: proxy.to_string(), said: RefCell::default() }
    }

    /// A connect has ended. `via_proxy` tells which way it was to go.
    pub(super) fn connected(
        &self,
        program: &Program<'_>,
        destination: &dyn fmt::Display,
        via_proxy: bool,
        took: Duration,
        result: &Result<(), Failure>,
    ) {
        let via = if via_proxy { self.proxy.as_str() } else { "direct" };
        match (self.talk, result) {
            (Talk::Verbose, Ok(())) => {
                say(format_args!("{program} {destination} via {via}: connected in {}", milliseconds(took)));
            }
            (Talk::Verbose, Err(failure)) => {
                say(format_args!(
                    "{program} {destination} via {via}: {failure}, after {}",
                    milliseconds(took)
                ));
            }
            (Talk::Normal, Err(failure)) if failure.is_news() && self.is_new(failure.cause()) => {
                say(format_args!("{destination} via {via}: {failure}"));
            }
            _ => {}
        }
    }

    /// A datagram was not let out.
    pub(super) fn datagram_refused(&self, program: &Program<'_>, destination: SocketAddr) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new(DATAGRAM) {
            say(format_args!("{program} datagram to {destination} refused: UDP is not proxied"));
        }
    }

    /// Somebody asked in a way that no shim of this session does.
    pub(super) fn refused_ticket(&self, why: &str) {
        if self.talk != Talk::Quiet && self.is_new(TICKET) {
            say(format_args!("a request to the broker was refused: {why}"));
        }
    }

    fn is_new(&self, cause: u32) -> bool {
        self.said.borrow_mut().insert(cause)
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn say(line: fmt::Arguments<'_>) {
    let stderr = std::io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut polled, Some(&now)) == Ok(1) {
        // There is nowhere to say that stderr fails. One write, so that lines of several processes do not mix.
        let _ = stderr.lock().write_all(format!("presocks: {line}\n").as_bytes());
    }
}
