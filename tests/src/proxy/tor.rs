//! Tor on a host that reaches no other relay: its handshakes are real, on a port and on a Unix socket, and every request fails.

use std::path::{Path, PathBuf};

use super::{Upstream, program, url};
use crate::daemon::Daemon;
use crate::lab::{Lab, PROXY};
use crate::patience;
use crate::site::Site;

const PORT: u16 = 9050;

/// A running tor.
#[derive(Debug)]
pub struct Tor {
    /// The server, for its log.
    pub daemon: Daemon,
    socket: PathBuf,
}

impl Tor {
    /// Starts it.
    #[must_use]
    pub fn without_network(lab: &Lab) -> Self {
        let directory = lab.directory().join("tor");
        std::fs::create_dir(&directory).expect("make a directory for tor");
        let socket = lab.directory().join("tor-socks");
        let configuration = format!(
            "SocksPort {PROXY}:{PORT} IsolateSOCKSAuth
             SocksPort unix:{socket} WorldWritable RelaxDirModeCheck
             SocksTimeout 2
             DataDirectory {directory}
             Log notice stdout
            ",
            socket = socket.display(),
            directory = directory.display(),
        );
        let file = lab.file("torrc", configuration);
        let mut command = program("tor");
        command.env("HOME", &directory).arg("--defaults-torrc").arg("/dev/null").arg("-f").arg(file);
        let daemon = Daemon::start(lab, &lab.proxy, "tor", &mut command, Site::proxy_host(lab).at(PORT));
        patience::wait_until("tor's Unix socket", || socket.exists());
        lab.permit_proxy_port(PORT);
        Self { daemon, socket }
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Upstream for Tor {
    fn url(&self) -> String {
        url(None, PORT)
    }
}
