//! What was typed and what stands in the environment, as one set of settings.
//!
//! Sources of the proxy, strongest first: `-p` and `--proxy-file`, `PRESOCKS_PROXY`, `ALL_PROXY`, `all_proxy`. An error names its
//! source and never quotes the URL, which may hold a password.

use std::env;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use presocks_proto::socks5::Target;

use crate::args::{Backstop, Typed, Udp};
use crate::proxy::{Host, Place, Proxy};
use crate::route::{Chain, Criteria, Isolation, Order, Routes, Rule, Verdict};

/// The environment variables that can name a proxy, strongest first. None of them reaches the command.
pub(crate) const PROXY_VARIABLES: [&str; 3] = ["PRESOCKS_PROXY", "ALL_PROXY", "all_proxy"];

/// Limit for what precedes a request to a proxy.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How a session works.
pub(crate) struct Settings {
    /// Where connections go.
    pub(crate) routes: Routes,
    /// How connections are told apart for SOCKS5 proxies.
    pub(crate) isolation: Option<Isolation>,
    /// The addresses of the default chain's first proxy, in the order in which they are tried; empty where they are not known yet.
    pub(crate) proxy_addresses: Vec<SocketAddr>,
    /// The name server that is asked through the proxy, in the stead of any other.
    pub(crate) dns: Option<Target>,
    /// Limit for the TCP connection to a chain's first proxy.
    pub(crate) connect_timeout: Duration,
    /// Limit for each of: TLS with a proxy, its greeting, the answer of one that is not a chain's last.
    pub(crate) handshake_timeout: Duration,
    /// Limit for the whole: until the last proxy has connected us to the destination.
    pub(crate) timeout: Duration,
    /// What becomes of UDP datagrams.
    pub(crate) udp: Udp,
    /// Whether there is to be a backstop.
    pub(crate) backstop: Backstop,
    /// How much is said.
    pub(crate) talk: Talk,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Nothing.
    Quiet,
    /// Each cause of failure once.
    Normal,
    /// Every connection as well.
    Verbose,
}

impl Settings {
    /// The settings, and the command that is to run with them.
    ///
    /// # Errors
    /// What is missing or wrong, where, and what to do.
    pub(crate) fn new(typed: Typed) -> Result<(Self, Vec<OsString>), String> {
        let proxy = find_proxy(&typed)?;
        let proxy_addresses = addresses(&proxy)?;
        let talk = match typed {
            Typed { quiet: true, .. } => Talk::Quiet,
            Typed { verbose: true, .. } => Talk::Verbose,
            _ => Talk::Normal,
        };
        let settings = Self {
            routes: routes(proxy, typed.direct),
            isolation: None,
            proxy_addresses,
            dns: typed.dns,
            connect_timeout: typed.connect_timeout,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            timeout: typed.timeout,
            udp: typed.udp,
            backstop: typed.backstop,
            talk,
        };
        Ok((settings, typed.command))
    }
}

fn routes(proxy: Proxy, direct: Vec<IpNet>) -> Routes {
    let chain = Chain {
        name: "proxy".into(),
        proxies: vec![proxy],
        order: Order::Strict,
        passes_over_refusals: false,
    };
    let rule = |addresses| Rule {
        criteria: Criteria { addresses, ..Criteria::default() },
        via: Verdict::Direct,
        source: "--direct".into(),
    };
    let rules = if direct.is_empty() { Vec::new() } else { vec![rule(direct)] };
    Routes { chains: vec![chain], rules, fallback: Verdict::Chain(0), rewrites: Vec::new() }
}

fn find_proxy(typed: &Typed) -> Result<Proxy, String> {
    if let Some(url) = &typed.proxy {
        return Proxy::parse(url).map_err(|why| format!("the proxy of -p: {why}"));
    }
    if let Some(file) = &typed.proxy_file {
        return read_proxy(file).map_err(|why| format!("the proxy in {}: {why}", file.display()));
    }
    for variable in PROXY_VARIABLES {
        let Some(url) = env::var_os(variable).filter(|url| !url.is_empty()) else {
            continue;
        };
        let url = url.to_str().ok_or_else(|| format!("the proxy of {variable}: it is not UTF-8"))?;
        return Proxy::parse(url).map_err(|why| format!("the proxy of {variable}: {why}"));
    }
    Err("no proxy is configured, so the command was not run. Name one in one of three ways:\n  \
         presocks -p socks5://HOST:PORT COMMAND\n  \
         presocks --proxy-file FILE COMMAND     (the URL is FILE's first line)\n  \
         PRESOCKS_PROXY=socks5://HOST:PORT presocks COMMAND     (or ALL_PROXY)"
        .into())
}

fn read_proxy(file: &Path) -> Result<Proxy, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let text = zeroize::Zeroizing::new(text);
    Proxy::parse(text.lines().next().unwrap_or_default().trim())
}

/// A proxy's name is resolved here, once, by this machine's resolver: the one look-up that is not the proxy's to make. None for a proxy at a
/// Unix socket.
fn addresses(proxy: &Proxy) -> Result<Vec<SocketAddr>, String> {
    let (name, port) = match proxy.place() {
        Place::Unix(_) => return Ok(Vec::new()),
        Place::Tcp(Host::Address(address), port) => return Ok(vec![SocketAddr::new(*address, *port)]),
        Place::Tcp(Host::Name(name), port) => (name, *port),
    };
    let found: Vec<_> = (name.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| format!("the proxy's name \"{name}\" cannot be resolved here: {error}"))?
        .collect();
    if found.is_empty() {
        return Err(format!("the proxy's name \"{name}\" has no address"));
    }
    Ok(found)
}
