//! Dante, the strictest of the real servers: with no authentication, or with a user's password (RFC 1929). It relays UDP.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::{Upstream, program, url_at};
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, USER};
use crate::site::Site;

/// What makes one different from another in its configuration.
struct Terms {
    /// What its rules allow.
    commands: &'static str,
    /// Further lines.
    more: &'static str,
}

const USUAL: Terms = Terms { commands: "bind bindreply connect udpassociate udpreply", more: "" };

/// A running danted.
#[derive(Debug)]
pub struct Dante {
    /// The server, for its log.
    pub daemon: Daemon,
    address: Ipv4Addr,
    credentials: Option<(&'static str, &'static str)>,
    port: u16,
}

impl Dante {
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
        Self::start(lab, site, None, 1080, USUAL)
    }

    /// One that wants [`USER`] and [`PASSWORD`], elsewhere.
    #[must_use]
    pub fn with_password_at(lab: &Lab, site: Site<'_>) -> Self {
        Self::start(lab, site, Some((USER, PASSWORD)), 1081, USUAL)
    }

    /// The same, but its rules allow nothing but CONNECT.
    #[must_use]
    pub fn connecting_only(lab: &Lab) -> Self {
        let terms = Terms { commands: "connect", ..USUAL };
        Self::start(lab, Site::proxy_host(lab), Some((USER, PASSWORD)), 1086, terms)
    }

    /// The same, but whoever comes is let in where a BIND names nobody.
    #[must_use]
    pub fn listening_for_anybody(lab: &Lab) -> Self {
        let terms = Terms { more: "extension: bind\n", ..USUAL };
        Self::start(lab, Site::proxy_host(lab), Some((USER, PASSWORD)), 1081, terms)
    }

    /// One that wants [`USER`] and [`PASSWORD`], and connects from the port from which its client came, if it can: some servers want
    /// a privileged one.
    #[must_use]
    pub fn with_password_and_same_ports(lab: &Lab) -> Self {
        let terms = Terms { more: "compatibility: sameport\n", ..USUAL };
        Self::start(lab, Site::proxy_host(lab), Some((USER, PASSWORD)), 1081, terms)
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
        Terms { commands, more }: Terms,
    ) -> Self {
        let name = site.name("danted", port);
        let relay = relay_ports(port);
        let (first, last) = (relay.start(), relay.end());
        let Site { near, far, .. } = site;
        let method = if credentials.is_some() { "username" } else { "none" };
        let configuration = format!(
            "logoutput: stderr
             {more}internal: {near} port = {port}
             external: {far}
             external: lo
             external.rotation: route
             clientmethod: none
             socksmethod: {method}
             user.privileged: root
             user.unprivileged: nobody
             client pass {{ from: 0/0 to: 0/0 }}
             socks pass {{
                 from: 0/0 to: 0/0
                 protocol: tcp udp
                 command: {commands}
                 udp.portrange: {first}-{last}
             }}
            "
        );
        let file = lab.file(&format!("{name}.conf"), configuration);
        let pid_file = lab.directory().join(format!("{name}.pid"));
        let mut command = program("danted");
        command.arg("-f").arg(file).arg("-p").arg(pid_file);
        let daemon = Daemon::start(lab, site.host, &name, &mut command, site.at(port));
        site.permit(lab, port);
        if site.address == PROXY {
            lab.permit_relay_ports(relay);
        }
        Self { daemon, address: site.address, credentials, port }
    }
}

/// Where the server on this port has its relay's sockets towards clients.
fn relay_ports(port: u16) -> RangeInclusive<u16> {
    let first = 20_000 + (port - 1080) * 1000;
    first..=first + 999
}

impl Upstream for Dante {
    fn url(&self) -> String {
        url_at(self.address, self.credentials, self.port)
    }
}
