//! The proxies: real servers on the proxy host, and scripted ones.

pub mod dante;
pub mod door;
pub mod embedded;
pub mod gssapi;
pub mod microsocks;
pub mod relay;
pub mod scripted;
pub mod squid;
pub mod ssh_dynamic;
pub mod stunnel;
pub mod tinyproxy;
pub mod tor;

pub use dante::Dante;
pub use door::UnixDoor;
pub use embedded::Embedded;
pub use gssapi::GssapiProxy;
pub use microsocks::Microsocks;
pub use relay::ScriptedRelay;
pub use scripted::ScriptedProxy;
pub use squid::Squid;
pub use ssh_dynamic::SshDynamic;
pub use stunnel::Stunnel;
pub use tinyproxy::Tinyproxy;
pub use tor::Tor;

use std::net::Ipv4Addr;
use std::process::Command;

use crate::lab::{Lab, PROXY};

/// Something that a proxy URL can name.
pub trait Upstream {
    /// The URL by which the client reaches it.
    fn url(&self) -> String;
}

/// One of each real proxy: for work that must come out the same through all of them.
#[must_use]
pub fn one_of_each(lab: &Lab) -> Vec<Box<dyn Upstream>> {
    vec![
        Box::new(Dante::open(lab)),
        Box::new(Dante::with_password(lab)),
        Box::new(Microsocks::open(lab)),
        Box::new(Microsocks::with_password(lab)),
        Box::new(SshDynamic::open(lab)),
    ]
}

/// The programs that [`one_of_each`] needs.
pub const EACH_NEEDS: [&str; 5] = ["danted", "microsocks", "ssh", "sshd", "ssh-keygen"];

impl Upstream for Box<dyn Upstream> {
    fn url(&self) -> String {
        self.as_ref().url()
    }
}

impl Upstream for str {
    fn url(&self) -> String {
        self.to_owned()
    }
}

impl Upstream for &str {
    fn url(&self) -> String {
        (*self).to_owned()
    }
}

impl Upstream for String {
    fn url(&self) -> String {
        self.clone()
    }
}

/// `socks5://[user:password@]PROXY:port`
#[must_use]
pub fn url(credentials: Option<(&str, &str)>, port: u16) -> String {
    url_at(PROXY, credentials, port)
}

/// The same at another address.
#[must_use]
pub fn url_at(address: Ipv4Addr, credentials: Option<(&str, &str)>, port: u16) -> String {
    match credentials {
        Some((user, password)) => format!("socks5://{user}:{password}@{address}:{port}"),
        None => format!("socks5://{address}:{port}"),
    }
}

/// The same URL with another scheme: several servers speak more than SOCKS5.
#[must_use]
pub fn of_kind(scheme: &str, url: &str) -> String {
    url.replacen("socks5:", &format!("{scheme}:"), 1)
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear();
    command
}
