//! An HTTPS server (Python's `ssl`) with a certificate of an authority that clients are told to trust.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::Signed;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN};

/// The page `/secure`.
pub const SECURE: &str = "hello over TLS\n";

const SERVER: &str = include_str!("https_server.py");

/// A running HTTPS server on port 443 for `origin.test`, `www.origin.test`, `origin6.test` and the addresses.
#[derive(Debug)]
pub struct HttpsServer {
    daemon: Daemon,
    authority: PathBuf,
}

impl HttpsServer {
    /// Makes the certificate and starts the server.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let (authority, key) = certificate(lab);
        Self::serve(lab, authority.clone(), &authority, &key)
    }

    /// Starts the server with this certificate, which is for `origin.test` and the names below it.
    #[must_use]
    pub fn start_with(lab: &Lab, certificate: &Signed) -> Self {
        Self::serve(lab, certificate.authority.clone(), &certificate.chain, &certificate.key)
    }

    fn serve(lab: &Lab, authority: PathBuf, chain: &Path, key: &Path) -> Self {
        let script = lab.file("https_server.py", SERVER);
        let mut command = Command::new("/usr/bin/python3");
        command.env_clear().arg(script).args([chain, key]).arg(SECURE);
        let daemon = Daemon::start(lab, &lab.origin, "https", &mut command, SocketAddr::from((ORIGIN, 443)));
        Self { daemon, authority }
    }

    /// A line for each request so far, as in `"GET /secure HTTP/1.1" 200`.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// The certificate (PEM) that a client must trust.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

/// A self-signed certificate and its key.
pub(super) fn certificate(lab: &Lab) -> (PathBuf, PathBuf) {
    let (certificate, key) = (lab.directory().join("authority.pem"), lab.directory().join("key.pem"));
    let names = "subjectAltName=DNS:origin.test,DNS:*.origin.test,DNS:origin6.test,IP:10.88.0.2,IP:fd88::2";
    lab.origin.setup(
        &[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=origin.test",
            "-addext",
            names,
            "-keyout",
            &key.to_string_lossy(),
            "-out",
            &certificate.to_string_lossy(),
        ],
        "",
    );
    (certificate, key)
}
