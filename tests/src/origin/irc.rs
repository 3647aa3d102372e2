//! ngircd, an IRC server with plain and TLS ports.

use std::net::SocketAddr;
use std::process::Command;

use crate::certificates::Signed;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, USER};

/// A running ngircd, on port 6667, and on 6697 over TLS.
#[derive(Debug)]
pub struct IrcServer(#[expect(dead_code, reason = "held for its end")] Daemon);

impl IrcServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab, certificate: &Signed) -> Self {
        let configuration = format!(
            "[Global]\nName = irc.origin.test\nInfo = a server of the laboratory\nAdminInfo1 = lab\nListen = 0.0.0.0,::\n\
             Ports = 6667\nServerUID = {USER}\nServerGID = {USER}\nMotdPhrase = welcome\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxPenaltyTime = 0\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\n\
             [SSL]\nPorts = 6697\nCertFile = {}\nKeyFile = {}\n",
            certificate.chain.display(),
            certificate.key.display()
        );
        let file = lab.file("ngircd.conf", configuration);
        let mut command = Command::new("ngircd");
        command.env_clear().arg("--nodaemon").arg("--config").arg(file);
        Self(Daemon::start(lab, &lab.origin, "ngircd", &mut command, SocketAddr::from((ORIGIN, 6697))))
    }
}
