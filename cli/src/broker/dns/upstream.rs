//! The name servers that are asked through the proxy for what is not known here, and which of them a query goes to.
//!
//! Queries go over TCP (RFC 7766), since that is what every proxy carries; one connection is kept for each server (`connection`). What
//! cannot be answered in time is a "server failure" for the program, and the cause a line for the user.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use presocks_proto::socks5::{Host, Target};
use presocks_proto::standin::{Kind, kind};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::connection::{self, Asked};
use super::framing::{Frames, framed};
use super::trouble::Trouble;
use crate::broker::report::Report;
use crate::policy::{Addressed, Policy, Upstream};
use crate::upstream::dialer::{Dialer, Outcome};
use crate::upstream::failure::Failure;
use crate::upstream::limits::Timeouts;
use crate::upstream::stream::Stream;

/// The server that is asked when neither `--dns` names one nor the program has one that can be reached from the far side. Quad9: a
/// foundation's, under a law that protects those who ask, and it checks signatures.
const DEFAULT: Target = Target { host: Host::Address(IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9))), port: 53 };

/// The longest wait for an answer, whatever `--timeout` says: no resolver waits for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most servers that are asked at a time. A resolver that begins at the root asks a dozen for a name.
const MOST_SERVERS: usize = 256;

/// Most queries that may wait for a connection to one server.
const MOST_WAITING: usize = 256;

/// The servers that are asked.
pub(in crate::broker) struct Upstreams {
    /// The one that the user has chosen, in the stead of any other.
    chosen: Option<Target>,
    timeouts: Timeouts,
    policy: Rc<Policy>,
    dialer: Rc<Dialer>,
    report: Rc<Report>,
    /// Those to which there is a connection.
    kept: RefCell<HashMap<Upstream, mpsc::Sender<Asked>>>,
}

impl Upstreams {
    pub(in crate::broker) fn new(
        chosen: Option<Target>,
        timeouts: Timeouts,
        policy: Rc<Policy>,
        dialer: Rc<Dialer>,
        report: Rc<Report>,
    ) -> Self {
        Self { chosen, timeouts, policy, dialer, report, kept: RefCell::default() }
    }

    /// From now on a query to this server makes a new connection.
    pub(super) fn forget(&self, upstream: &Upstream) {
        self.kept.borrow_mut().remove(upstream);
    }

    /// The answer of the DNS to a query that a program has sent to `server`; `None` when there is none in time.
    pub(super) async fn ask(self: &Rc<Self>, query: &[u8], server: &Addressed) -> Option<Vec<u8>> {
        let upstream = self.find(server, query)?;
        let (asked, answer) = {
            let (sender, answer) = oneshot::channel();
            (Asked::new(query.to_vec(), sender), answer)
        };
        self.hand_over(upstream, asked)?;
        let limit = self.patience();
        match timeout(limit, answer).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                self.failed(&upstream, &Trouble::Silent(limit));
                None
            }
        }
    }

    /// Tells that a server that was reached, or the way to it, gave no answer.
    pub(super) fn failed(&self, upstream: &Upstream, why: &Trouble) {
        self.report.name_server_failed(&upstream.server, &self.policy.shown(upstream), why);
    }

    /// The server to ask, and the way there; `None` when a rule denies it, which has been told.
    fn find(&self, addressed: &Addressed, query: &[u8]) -> Option<Upstream> {
        let server = self.target(addressed.server);
        let found = self
            .policy
            .upstream(server, super::subject(query).as_ref(), &addressed.program)
            .map_err(Failure::from);
        found
            .inspect_err(|denied| {
                self.report.name_server_connected(&server, "", Duration::ZERO, Some(denied))
            })
            .ok()
    }

    /// To the connection that there is, or to a new one.
    fn hand_over(self: &Rc<Self>, upstream: Upstream, asked: Asked) -> Option<()> {
        let mut upstreams = self.kept.borrow_mut();
        if let Some(kept) = upstreams.get(&upstream) {
            return kept.try_send(asked).ok();
        }
        if upstreams.len() >= MOST_SERVERS {
            return None;
        }
        let (sender, questions) = mpsc::channel(MOST_WAITING);
        sender.try_send(asked).ok()?;
        upstreams.insert(upstream, sender);
        spawn_local(connection::keep(Rc::clone(self), upstream, questions));
        Some(())
    }

    /// How long an answer is waited for.
    fn patience(&self) -> Duration {
        self.timeouts.whole.min(PATIENCE)
    }

    /// A zone, message by message, on a connection of its own. Nothing tells where it ends but its records: it is over when the program
    /// wants no more, or the server has no more to say.
    pub(in crate::broker) async fn transfer(
        &self,
        query: &[u8],
        server: &Addressed,
        messages: &mpsc::Sender<Vec<u8>>,
    ) {
        let mut has_begun = false;
        if let Some(upstream) = self.find(server, query)
            && let Ok(mut stream) = self.connect(upstream).await
            && let Some(query) = framed(query)
            && stream.write_all(&query).await.is_ok()
            && stream.flush().await.is_ok()
        {
            let mut frames = Frames::default();
            loop {
                let message = tokio::select! {
                    message = timeout(self.patience(), frames.next(&mut stream)) => message,
                    () = messages.closed() => return,
                };
                let Ok(Ok(Some(message))) = message else { break };
                has_begun = true;
                if messages.send(message).await.is_err() {
                    return;
                }
            }
        }
        if !has_begun {
            // A program that is gone needs no answer.
            let _ = messages.send(super::failure(query)).await;
        }
    }

    /// A connection to the server, as the rules have it: through a chain, or directly.
    ///
    /// # Errors
    /// That of the last attempt; it has been told.
    pub(super) async fn connect(&self, upstream: Upstream) -> Result<Stream, Failure> {
        let started = Instant::now();
        let Upstream { server, target, chain } = upstream;
        let Outcome { path, result } = match chain {
            Some(chain) => self.dialer.reach(chain, target).await,
            None => Outcome { path: self.policy.shown(&upstream), result: self.directly(&target).await },
        };
        self.report.name_server_connected(&server, &path, started.elapsed(), result.as_ref().err());
        result
    }

    /// To a server that a rule calls direct. Its name is looked up by this machine's resolver.
    async fn directly(&self, target: &Target) -> Result<Stream, Failure> {
        let attempt = async {
            match target.host {
                Host::Address(address) => TcpStream::connect((address, target.port)).await,
                Host::Name(name) => TcpStream::connect((name.to_string(), target.port)).await,
            }
        };
        let connected = timeout(self.timeouts.connect, attempt).await;
        let stream = connected.unwrap_or_else(|_| Err(Errno::TIMEDOUT.into())).map_err(Failure::Direct)?;
        Ok(Stream::Tcp(stream))
    }

    /// Which server answers in the stead of the one that the program has addressed.
    fn target(&self, server: SocketAddr) -> Target {
        if let Some(chosen) = self.chosen {
            return chosen;
        }
        let (address, port) = (server.ip().to_canonical(), server.port());
        match kind(address) {
            // dig @ns.example: the far side knows who that is.
            Kind::StandIn(index) => self
                .policy
                .names()
                .name(index)
                .map_or(DEFAULT, |name| Target { host: Host::Name(name), port }),
            Kind::Ordinary if is_public(address) => Target { host: Host::Address(address), port },
            Kind::Ordinary | Kind::Reserved => DEFAULT,
        }
    }
}

/// Is it the same host wherever one asks? The others mean something in this machine's network only, and not on the far side (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0 | 10 | 127 | 240.., ..] | [169, 254, ..] | [192, 168, ..] | [192, 0, 0 | 2, _] => false,
            [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => false,
            [100, second, ..] => second & 0xc0 != 64,
            [172, second, ..] => second & 0xf0 != 16,
            _ => !v4.is_multicast(),
        },
        // All that is given out is from 2000::/3; of that, 2001:db8::/32 and 3fff::/20 are for documentation.
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            bits >> 125 == 1
                && bits >> 96 != 0x2001_0db8
                && bits >> 108 != Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0).to_bits() >> 108
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_mean_the_same_everywhere_are_asked_on_the_far_side() {
        for public in
            ["9.9.9.9", "1.1.1.1", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.1.1.1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for public in ["2620:fe::fe", "2001:4860:4860::8888", "2606:4700:4700::1111", "3ffe::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for own in [
            "0.0.0.0",
            "10.88.0.2",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.53",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.0.1",
            "192.0.0.8",
            "192.0.2.53",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.251",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
        for own in
            ["::", "::1", "fe80::1", "fd88::2", "fc00::1", "ff02::fb", "2001:db8::1", "3fff::1", "64:ff9b::1"]
        {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
    }
}
