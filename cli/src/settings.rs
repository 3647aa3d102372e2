//! What a session needs to know, from what was configured.
//!
//! [`crate::config`] says where each thing was said; here it is parsed to its end, and the defaults come in.

use std::env;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use presocks_proto::name::Name;
use presocks_proto::session;
use presocks_proto::socks5::Target;

use crate::args::Typed;
use crate::config::{self, Isolate, Loaded, Profile, Said, Seconds, Taken, Wanted};
use crate::exit::say;
use crate::options::{Backstop, Bind, Udp};
use crate::policy;
use crate::policy::route::explain::{Limits, Question};
use crate::policy::route::{Chain, Isolation, Order, Routes};
use crate::proxy::{Host, Place, Proxy, Read};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(60);

/// How a session works.
pub(crate) struct Settings {
    /// Where connections go.
    pub(crate) routes: Routes,
    /// The addresses of the default chain's first proxy, in the order in which they are tried; empty where they are not known yet.
    pub(crate) proxy_addresses: Vec<SocketAddr>,
    /// What gets SOCKS5 credentials of its own.
    pub(crate) isolation: Option<Isolation>,
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
    /// For whom proxies listen when programs do (BIND).
    pub(crate) bind: Bind,
    /// Whether there is to be a backstop.
    pub(crate) backstop: Backstop,
    /// How much is said.
    pub(crate) talk: Talk,
    /// Variables that are not the command's to see.
    pub(crate) withheld: Vec<&'static str>,
    /// Those of them that name proxies for programs, are set, and have not configured presocks.
    pub(crate) taken: Vec<Taken>,
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
    /// The settings, and the command that is to run with them. Says what the user should know.
    ///
    /// # Errors
    /// What is missing or wrong, where, and what to do.
    pub(crate) fn new(typed: Typed) -> Result<(Self, Vec<OsString>), String> {
        let command = typed.command;
        let (mut settings, merged) = Self::configured(typed.flags, &typed.wanted)?;
        // Who says that they are to go knows it.
        if settings.talk != Talk::Quiet && merged.keep_proxy_env.is_none() {
            say_taken(&settings.taken);
        }
        let mut read = Read::new();
        for proxy in settings.routes.chains.iter_mut().flat_map(|chain| &mut chain.proxies) {
            let why = proxy.read_certificates(&mut read);
            why.map_err(|why| format!("{proxy}: {why}"))?;
        }
        // Where others may stand in for it, one that is not known is no reason not to begin.
        let is_needed = |chain: &&Chain| chain.order == Order::Strict || chain.proxies.len() == 1;
        let chain = settings.routes.chain(0).filter(is_needed);
        if let Some(first) = chain.and_then(|chain| chain.proxies.first()) {
            settings.proxy_addresses = addresses(first)?;
        }
        Ok((settings, command))
    }

    /// The settings but for what must be looked up, and what they were made of.
    fn configured(flags: Profile, wanted: &Wanted) -> Result<(Self, Profile), String> {
        let mut loaded = config::load(flags, wanted, &|name| env::var_os(name))?;
        loaded.notes.extend(unknown_variables());
        let routes = config::routes(&loaded)?;
        let Loaded { profile, notes, withheld, taken, .. } = loaded;
        let merged = profile.clone();
        let talk = talk(&profile)?;
        if talk != Talk::Quiet {
            notes.iter().for_each(|note| say(format_args!("{note}")));
        }
        let time = |said: Option<Said<Seconds>>, default| said.map_or(default, |said| said.value.0);
        let settings = Self {
            routes,
            proxy_addresses: Vec::new(),
            isolation: profile.isolate.map(|said| match said.value {
                Isolate::Process => Isolation::Process,
                Isolate::Destination => Isolation::Destination,
                Isolate::Session => Isolation::Session,
            }),
            dns: profile
                .dns
                .map(|said| config::name_server(&said.value).map_err(|why| said.fault(why)))
                .transpose()?,
            connect_timeout: time(profile.connect_timeout, CONNECT_TIMEOUT),
            handshake_timeout: time(profile.handshake_timeout, HANDSHAKE_TIMEOUT),
            timeout: time(profile.timeout, TIMEOUT),
            udp: profile.udp.map_or(Udp::Proxy, |said| said.value),
            bind: profile.bind.map(|said| said.value).unwrap_or_default(),
            backstop: profile.backstop.map_or(Backstop::Auto, |said| said.value),
            talk,
            withheld,
            taken,
        };
        Ok((settings, merged))
    }
}

/// The configuration, as `--print-config` shows it.
///
/// # Errors
/// As of [`Settings::new`].
pub(crate) fn print(typed: Typed) -> Result<String, String> {
    let (_, merged) = Settings::configured(typed.flags, &typed.wanted)?;
    config::print(merged)
}

/// Where a connection would go, as `--explain` says it.
///
/// # Errors
/// As of [`Settings::new`].
pub(crate) fn explain(typed: Typed, question: &Question) -> Result<String, String> {
    let (settings, _) = Settings::configured(typed.flags, &typed.wanted)?;
    let program = typed.command.first().map(Path::new).and_then(Path::file_name);
    let program: Vec<_> = program.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let limits =
        Limits { has_no_datagrams: settings.udp == Udp::Deny, is_isolated: settings.isolation.is_some() };
    let local = |name: &Name| policy::local(&settings.routes, name);
    Ok(question.answer(&settings.routes, &program, limits, local))
}

/// Says which variables the command does not get; exceptions alone would change nothing.
pub(crate) fn say_taken(taken: &[Taken]) {
    if taken.iter().any(Taken::names_one) {
        let names: Vec<_> = taken.iter().map(|taken| taken.name).collect();
        say(format_args!(
            "removed from the command's environment, so that it uses no proxy of its own: {} (--keep-proxy-env keeps them)",
            names.join(", ")
        ));
    }
}

/// A variable with a slip in its name would be passed over in silence.
fn unknown_variables() -> Vec<String> {
    let is_known = |name: &str| config::VARIABLES.contains(&name) || name == session::VARIABLE;
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let names = names.filter(|name| name.starts_with("PRESOCKS_") && !is_known(name));
    names.map(|name| format!("{}: presocks knows no such variable", name.escape_debug())).collect()
}

/// `quiet` and `verbose` are one setting: of both the stronger source's counts, which merging has seen to.
fn talk(profile: &Profile) -> Result<Talk, String> {
    let is = |said: &Option<Said<bool>>| said.as_ref().is_some_and(|said| said.value);
    match &profile.quiet {
        Some(quiet) if quiet.value && is(&profile.verbose) => {
            Err(quiet.fault("quiet and verbose exclude each other"))
        }
        Some(Said { value: true, .. }) => Ok(Talk::Quiet),
        _ if is(&profile.verbose) => Ok(Talk::Verbose),
        _ => Ok(Talk::Normal),
    }
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
