//! CVS's server (pserver), with an empty repository, for [`USER`] with [`PASSWORD`] alone.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::Inetd;
use crate::lab::{Lab, PASSWORD, USER, USER_ID};

/// A running server on port 2401.
#[derive(Debug)]
pub struct CvsServer {
    _inetd: Inetd,
    repository: PathBuf,
}

impl CvsServer {
    /// Makes the repository and starts the server.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let repository = lab.directory().join("cvs");
        let root = repository.to_string_lossy().into_owned();
        lab.origin.setup(&["cvs", "-d", &root, "init"], "");
        let hash = lab.origin.setup(&["openssl", "passwd", "-6", PASSWORD], "");
        let passwords = repository.join("CVSROOT").join("passwd");
        std::fs::write(passwords, format!("{USER}:{hash}")).expect("write a password");
        for directory in [repository.clone(), repository.join("CVSROOT"), repository.join("CVSROOT/history")]
        {
            chown(directory, Some(USER_ID), Some(USER_ID)).expect("give the repository");
        }
        let service =
            format!("2401 stream tcp nowait root /usr/bin/cvs cvs -f --allow-root={root} pserver\n");
        Self { _inetd: Inetd::start_with(lab, &service, 2401), repository }
    }

    /// What comes after `-d` for a client.
    #[must_use]
    pub fn root(&self) -> String {
        format!(":pserver:{USER}@origin.test:{}", self.repository.display())
    }

    /// The repository's directory.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }
}
