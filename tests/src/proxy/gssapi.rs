//! A SOCKS5 server with GSSAPI (RFC 1961) and nothing else, by Python's binding of MIT's library: Debian's Dante is built without. It serves CONNECT
//! and UDP ASSOCIATE, and does wrong what it is told to.

use std::net::SocketAddr;

use super::{Upstream, program};
use crate::daemon::Daemon;
use crate::kerberos::Kerberos;
use crate::lab::{Lab, PROXY};

/// Where the first one listens; each has its port from here on.
const FIRST: u16 = 1500;

/// Where the relays of the first one are; each has a hundred ports.
const FIRST_RELAY: u16 = 25_000;

/// A running server.
#[derive(Debug)]
pub struct GssapiProxy {
    /// The server, for its log.
    pub daemon: Daemon,
    port: u16,
}

impl GssapiProxy {
    /// One that does all right.
    #[must_use]
    pub fn start(lab: &Lab, kerberos: &Kerberos) -> Self {
        Self::that(lab, kerberos, 0, "")
    }

    /// One with a habit: a word that the script knows. `number` tells it apart from others.
    #[must_use]
    pub fn that(lab: &Lab, kerberos: &Kerberos, number: u16, habit: &str) -> Self {
        let port = FIRST + number;
        let name = format!("gssapi-{port}");
        let script = lab.file("gssapi_server.py", include_str!("gssapi_server.py"));
        let relay = FIRST_RELAY + 100 * number;
        let mut command = program("/usr/bin/python3");
        command.arg(script).args([PROXY.to_string(), port.to_string(), relay.to_string(), habit.to_owned()]);
        command.env("KRB5_CONFIG", kerberos.directory().join("krb5.conf"));
        command.env("KRB5_KTNAME", kerberos.keys()).env("KRB5RCACHENAME", "none:");
        let daemon = Daemon::start(lab, &lab.proxy, &name, &mut command, SocketAddr::from((PROXY, port)));
        lab.permit_proxy_port(port);
        Self { daemon, port }
    }

    /// From now on UDP to its relays is no leak.
    pub fn permit_relays(&self, lab: &Lab) {
        let first = FIRST_RELAY + 100 * (self.port - FIRST);
        lab.permit_relay_ports(first..=first + 99);
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL with these options (`protection=integrity`).
    #[must_use]
    pub fn url_with(&self, options: &str) -> String {
        format!("{}?{options}", self.url())
    }
}

impl Upstream for GssapiProxy {
    fn url(&self) -> String {
        format!("socks5+gssapi://proxy.lab:{}", self.port)
    }
}
