//! `presocks --serve`: the product's own server, on the proxy host. It relays UDP.

use std::net::SocketAddr;
use std::process::Command;

use super::{Upstream, url};
use crate::binary;
use crate::daemon::Daemon;
use crate::lab::{EPHEMERAL, Lab, PROXY};

const PORT: u16 = 1085;

/// A running `presocks --serve`.
#[derive(Debug)]
pub struct Embedded {
    /// The server, for its log.
    pub daemon: Daemon,
}

impl Embedded {
    /// Starts it.
    #[must_use]
    pub fn open(lab: &Lab) -> Self {
        let mut command = Command::new(binary::presocks());
        command.env_clear().args(["--serve", &format!("{PROXY}:{PORT}")]);
        let address = SocketAddr::from((PROXY, PORT));
        let daemon = Daemon::start(lab, &lab.proxy, "presocks-serve", &mut command, address);
        lab.permit_proxy_port(PORT);
        lab.permit_relay_ports(EPHEMERAL);
        Self { daemon }
    }
}

impl Upstream for Embedded {
    fn url(&self) -> String {
        url(None, PORT)
    }
}
