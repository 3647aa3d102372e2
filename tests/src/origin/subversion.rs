//! svnserve with an empty repository, for [`USER`] with [`PASSWORD`] alone.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, PASSWORD, USER};

/// A running svnserve on port 3690; the repository is `svn://origin.test/`.
#[derive(Debug)]
pub struct SubversionServer {
    _daemon: Daemon,
    repository: PathBuf,
}

impl SubversionServer {
    /// Makes the repository and starts the server.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let repository = lab.directory().join("svn");
        lab.origin.setup(&["svnadmin", "create", &repository.to_string_lossy()], "");
        let configuration = "[general]\nanon-access = none\nauth-access = write\npassword-db = passwd\n";
        for (name, content) in
            [("svnserve.conf", configuration), ("passwd", &format!("[users]\n{USER} = {PASSWORD}\n"))]
        {
            fs::write(repository.join("conf").join(name), content).expect("write svnserve's configuration");
        }
        let mut command = Command::new("svnserve");
        command.env_clear().args(["--daemon", "--foreground", "--root"]).arg(&repository);
        let daemon =
            Daemon::start(lab, &lab.origin, "svnserve", &mut command, SocketAddr::from((ORIGIN, 3690)));
        Self { _daemon: daemon, repository }
    }

    /// The repository's directory.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }
}
