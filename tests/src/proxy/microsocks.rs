//! microsocks, the smallest of the real servers: it reads one message at a time and hangs when more came.

use std::net::Ipv4Addr;

use super::{Upstream, program, url_at};
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, PROXY6, USER};
use crate::site::Site;

/// A running microsocks, on IPv4 and IPv6.
#[derive(Debug)]
pub struct Microsocks {
    /// The server, for its log.
    pub daemon: Daemon,
    address: Ipv4Addr,
    credentials: Option<(&'static str, &'static str)>,
    port: u16,
}

impl Microsocks {
    /// One that lets everybody in.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        Self::open_at(lab, Site::proxy_host(lab))
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    #[must_use]
    pub fn with_password(lab: &Lab) -> Self {
        Self::with_password_at(lab, Site::proxy_host(lab))
    }

    /// One that lets everybody in, elsewhere.
    #[must_use]
    pub fn open_at(lab: &Lab, site: Site<'_>) -> Self {
        Self::start(lab, site, None, 1082)
    }

    /// One that wants [`USER`] and [`PASSWORD`], elsewhere.
    #[must_use]
    pub fn with_password_at(lab: &Lab, site: Site<'_>) -> Self {
        Self::start(lab, site, Some((USER, PASSWORD)), 1083)
    }

    /// The URL of its IPv6 address.
    #[must_use]
    pub fn url6(&self) -> String {
        self.url().replace(&PROXY.to_string(), &format!("[{PROXY6}]"))
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn start(
        lab: &Lab,
        site: Site<'_>,
        credentials: Option<(&'static str, &'static str)>,
        port: u16,
    ) -> Self {
        let mut command = program("microsocks");
        command.args(["-i", "::", "-p", &port.to_string()]);
        if let Some((user, password)) = credentials {
            command.args(["-u", user, "-P", password]);
        }
        let name = site.name("microsocks", port);
        let daemon = Daemon::start(lab, site.host, &name, &mut command, site.at(port));
        site.permit(lab, port);
        Self { daemon, address: site.address, credentials, port }
    }
}

impl Upstream for Microsocks {
    fn url(&self) -> String {
        url_at(self.address, self.credentials, self.port)
    }
}
