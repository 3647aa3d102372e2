//! UDP services on IPv4 and IPv6: they send back what they receive, and remember it.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::daemon::Daemon;
use crate::host::Host;
use crate::lab::{Lab, ORIGIN};

/// As long as any datagram.
const LONGEST: usize = 65_535;

/// Where [`Many`] has its addresses.
pub const MANY: &str = "10.88.16.0/20";

/// A datagram and who has sent it.
pub type Received = (SocketAddr, Vec<u8>);

/// A running service.
#[derive(Clone, Debug)]
pub struct Datagrams {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Datagrams {
    /// Answers from the port (0: any) that was asked.
    #[must_use]
    pub fn echo(lab: &Lab, port: u16) -> Self {
        Self::start(lab, port, |_| false)
    }

    /// The same on a host of choice.
    #[must_use]
    pub fn echo_on(host: &Host, port: u16) -> Self {
        Self::start_on(host, port, |_| false)
    }

    /// Answers from another port.
    #[must_use]
    pub fn echo_from_another_port(lab: &Lab, port: u16) -> Self {
        Self::start(lab, port, |_| true)
    }

    /// Answers datagrams of which `elsewhere` is true from another port, all others from its own.
    pub fn start(lab: &Lab, port: u16, elsewhere: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        Self::start_on(&lab.origin, port, elsewhere)
    }

    fn start_on(host: &Host, port: u16, elsewhere: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        let bind = |port| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a socket");
        let (own, other) = host.inside(|| (bind(port), bind(0)));
        let port = own.local_addr().expect("an address").port();
        let service = Self { port, received: Arc::default() };
        let received = Arc::clone(&service.received);
        thread::spawn(move || {
            let mut buffer = vec![0; LONGEST];
            loop {
                // An ICMP error on account of an earlier answer is the client's business.
                let Ok((len, client)) = own.recv_from(&mut buffer) else { continue };
                let payload = &buffer[..len];
                received.lock().expect("no panic").push((client, payload.to_vec()));
                let socket = if elsewhere(payload) { &other } else { &own };
                drop(socket.send_to(payload, client));
            }
        });
        service
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who has sent what so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }
}

/// An echo service on every address of [`MANY`]: each answer comes from the address that was asked.
#[derive(Debug)]
pub struct Many(#[expect(dead_code, reason = "held for its end")] Daemon);

impl Many {
    /// Starts it on this port.
    #[must_use]
    pub fn start(lab: &Lab, port: u16) -> Self {
        lab.origin.setup(&["ip", "route", "add", "local", MANY, "dev", "lo"], "");
        lab.proxy.setup(&["ip", "route", "add", MANY, "via", &ORIGIN.to_string()], "");
        let mut command = Command::new("/usr/bin/python3");
        command.env_clear().args(["-c", include_str!("datagrams.py"), &port.to_string()]);
        Self(Daemon::start(lab, &lab.origin, "datagrams", &mut command, SocketAddr::from((ORIGIN, port))))
    }
}
