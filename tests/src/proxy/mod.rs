//! The proxies: real servers on the proxy host, and a scripted one.

pub mod dante;
pub mod microsocks;
pub mod scripted;
pub mod ssh_dynamic;

pub use dante::Dante;
pub use microsocks::Microsocks;
pub use scripted::ScriptedProxy;
pub use ssh_dynamic::SshDynamic;

use std::process::Command;

use crate::lab::PROXY;

/// Something that a proxy URL can name.
pub trait Upstream {
    /// The URL by which the client reaches it.
    fn url(&self) -> String;
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
    match credentials {
        Some((user, password)) => format!("socks5://{user}:{password}@{PROXY}:{port}"),
        None => format!("socks5://{PROXY}:{port}"),
    }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear();
    command
}
