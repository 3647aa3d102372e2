//! tinyproxy: HTTP CONNECT, with no authentication or with a user's password (RFC 7617). It carries nothing else here.

use std::net::Ipv4Addr;

use super::{Upstream, of_kind, program, url_at};
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, PROXY6, USER};
use crate::site::Site;

/// A running tinyproxy, on IPv4 and IPv6.
#[derive(Debug)]
pub struct Tinyproxy {
    /// The server, for its log.
    pub daemon: Daemon,
    address: Ipv4Addr,
    credentials: Option<(&'static str, &'static str)>,
    port: u16,
}

impl Tinyproxy {
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
        Self::start(lab, site, None, 8888)
    }

    /// One that wants [`USER`] and [`PASSWORD`], elsewhere.
    #[must_use]
    pub fn with_password_at(lab: &Lab, site: Site<'_>) -> Self {
        Self::start(lab, site, Some((USER, PASSWORD)), 8889)
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its IPv6 address.
    #[must_use]
    pub fn url6(&self) -> String {
        self.url().replace(&PROXY.to_string(), &format!("[{PROXY6}]"))
    }

    /// The URL without its credentials.
    #[must_use]
    pub fn bare_url(&self) -> String {
        of_kind("http", &url_at(self.address, None, self.port))
    }

    fn start(
        lab: &Lab,
        site: Site<'_>,
        credentials: Option<(&'static str, &'static str)>,
        port: u16,
    ) -> Self {
        let mut configuration = format!("Port {port}\nListen {}\nTimeout 60\n", site.address);
        if site.address == PROXY {
            configuration += &format!("Listen {PROXY6}\n");
        }
        if let Some((user, password)) = credentials {
            configuration += &format!("BasicAuth {user} {password}\n");
        }
        let name = site.name("tinyproxy", port);
        let file = lab.file(&format!("{name}.conf"), configuration);
        let mut command = program("tinyproxy");
        command.arg("-d").arg("-c").arg(file);
        let daemon = Daemon::start(lab, site.host, &name, &mut command, site.at(port));
        site.permit(lab, port);
        Self { daemon, address: site.address, credentials, port }
    }
}

impl Upstream for Tinyproxy {
    fn url(&self) -> String {
        of_kind("http", &url_at(self.address, self.credentials, self.port))
    }
}
