//! `ssh -D`: OpenSSH's SOCKS server, which carries each connection as a channel to an sshd on the proxy host.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Upstream, program, url_at};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::origin::ssh::SshServer;
use crate::site::Site;

const PORT: u16 = 1084;

/// A running `ssh -D` with the sshd behind it.
#[derive(Debug)]
pub struct SshDynamic {
    /// The SOCKS side, for its log. Declared first: the client goes before its server does.
    pub daemon: Daemon,
    address: Ipv4Addr,
    _server: SshServer,
}

impl SshDynamic {
    /// Starts both on the proxy host.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        Self::open_at(lab, Site::proxy_host(lab))
    }

    /// Starts both elsewhere.
    #[must_use]
    pub fn open_at(lab: &Lab, site: Site<'_>) -> Self {
        let server = SshServer::start_on(lab, site.host, SocketAddr::from((Ipv4Addr::LOCALHOST, 2222)));
        let mut command = program("ssh");
        command.args(server.client_options()).args(["-N", "-D", &site.at(PORT).to_string()]);
        command.args(["-o", "ExitOnForwardFailure=yes", "-p", "2222", "root@127.0.0.1"]);
        let name = site.name("ssh-D", PORT);
        let daemon = Daemon::start(lab, site.host, &name, &mut command, site.at(PORT));
        site.permit(lab, PORT);
        Self { daemon, address: site.address, _server: server }
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        PORT
    }
}

impl Upstream for SshDynamic {
    fn url(&self) -> String {
        url_at(self.address, None, PORT)
    }
}
