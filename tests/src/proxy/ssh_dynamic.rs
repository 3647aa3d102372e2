//! `ssh -D`: OpenSSH's SOCKS server, which carries each connection as a channel to an sshd on the proxy host.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Upstream, program, url};
use crate::daemon::Daemon;
use crate::lab::{Lab, PROXY};
use crate::origin::ssh::SshServer;

const PORT: u16 = 1084;

/// A running `ssh -D` with the sshd behind it.
#[derive(Debug)]
pub struct SshDynamic {
    /// The SOCKS side, for its log. Declared first: the client goes before its server does.
    pub daemon: Daemon,
    _server: SshServer,
}

impl SshDynamic {
    /// Starts both on the proxy host.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        let server = SshServer::start_on(lab, &lab.proxy, SocketAddr::from((Ipv4Addr::LOCALHOST, 2222)));
        let mut command = program("ssh");
        command.args(server.client_options()).args(["-N", "-D", &format!("{PROXY}:{PORT}")]);
        command.args(["-o", "ExitOnForwardFailure=yes", "-p", "2222", "root@127.0.0.1"]);
        let daemon = Daemon::start(lab, &lab.proxy, "ssh-D", &mut command, SocketAddr::from((PROXY, PORT)));
        lab.permit_proxy_port(PORT);
        Self { daemon, _server: server }
    }
}

impl Upstream for SshDynamic {
    fn url(&self) -> String {
        url(None, PORT)
    }
}
