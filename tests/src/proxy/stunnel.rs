//! stunnel: TLS in front of a proxy that knows none. What arrives goes on to a port of the same host, decrypted.

use std::net::Ipv4Addr;

use super::program;
use crate::certificates::Certificate;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::site::Site;

/// Where the first one listens; each has its port from here on.
const FIRST: u16 = 4400;

/// A running stunnel.
#[derive(Debug)]
pub struct Stunnel {
    /// The server, for its log.
    pub daemon: Daemon,
    address: Ipv4Addr,
    port: u16,
}

impl Stunnel {
    /// One in front of this port of the proxy host, with this certificate. `number` tells it apart from others.
    #[must_use]
    pub fn before(lab: &Lab, number: u16, port: u16, certificate: &Certificate) -> Self {
        Self::before_at(lab, Site::proxy_host(lab), number, port, certificate)
    }

    /// The same elsewhere.
    #[must_use]
    pub fn before_at(lab: &Lab, site: Site<'_>, number: u16, port: u16, certificate: &Certificate) -> Self {
        let own = FIRST + number;
        let name = site.name("stunnel", own);
        let configuration = format!(
            "foreground = yes
             syslog = no
             pid =
             debug = notice
             socket = r:TCP_NODELAY=1
             socket = l:TCP_NODELAY=1
             [proxy]
             accept = {}:{own}
             connect = {}:{port}
             cert = {}
             key = {}
             sslVersionMin = TLSv1.2
            ",
            site.address,
            site.address,
            certificate.chain.display(),
            certificate.key.display(),
        );
        let file = lab.file(&format!("{name}.conf"), configuration);
        let mut command = program("stunnel4");
        command.arg(file);
        let daemon = Daemon::start(lab, site.host, &name, &mut command, site.at(own));
        site.permit(lab, own);
        Self { daemon, address: site.address, port: own }
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A proxy's URL with this scheme (`socks5+tls`) and these credentials (`user:password@` or nothing).
    #[must_use]
    pub fn url(&self, scheme: &str, credentials: &str) -> String {
        format!("{scheme}://{credentials}{}:{}", self.address, self.port)
    }
}
