//! `presocks --demo`: the main job, done and shown on this machine alone.
//!
//! A SOCKS5 server on loopback knows a name that no one else does, and an origin with a page behind that name. A program
//! that knows nothing of proxies is run under presocks and asked for the page. The demo succeeds only if the proxy was
//! asked for the name, the origin was reached from the proxy, and the program got the very page that the origin sent, from a
//! stand-in as it believes; whatever is missing is said. It needs no network, and changes nothing on the machine.

pub(crate) mod client;
mod origin;
mod program;

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use presocks_proto::standin;

use self::origin::{Origin, Visit};
use self::program::{Output, Program};
use crate::serve::{Request, Server};

/// A name that nobody else can have (RFC 6761 section 6.2).
const HOST: &str = "hello.presocks.test";
const PORT: u16 = 80;
const URL: &str = "http://hello.presocks.test/";
/// What the program says of the address that it was connected to, on a line after the page.
const CONNECTED_TO: &str = "connected to ";
/// How much longer than the program the system's resolver may take.
const RESOLVER_LIMIT: Duration = Duration::from_secs(2);

/// Runs the demo and tells about it on stdout.
///
/// # Errors
/// One sentence, when the page did not come through the proxy by its name.
pub(crate) fn run() -> Result<(), String> {
    let origin =
        Origin::start(HOST).map_err(|error| format!("cannot start an origin on loopback: {error}"))?;
    let server = Server::bind("127.0.0.1:0")?.knowing(HOST, PORT, origin.address);
    let proxy = server.address();
    let (sender, requests) = mpsc::channel();
    start("proxy", move || {
        server.run(move |request| drop(sender.send(request)));
    })?;
    let system = ask_the_system()?;

    let program = Program::choose(proxy)?;
    tell(format_args!(
        "A page behind a name that only a proxy knows, fetched by a program that knows nothing of proxies.\n"
    ))?;
    tell(format_args!("  name      {HOST}"))?;
    tell(format_args!("  proxy     {proxy}, a SOCKS5 server inside this demo"))?;
    tell(format_args!("  origin    {}, known by that name to the proxy only", origin.address))?;
    tell(format_args!("  command   {program}\n"))?;

    let started = Instant::now();
    let output = program.run()?;
    let elapsed = started.elapsed();

    let story = Story {
        system: system.recv_timeout(RESOLVER_LIMIT).ok(),
        requests: requests.try_iter().collect(),
        visits: origin.visits.try_iter().collect(),
        output,
        elapsed,
    };
    tell(format_args!("{story}"))?;
    story.verdict().map_err(|why| format!("the demo failed: {why}"))?;
    tell(format_args!("It works: the name, the connection and the page went through the proxy."))
}

/// All that happened, as each side saw it.
struct Story {
    /// What the system's own resolver makes of the name; `None` while it is still thinking.
    system: Option<io::Result<Vec<IpAddr>>>,
    requests: Vec<Request>,
    visits: Vec<Visit>,
    output: Output,
    elapsed: Duration,
}

impl Story {
    /// # Errors
    /// The first link of the chain that is missing.
    fn verdict(&self) -> Result<(), String> {
        if !self.output.status.success() {
            return Err(format!("the command failed: {}", self.output.status));
        }
        let asked = format!("{HOST}:{PORT}");
        let Some(request) = self.requests.iter().find(|request| request.target.as_ref() == Some(&asked))
        else {
            return Err(format!("the proxy was never asked for {asked}"));
        };
        let near_end =
            request.outcome.as_ref().map_err(|why| format!("the proxy did not reach the origin: {why}"))?;
        let Some(visit) = self.visits.iter().find(|visit| visit.from == *near_end) else {
            return Err("the proxy's connection never reached the origin".to_owned());
        };
        let (page, address) = self.page_and_address();
        if page != visit.page {
            return Err("the page that the program got is not the one that the origin sent".to_owned());
        }
        match address {
            Some(address) if is_stand_in(address) => Ok(()),
            Some(address) => Err(format!("the program knew of the proxy: it was connected to {address}")),
            None => Err("the program did not say which address it was connected to".to_owned()),
        }
    }

    /// The page, and the address that the program believes it was connected to.
    fn page_and_address(&self) -> (&str, Option<IpAddr>) {
        let text = self.output.text.as_str();
        match text.rsplit_once(CONNECTED_TO) {
            Some((page, address)) => (page, address.trim().parse().ok()),
            None => (text, None),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system {
            Some(Err(_)) => writeln!(f, "  resolver  the system's own does not know the name")?,
            Some(Ok(addresses)) => {
                writeln!(f, "  resolver  the system's own says {addresses:?}: it seems to know every name")?
            }
            None => writeln!(f, "  resolver  the system's own has no answer for the name")?,
        }
        let (page, address) = self.page_and_address();
        if let Some(address) = address {
            let what = if is_stand_in(address) { "the stand-in for the name" } else { "no stand-in" };
            writeln!(f, "  program   was connected to {address}, as far as it knows: {what}")?;
        }
        for request in &self.requests {
            let target = request.target.as_deref().unwrap_or("nothing");
            match &request.outcome {
                Ok(near_end) => writeln!(f, "  proxy     was asked for {target}, connected from {near_end}")?,
                Err(why) => writeln!(f, "  proxy     was asked for {target}: {why}")?,
            }
        }
        for visit in &self.visits {
            writeln!(f, "  origin    was asked \"{}\" by {}", visit.request, visit.from)?;
        }
        writeln!(f, "  time      {} ms from the start of presocks to its end", self.elapsed.as_millis())?;
        for line in page.lines() {
            writeln!(f, "  page      {}", line.escape_debug())?;
        }
        Ok(())
    }
}

fn is_stand_in(address: IpAddr) -> bool {
    matches!(standin::kind(address), standin::Kind::StandIn(_))
}

/// Asks the system's own resolver for the name, meanwhile: with no network it may think for long.
fn ask_the_system() -> Result<Receiver<io::Result<Vec<IpAddr>>>, String> {
    let (sender, receiver) = mpsc::channel();
    start("resolver", move || {
        let answer = (HOST, PORT).to_socket_addrs();
        drop(
            sender.send(answer.map(|addresses| addresses.map(|address| SocketAddr::ip(&address)).collect())),
        );
    })?;
    Ok(receiver)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    match thread::Builder::new().name(name.to_owned()).spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot start a thread: {error}")),
    }
}

/// A line on stdout.
fn tell(line: fmt::Arguments<'_>) -> Result<(), String> {
    writeln!(io::stdout(), "{line}").map_err(|error| format!("cannot write to stdout: {error}"))
}
