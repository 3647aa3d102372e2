//! A server process of a lab: started on a host, ready when it accepts connections, its log shown when it is not.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::host::Host;
use crate::lab::Lab;
use crate::patience;
use crate::requirement::PATH;

/// A server that dies when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` on `host` and returns once `address` accepts connections there.
    ///
    /// The program must stay in the foreground. Its output goes to `NAME.log` in the lab's directory.
    pub fn start(lab: &Lab, host: &Host, name: &str, command: &mut Command, address: SocketAddr) -> Self {
        let log = lab.directory().join(format!("{name}.log"));
        let output = File::create(&log).expect("make a log");
        command.env("PATH", PATH).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("share a log")).stderr(output);
        let mut daemon = Self { name: name.to_owned(), process: host.spawn(command), log };
        patience::wait_until(&format!("{name} to accept connections on {address}"), || {
            if let Ok(Some(status)) = daemon.process.try_wait() {
                panic!("{name} ended at once: {status}\n{}", daemon.log());
            }
            host.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
        });
        daemon
    }

    /// What the server printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills the server and waits for its end.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.name, self.log());
        }
    }
}
