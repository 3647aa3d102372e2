//! What the demo runs: this very executable, as a user would call it, with curl or the plain client as its command.
//!
//! Proxy settings of the surrounding environment and curl's own configuration do not reach the command: were it to find a
//! proxy by itself, the demo would show nothing. The run ends in time, by force if need be.

use std::fmt;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{CONNECTED_TO, URL, start};
use crate::config;

/// How long curl may take; the plain client has a limit of its own.
const CURL_LIMIT: &str = "20";
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);
/// What curl, or the libraries of whatever runs, would take a proxy from.
const PROXY_VARIABLES: [&str; 2] = ["http_proxy", "HTTP_PROXY"];

/// A command line, ready to run.
pub(super) struct Program {
    executable: String,
    arguments: Vec<String>,
}

/// What the program left.
pub(super) struct Output {
    pub(super) status: ExitStatus,
    /// What it wrote to stdout.
    pub(super) text: String,
}

impl Program {
    /// curl where there is one, else the plain client.
    pub(super) fn choose(proxy: SocketAddr) -> Result<Self, String> {
        let executable = std::env::current_exe()
            .map_err(|error| format!("cannot find the presocks executable: {error}"))?
            .into_os_string()
            .into_string()
            .map_err(|path| {
                format!("the path of the presocks executable is not UTF-8: {}", path.display())
            })?;
        let proxy = format!("socks5h://{proxy}");
        let write_out = format!("{CONNECTED_TO}%{{remote_ip}}\\n");
        let presocks = ["-p", &proxy, "-v"];
        let command: &[&str] = if curl_works() {
            &["curl", "-q", "-sS", "-m", CURL_LIMIT, "-w", &write_out, URL]
        } else {
            &[&executable, "--demo-client", URL]
        };
        let arguments = presocks.iter().chain(command).map(|&word| word.to_owned()).collect();
        Ok(Self { executable, arguments })
    }

    /// Runs to the end; what it says on stderr is seen as it comes.
    pub(super) fn run(&self) -> Result<Output, String> {
        let failed = |error: io::Error| format!("cannot run {}: {error}", self.executable);
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        for variable in PROXY_VARIABLES.iter().chain(&config::VARIABLES) {
            command.env_remove(variable);
        }
        // The user's rules are not the demo's.
        command.env("PRESOCKS_NO_CONFIG", "1");
        let mut child = command.spawn().map_err(failed)?;
        let Some(mut stdout) = child.stdout.take() else {
            return Err("the command has no stdout".to_owned());
        };
        let (sender, receiver) = mpsc::channel();
        start("stdout", move || {
            let mut text = Vec::new();
            let read = stdout.read_to_end(&mut text);
            drop(sender.send(read.map(|_| String::from_utf8_lossy(&text).into_owned())));
        })?;
        let Ok(text) = receiver.recv_timeout(LIMIT) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("the command did not end within {} s", LIMIT.as_secs()));
        };
        Ok(Output { status: child.wait().map_err(failed)?, text: text.map_err(failed)? })
    }
}

impl fmt::Display for Program {
    /// As a user would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("presocks")?;
        for word in &self.arguments {
            if word.contains([' ', '%', '\\', '\'']) {
                write!(f, " '{}'", word.replace('\'', r"'\''"))?;
            } else {
                write!(f, " {word}")?;
            }
        }
        Ok(())
    }
}

fn curl_works() -> bool {
    Command::new("curl")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
