//! inetd with the servers of the BSD commands: telnetd, rlogind, fingerd. Those who log in are [`USER`] with [`PASSWORD`].
//!
//! [`USER`]: crate::lab::USER
//! [`PASSWORD`]: crate::lab::PASSWORD

use std::net::SocketAddr;
use std::process::Command;

use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN};

/// telnet on port 23, finger on 79, login (rlogin) on 513.
const SERVICES: &str = "\
23 stream tcp nowait root /usr/sbin/telnetd telnetd
513 stream tcp nowait root /usr/sbin/in.rlogind in.rlogind
79 stream tcp nowait nobody /usr/sbin/in.fingerd in.fingerd
";

/// A running inetd.
#[derive(Debug)]
pub struct Inetd(#[expect(dead_code, reason = "held for its end")] Daemon);

impl Inetd {
    /// Starts it with those.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::start_with(lab, SERVICES, 79)
    }

    /// Starts it with other services, of which one is at this port.
    #[must_use]
    pub fn start_with(lab: &Lab, services: &str, port: u16) -> Self {
        let file = lab.file("inetd.conf", services);
        // login(1) writes down who has been here, below /var/log; that of this host is its own.
        let script = "mount -t tmpfs -o mode=755 tmpfs /var/log && exec inetd -i \"$0\"";
        let mut command = Command::new("sh");
        command.env_clear().arg("-c").arg(script).arg(file);
        Self(Daemon::start(lab, &lab.origin, "inetd", &mut command, SocketAddr::from((ORIGIN, port))))
    }
}
