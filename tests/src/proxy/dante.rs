//! Dante, the strictest of the real servers: with no authentication, or with a user's password (RFC 1929). It relays UDP.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::{Upstream, program, url};
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, USER};

/// A running danted.
#[derive(Debug)]
pub struct Dante {
    /// The server, for its log.
    pub daemon: Daemon,
    credentials: Option<(&'static str, &'static str)>,
    port: u16,
}

impl Dante {
    /// One that lets everybody in.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        Self::start(lab, None, 1080)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    #[must_use]
    pub fn with_password(lab: &Lab) -> Self {
        Self::start(lab, Some((USER, PASSWORD)), 1081)
    }

    fn start(lab: &Lab, credentials: Option<(&'static str, &'static str)>, port: u16) -> Self {
        let relay = relay_ports(port);
        let (first, last) = (relay.start(), relay.end());
        let method = if credentials.is_some() { "username" } else { "none" };
        let configuration = format!(
            "logoutput: stderr
             internal: to-client port = {port}
             external: to-origin
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
                 command: bind bindreply connect udpassociate udpreply
                 udp.portrange: {first}-{last}
             }}
            "
        );
        let file = lab.file(&format!("danted-{port}.conf"), configuration);
        let pid_file = lab.directory().join(format!("danted-{port}.pid"));
        let mut command = program("danted");
        command.arg("-f").arg(file).arg("-p").arg(pid_file);
        let daemon = Daemon::start(
            lab,
            &lab.proxy,
            &format!("danted-{port}"),
            &mut command,
            SocketAddr::from((PROXY, port)),
        );
        lab.permit_proxy_port(port);
        lab.permit_relay_ports(relay);
        Self { daemon, credentials, port }
    }
}

/// Where the server on this port has its relay's sockets towards clients.
fn relay_ports(port: u16) -> RangeInclusive<u16> {
    let first = 20_000 + (port - 1080) * 1000;
    first..=first + 999
}

impl Upstream for Dante {
    fn url(&self) -> String {
        url(self.credentials, self.port)
    }
}
