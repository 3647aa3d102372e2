//! microsocks, the smallest of the real servers: it reads one message at a time and hangs when more came.

use std::net::SocketAddr;

use super::{Upstream, program, url};
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, PROXY6, USER};

/// A running microsocks, on IPv4 and IPv6.
#[derive(Debug)]
pub struct Microsocks {
    /// The server, for its log.
    pub daemon: Daemon,
    credentials: Option<(&'static str, &'static str)>,
    port: u16,
}

impl Microsocks {
    /// One that lets everybody in.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        Self::start(lab, None, 1082)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    #[must_use]
    pub fn with_password(lab: &Lab) -> Self {
        Self::start(lab, Some((USER, PASSWORD)), 1083)
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

    fn start(lab: &Lab, credentials: Option<(&'static str, &'static str)>, port: u16) -> Self {
        let mut command = program("microsocks");
        command.args(["-i", "::", "-p", &port.to_string()]);
        if let Some((user, password)) = credentials {
            command.args(["-u", user, "-P", password]);
        }
        let name = format!("microsocks-{port}");
        let daemon = Daemon::start(lab, &lab.proxy, &name, &mut command, SocketAddr::from((PROXY, port)));
        lab.permit_proxy_port(port);
        Self { daemon, credentials, port }
    }
}

impl Upstream for Microsocks {
    fn url(&self) -> String {
        url(self.credentials, self.port)
    }
}
