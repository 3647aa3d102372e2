//! A small git repository, served by `git daemon` or, as plain files, by the HTTP server.

use std::net::SocketAddr;
use std::process::Command;

use super::http;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN};

/// A repository `repo.git` below the web root, with one commit on `main`.
#[derive(Debug)]
pub struct Repository {
    /// The commit's number.
    pub head: String,
}

impl Repository {
    /// Makes it: `README` says "a file in a repository", `large` is [`http::large`].
    #[must_use]
    pub fn create(lab: &Lab) -> Self {
        let root = http::root(lab);
        lab.file("large", http::large());
        let script = format!(
            "export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@origin.test
             export GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@origin.test
             cd '{}'
             git init -q -b main work
             cd work
             echo 'a file in a repository' > README
             mv ../large large
             git add README large
             git commit -q -m 'One commit'
             git clone -q --bare . '{}/repo.git'
             cd '{}/repo.git'
             git update-server-info
             touch git-daemon-export-ok
             git rev-parse HEAD
            ",
            lab.directory().display(),
            root.display(),
            root.display()
        );
        let head = lab.origin.setup(&["sh", "-e"], &script);
        Self { head: head.trim().to_owned() }
    }
}

/// A running `git daemon` (git:// on port 9418) over the web root.
#[derive(Debug)]
pub struct GitServer(#[expect(dead_code, reason = "held for its end")] Daemon);

impl GitServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let mut command = Command::new("git");
        let base = format!("--base-path={}", http::root(lab).display());
        command.env_clear().env("HOME", "/nonexistent").env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
        command.args(["daemon", "--reuseaddr", "--informative-errors", &base]);
        Self(Daemon::start(lab, &lab.origin, "git-daemon", &mut command, SocketAddr::from((ORIGIN, 9418))))
    }
}
