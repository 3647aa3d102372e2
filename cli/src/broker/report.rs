//! What the user reads on stderr: each cause of failure once, and with `-v` every connection.
//!
//! A line is dropped rather than waited for: a full pipe or a stopped terminal must not hold up the broker. stderr is shared with the
//! command, so it cannot be made non-blocking, and poll(2) does not tell how much it takes: a thread of its own writes, and only it
//! waits. Names and program names are escaped, credentials are nowhere in reach.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::datagram::refusal::Refusal;
use super::dns::trouble::Trouble;
use super::program::Program;
use crate::proxy::Proxy;
use crate::settings::Talk;
use crate::upstream::failure::Failure;
use crate::upstream::plain::Plain;
use presocks_proto::socks5::Target;
use presocks_proto::socks5::datagram::Malformed;

/// Causes that have no [`Failure`].
const TICKET: u32 = u32::MAX;
const TARGET: u32 = u32::MAX - 1;
const LISTENER: u32 = u32::MAX - 2;
const FILTER: u32 = u32::MAX - 3;
const SUPERVISOR: u32 = u32::MAX - 4;
const OTHER_PROXY: u32 = u32::MAX - 5;
const LISTENER_SOURCE: u32 = u32::MAX - 6;
/// Of no association, with the chain's and the failure's own numbers.
const ASSOCIATION: u32 = 0x1000_0000;

/// Lines that may wait for stderr to take them; more are dropped.
const MOST_WAITING: usize = 1024;

/// How long the broker holds still for one line. Only the first that does not come out costs it.
const MOMENT: Duration = Duration::from_millis(20);

/// How long a line may hold up the end of the command, and all of them: the front does not wait for ever (`launch/front.rs`).
const LAST_LINE: Duration = Duration::from_secs(1);
const LAST_LINES: Duration = Duration::from_secs(2);

/// The writing thread's stack.
const STACK: usize = 64 * 1024;

/// The session's voice.
pub(super) struct Report {
    talk: Talk,
    said: RefCell<HashSet<(String, u32)>>,
    voice: RefCell<Voice>,
}

/// Which way a connection was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via<'a> {
    /// By these proxies.
    Chain(&'a str),
    Direct,
    /// No further than our own name server.
    Resolver,
    /// A stand-in that stands for nothing, or a rule that denies it.
    Nowhere,
}

impl Report {
    pub(super) fn new(talk: Talk) -> Self {
        Self { talk, said: RefCell::default(), voice: RefCell::new(Voice::Unused) }
    }

    /// A connect has ended.
    pub(super) fn connected(
        &self,
        program: &Program<'_>,
        destination: &dyn fmt::Display,
        via: Via<'_>,
        took: Duration,
        result: Result<(), &Failure>,
    ) {
        let via = match via {
            Via::Chain(path) => format!(" via {path}"),
            Via::Direct => " via direct".into(),
            Via::Resolver => " via presocks' name server".into(),
            Via::Nowhere => String::new(),
        };
        match (self.talk, result) {
            (Talk::Verbose, Ok(())) => {
                self.say(format_args!("{program} {destination}{via}: connected in {}", milliseconds(took)));
            }
            (Talk::Verbose, Err(failure)) => {
                self.say(format_args!(
                    "{program} {destination}{via}: {failure}, after {}",
                    milliseconds(took)
                ));
            }
            (Talk::Normal, Err(failure))
                if failure.is_news() && self.is_new_of(failure.proxy().unwrap_or(&via), failure.cause()) =>
            {
                self.say(format_args!("{destination}{via}: {failure}"));
            }
            _ => {}
        }
    }

    /// A program connects to a proxy, as if it had been told to use that.
    pub(super) fn connects_to_a_proxy(
        &self,
        program: &Program<'_>,
        target: &Target,
        whose: &dyn fmt::Display,
    ) {
        if self.talk != Talk::Quiet && self.is_new_of(&target.to_string(), OTHER_PROXY) {
            self.say(format_args!(
                "{program} connects to {target}, {whose}: it seems to have a proxy setting of its own (git config, .npmrc, \
                 pip.conf, .wgetrc, …); under presocks it needs none"
            ));
        }
    }

    /// A proxy was asked to listen for somebody (BIND).
    pub(super) fn listening(
        &self,
        program: &Program<'_>,
        peer: &Target,
        path: &str,
        took: Duration,
        result: Result<SocketAddr, &Failure>,
    ) {
        let took = milliseconds(took);
        match (self.talk, result) {
            (Talk::Verbose, Ok(at)) => {
                self.say(format_args!("{program} listening for {peer} via {path}: at {at} after {took}"));
            }
            (Talk::Verbose, Err(failure)) => {
                self.say(format_args!("{program} listening for {peer} via {path}: {failure}, after {took}"));
            }
            (Talk::Normal, Err(failure)) if self.is_new_of(&listening(path), failure.cause()) => {
                self.say(format_args!("listening for {peer} via {path}: {failure}"));
            }
            _ => {}
        }
    }

    /// A proxy listens, and the program's own listener cannot be kept from the network.
    pub(super) fn not_set_apart(&self, program: &Program<'_>, error: &io::Error) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new(LISTENER) {
            let error = Plain(error);
            self.say(format_args!(
                "{program} does not listen: its socket cannot be kept from the network: {error}"
            ));
        }
    }

    /// A program's listener is bound where nobody is brought to.
    pub(super) fn cannot_be_brought(&self, program: &Program<'_>, own: IpAddr) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new(LISTENER_SOURCE) {
            self.say(format_args!(
                "{program} does not listen: it has bound its socket to {own} and a port: once that address has left this machine, so would what the proxy brings"
            ));
        }
    }

    /// A proxy listens no more, and nobody has come.
    pub(super) fn nobody_came(&self, peer: &Target, path: &str, failure: &Failure) {
        let is_told = match self.talk {
            Talk::Verbose => true,
            Talk::Normal => self.is_new_of(&listening(path), failure.cause()),
            Talk::Quiet => false,
        };
        if is_told {
            self.say(format_args!("listening for {peer} via {path}: nobody has come: {failure}"));
        }
    }

    /// Somebody has come to where a proxy listens.
    pub(super) fn somebody_came(&self, peer: &dyn fmt::Display, at: SocketAddr, path: &str) {
        if self.talk == Talk::Verbose {
            self.say(format_args!("connection from {peer} to {at} via {path}"));
        }
    }

    /// A proxy of a chain fails, and there are others.
    pub(super) fn passed_over(&self, proxy: &Proxy, failure: &Failure) {
        let proxy = proxy.to_string();
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new_of(&proxy, failure.cause())
        {
            self.say(format_args!("going on without {proxy}: {failure}"));
        }
    }

    /// An attempt to reach a name server has ended. `path`: how it was to be reached; empty when not at all.
    pub(super) fn name_server_connected(
        &self,
        server: &Target,
        path: &str,
        took: Duration,
        failure: Option<&Failure>,
    ) {
        let (via, took) = (via(path), milliseconds(took));
        match (self.talk, failure) {
            (Talk::Verbose, None) => {
                self.say(format_args!("name server {server}{via}: connected in {took}"));
            }
            (Talk::Verbose, Some(failure)) => {
                self.say(format_args!("name server {server}{via}: {failure}, after {took}"));
            }
            (Talk::Normal, Some(failure))
                if self.is_new_of(failure.proxy().unwrap_or(path), failure.cause()) =>
            {
                self.say(format_args!("name server {server}{via}: {failure}"));
            }
            _ => {}
        }
    }

    /// A name server was reached, and did not answer a query.
    pub(super) fn name_server_failed(&self, server: &Target, path: &str, why: &Trouble) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new(why.cause()) {
            self.say(format_args!("name server {server}{}: {why}", via(path)));
        }
    }

    /// A datagram was not let out.
    pub(super) fn datagram_refused(
        &self,
        program: &Program<'_>,
        destination: &dyn fmt::Display,
        why: &Refusal,
    ) {
        let is_told = match self.talk {
            Talk::Verbose => true,
            Talk::Normal => *why != Refusal::NotServed && self.is_new(why.cause()),
            Talk::Quiet => false,
        };
        if is_told {
            self.say(format_args!("{program} datagram to {destination} refused: {why}"));
        }
    }

    /// A chain takes no datagrams, or not now.
    pub(super) fn no_association(&self, chain: usize, shown: &str, failure: &Failure) {
        const OF_A_CHAIN: u32 = 0x1_0000;
        let chain = u32::try_from(chain).unwrap_or_default().wrapping_mul(OF_A_CHAIN);
        let is_told = match self.talk {
            Talk::Verbose => true,
            Talk::Normal => self.is_new(ASSOCIATION.wrapping_add(chain).wrapping_add(failure.cause())),
            Talk::Quiet => false,
        };
        if is_told {
            let hint = if failure.is_of_the_proxy() { " (not every SOCKS5 proxy serves UDP)" } else { "" };
            self.say(format_args!("datagrams via {shown}: {failure}{hint}"));
        }
    }

    /// The proxy has sent a datagram that nobody can be given.
    pub(super) fn datagram_dropped(&self, proxy: &str, why: &Malformed) {
        if self.talk == Talk::Verbose {
            match why {
                Malformed::Fragment(number) => {
                    self.say(format_args!("a datagram from {proxy} was dropped: fragment {number}"));
                }
                Malformed::NoHeader => {
                    self.say(format_args!("a datagram from {proxy} was dropped: its header cannot be read"));
                }
            }
        }
    }

    /// A caught call cannot be judged.
    pub(super) fn not_looked_into(&self, program: &Program<'_>, error: &io::Error) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new(TARGET) {
            self.say(format_args!(
                "{program} cannot be looked into ({error}): calls that the shim does not see are refused to it"
            ));
        }
    }

    /// No caught call is answered any more.
    pub(super) fn listener_failed(&self, error: &io::Error) {
        if self.talk != Talk::Quiet {
            self.say(format_args!(
                "the backstop has ended ({error}): calls that the shim does not see are refused"
            ));
        }
    }

    /// A process was ended by SIGSYS: by a filter that is not ours, which ends nobody. The backstop alone makes no calls in the program.
    pub(super) fn killed_by_filter(&self, process: i32, name: &str, has_backstop: bool) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new_of(name, FILTER) {
            let way = if has_backstop {
                ", or have the backstop alone serve it (presocks env -u LD_PRELOAD …)"
            } else {
                ""
            };
            self.say(format_args!(
                "{}[{process}] was killed by a seccomp filter, its own or one around it (SIGSYS), at a call that may be one of \
                 presocks' in it: turn its sandbox off{way}",
                name.escape_debug()
            ));
        }
    }

    /// A program wants to supervise another, which the backstop does already.
    pub(super) fn has_no_listener(&self, program: &Program<'_>) {
        if self.talk == Talk::Verbose || self.talk == Talk::Normal && self.is_new(SUPERVISOR) {
            self.say(format_args!(
                "{program} asks for a seccomp listener of its own, and the kernel permits one, which is the backstop's (EBUSY): with \
                 --backstop=off it can have one, and what the shim does not see connects directly then"
            ));
        }
    }

    /// Somebody asked in a way that no shim of this session does.
    pub(super) fn refused_ticket(&self, why: &str) {
        if self.talk != Talk::Quiet && self.is_new(TICKET) {
            self.say(format_args!("a request to the broker was refused: {why}"));
        }
    }

    /// The command has ended: what has been said comes out, unless nobody reads it. Nothing is said after this.
    pub(super) fn finish(&self) {
        if let Voice::Writing(mut writer) = self.voice.replace(Voice::Over) {
            let until = Instant::now() + LAST_LINES;
            while writer.waiting > 0 && Instant::now() < until && writer.wait(LAST_LINE) {}
        }
    }

    fn say(&self, line: fmt::Arguments<'_>) {
        self.voice.borrow_mut().say(line);
    }

    fn is_new(&self, cause: u32) -> bool {
        self.is_new_of("", cause)
    }

    /// As [`Report::is_new`], for a cause that may be that of several.
    fn is_new_of(&self, whom: &str, cause: u32) -> bool {
        self.said.borrow_mut().insert((whom.to_owned(), cause))
    }
}

fn via(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" via {path}") }
}

/// What is said of a proxy that is to listen is not what is said of one that is to connect.
fn listening(path: &str) -> String {
    format!("listening{}", via(path))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// What writes the lines.
enum Voice {
    /// Nothing has been said: most sessions need no thread.
    Unused,
    Writing(Writer),
    /// The broker has let go of stderr, or there is no thread to be had.
    Over,
}

impl Voice {
    fn say(&mut self, line: fmt::Arguments<'_>) {
        if matches!(self, Self::Unused) {
            *self = Writer::start().map_or(Self::Over, Self::Writing);
        }
        if let Self::Writing(writer) = self {
            writer.say(format!("presocks: {line}\n"));
        }
    }
}

/// A thread, and how many lines it has yet to write.
struct Writer {
    lines: SyncSender<String>,
    /// One item for each line that is out.
    written: Receiver<()>,
    waiting: usize,
}

impl Writer {
    fn start() -> io::Result<Self> {
        let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (lines, to_write) = sync_channel::<String>(MOST_WAITING);
        let (is_out, written) = channel();
        thread::Builder::new().name("presocks-stderr".into()).stack_size(STACK).spawn(move || {
            for line in to_write {
                // There is nowhere to say that stderr fails. One write, so that lines of several processes do not mix.
                let _ = stderr.write_all(line.as_bytes());
                if is_out.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { lines, written, waiting: 0 })
    }

    /// As long as stderr keeps up, the line is out before this returns, and so before the program's own complaint.
    fn say(&mut self, line: String) {
        while self.written.try_recv().is_ok() {
            self.waiting -= 1;
        }
        let keeps_up = self.waiting == 0;
        if self.lines.try_send(line).is_err() {
            return;
        }
        self.waiting += 1;
        if keeps_up {
            self.wait(MOMENT);
        }
    }

    /// Waits for one line; false when it did not come out in time.
    fn wait(&mut self, limit: Duration) -> bool {
        let is_out = self.written.recv_timeout(limit).is_ok();
        self.waiting -= usize::from(is_out);
        is_out
    }
}
