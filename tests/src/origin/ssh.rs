//! An sshd with keys and configuration of its own; root logs in with a key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::daemon::Daemon;
use crate::host::Host;
use crate::lab::{Lab, ORIGIN};

/// A running sshd.
#[derive(Debug)]
pub struct SshServer {
    _daemon: Daemon,
    key: PathBuf,
}

impl SshServer {
    /// Serves on port 22 of the origin.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::start_on(lab, &lab.origin, SocketAddr::from((ORIGIN, 22)))
    }

    /// Serves on a host and an address of choice.
    pub(crate) fn start_on(lab: &Lab, host: &Host, address: SocketAddr) -> Self {
        let directory = lab.directory().join(format!("ssh-{}", host.name()));
        std::fs::create_dir(&directory).expect("make a directory for sshd");
        let (host_key, key) = (directory.join("host-key"), directory.join("key"));
        for file in [&host_key, &key] {
            host.setup(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &file.to_string_lossy()], "");
        }
        let configuration = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}.pub\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxSessions 300\nMaxStartups 300\n\
             UseDNS no\nSubsystem sftp internal-sftp\n",
            host_key.display(),
            key.display()
        );
        let file = directory.join("sshd_config");
        std::fs::write(&file, configuration).expect("write sshd's configuration");
        let mut command = Command::new("/usr/sbin/sshd");
        command.env_clear().args(["-D", "-e", "-f"]).arg(file);
        let daemon = Daemon::start(lab, host, &format!("sshd-{}", host.name()), &mut command, address);
        Self { _daemon: daemon, key }
    }

    /// A command line of `ssh` or `scp`: the program, the options that it needs here, and the given words.
    #[must_use]
    pub fn client<'a>(&self, program: &str, words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let words = words.into_iter().map(str::to_owned);
        [program.to_owned()].into_iter().chain(self.client_options()).chain(words).collect()
    }

    /// Options for `ssh` and `scp`: the key, and nothing of the machine's own configuration.
    #[must_use]
    pub fn client_options(&self) -> Vec<String> {
        let key = format!("IdentityFile={}", self.key.display());
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
            &key,
        ];
        let head = ["-F".to_owned(), "/dev/null".to_owned()];
        head.into_iter()
            .chain(options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]))
            .collect()
    }
}
