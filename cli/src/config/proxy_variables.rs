//! The variables by which programs are told of a proxy: `https_proxy` and its kin.
//!
//! Under presocks they lead astray: a program that follows one connects to that proxy instead of its destination, directly if the proxy is
//! at loopback. So they are taken from the command's environment, unless the user keeps them. presocks itself reads them where it is
//! told to (`-p env`), and `ALL_PROXY` where nothing else names a proxy.

use presocks_abi::socket::is_loopback;
use presocks_proto::target::{Host, Target};

use super::environment::{Environment, NO_PROXY};
use super::place::{Place, Said};
use crate::proxy::Proxy;

/// Taken from the command's environment. Each scheme's own (curl(1), wget(1), rsync(1), Python's urllib), both cases; those of gRPC, npm,
/// pip and cargo.
pub(crate) const TAKEN: [&str; 26] = [
    "all_proxy",
    "ALL_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "ftp_proxy",
    "FTP_PROXY",
    "rsync_proxy",
    "RSYNC_PROXY",
    "socks_proxy",
    "SOCKS_PROXY",
    "ws_proxy",
    "WS_PROXY",
    "wss_proxy",
    "WSS_PROXY",
    "grpc_proxy",
    "GRPC_PROXY",
    "npm_config_proxy",
    "NPM_CONFIG_PROXY",
    "npm_config_https_proxy",
    "NPM_CONFIG_HTTPS_PROXY",
    "PIP_PROXY",
    "CARGO_HTTP_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// What `-p` takes for the proxy of the environment.
pub(super) const WORD: &str = "env";

/// Why there is none.
pub(super) const NONE: &str =
    "no variable names a proxy: set all_proxy, https_proxy or http_proxy, in small letters or capitals";

/// Read without being asked for, where nothing else names a proxy. curl, too, has the lower case first.
const ALL: [&str; 2] = ["all_proxy", "ALL_PROXY"];

/// Read for `-p env`, the first that is set. What is for FTP or rsync alone may be a proxy of another kind.
const READ: [&str; 6] = ["all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", HTTP_PROXY];

/// In a CGI program a client sets it by a header `Proxy:`; so curl does not read it, and Go and Python do not there (CVE-2016-5385).
const HTTP_PROXY: &str = "HTTP_PROXY";
const CGI: &str = "REQUEST_METHOD";

/// A variable that has been taken from the command.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) name: &'static str,
    /// Where the proxy is that it names, if that can be read.
    pub(crate) proxy: Option<Target>,
}

/// The variable that says what the proxy is without being asked for.
pub(super) fn all_proxy(environment: &Environment<'_>) -> Option<&'static str> {
    ALL.into_iter().find(|name| environment.path(name).is_some())
}

/// The variable that `-p env` takes.
pub(super) fn chosen(environment: &Environment<'_>) -> Option<&'static str> {
    let may = |name: &&str| *name != HTTP_PROXY || environment.path(CGI).is_none();
    READ.into_iter().filter(may).find(|name| environment.path(name).is_some())
}

/// The variable's proxy as a URL. Without a scheme it is an HTTP proxy, as for curl.
///
/// # Errors
/// The variable is not UTF-8.
pub(super) fn url(environment: &Environment<'_>, name: &'static str) -> Result<Said<String>, String> {
    let value = environment.value(name)?.unwrap_or_default();
    let value = value.trim();
    let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    Ok(Said::new(url, &Place::Named(name.into())))
}

impl Taken {
    /// Does it name a proxy, rather than exceptions?
    pub(crate) fn names_one(&self) -> bool {
        !NO_PROXY.contains(&self.name)
    }

    /// Is that at loopback, where programs connect to it directly?
    pub(crate) fn is_at_loopback(&self) -> bool {
        self.proxy.is_some_and(|at| match at.host {
            Host::Address(address) => is_loopback(address),
            Host::Name(name) => name.is_localhost(),
        })
    }
}

/// Those that are set and are not the command's to see, but for those by which presocks itself has been configured.
pub(super) fn taken(environment: &Environment<'_>, used: &[&'static str]) -> Vec<Taken> {
    let is_set = |name: &&str| environment.path(name).is_some() && !used.contains(name);
    let proxy = |name| {
        let url = url(environment, name).ok().filter(|_| !NO_PROXY.contains(&name))?;
        Proxy::parse(&url.value).ok()?.as_target()
    };
    TAKEN.into_iter().filter(is_set).map(|name| Taken { name, proxy: proxy(name) }).collect()
}
