//! tinyproxy: HTTP CONNECT, with no authentication or with a user's password (RFC 7617). It carries nothing else here.

use std::net::SocketAddr;

use super::{Upstream, of_kind, program, url};
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, PROXY6, USER};

/// A running tinyproxy, on IPv4 and IPv6.
#[derive(Debug)]
pub struct Tinyproxy {
    /// The server, for its log.
    pub daemon: Daemon,
    credentials: Option<(&'static str, &'static str)>,
    port: u16,
}

impl Tinyproxy {
    /// One that lets everybody in.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        Self::start(lab, None, 8888)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    #[must_use]
    pub fn with_password(lab: &Lab) -> Self {
        Self::start(lab, Some((USER, PASSWORD)), 8889)
    }

    /// The URL of its IPv6 address.
    #[must_use]
    pub fn url6(&self) -> String {
        self.url().replace(&PROXY.to_string(), &format!("[{PROXY6}]"))
    }

    /// The URL without its credentials.
    #[must_use]
    pub fn bare_url(&self) -> String {
        of_kind("http", &url(None, self.port))
    }

    fn start(lab: &Lab, credentials: Option<(&'static str, &'static str)>, port: u16) -> Self {
        let mut configuration = format!("Port {port}\nListen {PROXY}\nListen {PROXY6}\nTimeout 60\n");
        if let Some((user, password)) = credentials {
            configuration += &format!("BasicAuth {user} {password}\n");
        }
        let name = format!("tinyproxy-{port}");
        let file = lab.file(&format!("{name}.conf"), configuration);
        let mut command = program("tinyproxy");
        command.arg("-d").arg("-c").arg(file);
        let daemon = Daemon::start(lab, &lab.proxy, &name, &mut command, SocketAddr::from((PROXY, port)));
        lab.permit_proxy_port(port);
        Self { daemon, credentials, port }
    }
}

impl Upstream for Tinyproxy {
    fn url(&self) -> String {
        of_kind("http", &url(self.credentials, self.port))
    }
}
