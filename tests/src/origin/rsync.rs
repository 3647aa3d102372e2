//! rsync's own server (rsync://), with a module that takes and gives.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN};

/// A running rsync daemon on port 873 with one module, `files`.
#[derive(Debug)]
pub struct RsyncServer {
    _daemon: Daemon,
    files: PathBuf,
}

impl RsyncServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let files = lab.directory().join("rsync-files");
        fs::create_dir(&files).expect("make a directory for rsync");
        let configuration = format!(
            "use chroot = no\nreverse lookup = no\nlog file = {}\n[files]\npath = {}\nread only = no\nuid = root\ngid = root\n",
            lab.directory().join("rsyncd.log").display(),
            files.display()
        );
        let file = lab.file("rsyncd.conf", configuration);
        let mut command = Command::new("rsync");
        command.env_clear().args(["--daemon", "--no-detach", "--config"]).arg(file);
        let daemon = Daemon::start(lab, &lab.origin, "rsyncd", &mut command, SocketAddr::from((ORIGIN, 873)));
        Self { _daemon: daemon, files }
    }

    /// The module's directory.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }
}
