//! FTP servers with anonymous access: vsftpd and proftpd, whose greetings come before the client says anything.
//!
//! Both offer the same files, take uploads into `incoming`, and connect to the client in active mode; both refuse a PORT or
//! EPRT that names another host than the one from which the control connection comes.

mod proftpd;
mod vsftpd;

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::http;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, USER_ID};

/// The file `hello.txt`.
pub const HELLO: &str = "hello from the ftp server\n";

/// How many files are in the directory `pub/docs` and below it.
pub const DOCS: usize = 8;

/// A running server on port 21, offering `hello.txt`, `large` ([`http::large`]), and the directory `pub`.
#[derive(Debug)]
pub struct FtpServer {
    daemon: Daemon,
    root: PathBuf,
}

impl FtpServer {
    /// vsftpd as most are set up: it gives files, in passive mode.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::run(lab, "vsftpd", vsftpd::passive)
    }

    /// vsftpd with uploads, in both modes; in active mode it connects from port 20.
    #[must_use]
    pub fn vsftpd(lab: &Lab) -> Self {
        Self::run(lab, "vsftpd", vsftpd::both)
    }

    /// The same, and it speaks TLS with clients that ask for it.
    #[must_use]
    pub fn vsftpd_with_tls(lab: &Lab) -> Self {
        Self::run(lab, "vsftpd", vsftpd::with_tls)
    }

    /// The certificate, PEM, of [`FtpServer::vsftpd_with_tls`], which is for `origin.test`.
    #[must_use]
    pub fn certificate(lab: &Lab) -> PathBuf {
        lab.directory().join(vsftpd::CERTIFICATE)
    }

    /// proftpd with uploads, in both modes.
    #[must_use]
    pub fn proftpd(lab: &Lab) -> Self {
        Self::run(lab, "proftpd", proftpd::both)
    }

    /// Its directory, which clients see as `/`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file that has been put into `incoming`; `None` if there is none of this name.
    #[must_use]
    pub fn uploaded(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join("incoming").join(name)).ok()
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    fn run(lab: &Lab, program: &str, configure: fn(&Lab, &Path) -> Command) -> Self {
        let root = files(lab);
        let mut command = configure(lab, &root);
        let daemon =
            Daemon::start(lab, &lab.origin, program, command.env_clear(), SocketAddr::from((ORIGIN, 21)));
        Self { daemon, root }
    }
}

/// The file `pub/docs/N.txt`, or `pub/docs/more/N.txt` from half of [`DOCS`] on.
#[must_use]
pub fn doc(number: usize) -> String {
    (0..100 * (number + 1)).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "line {line} of file {number}");
        text
    })
}

/// Where [`doc`] is, below `pub/docs`.
#[must_use]
pub fn doc_path(number: usize) -> String {
    let directory = if number < DOCS / 2 { "" } else { "more/" };
    format!("{directory}{number}.txt")
}

fn files(lab: &Lab) -> PathBuf {
    let root = lab.directory().join("ftp");
    let incoming = root.join("incoming");
    fs::create_dir_all(root.join("pub/docs/more")).expect("make the ftp directories");
    fs::create_dir(&incoming).expect("make a directory for uploads");
    chown(&incoming, Some(USER_ID), Some(USER_ID)).expect("give it to the server's user");
    fs::write(root.join("hello.txt"), HELLO).expect("write a file to offer");
    fs::write(root.join("large"), http::large()).expect("write a file to offer");
    fs::write(root.join("pub/file.tar"), http::large()).expect("write a file to offer");
    for number in 0..DOCS {
        fs::write(root.join("pub/docs").join(doc_path(number)), doc(number)).expect("write a file to offer");
    }
    root
}
