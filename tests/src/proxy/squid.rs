//! squid: HTTP CONNECT with a user's password (RFC 7617), over TCP and over TLS of its own.

use super::{Upstream, of_kind, program, url};
use crate::certificates::Certificates;
use crate::daemon::Daemon;
use crate::lab::{Lab, PASSWORD, PROXY, USER, USER_ID};
use crate::site::Site;

const PORT: u16 = 3128;
const TLS_PORT: u16 = 3129;

/// `openssl passwd -apr1 -salt presocks secret`
const PASSWORD_HASH: &str = "$apr1$presocks$bV.M9fP3v1M2PhZyyJ2.//";

/// The programs that it needs.
pub const NEEDS: [&str; 1] = ["squid"];

/// A running squid that wants [`USER`] and [`PASSWORD`].
#[derive(Debug)]
pub struct Squid {
    /// The server, for its log.
    pub daemon: Daemon,
}

impl Squid {
    /// Starts it.
    #[must_use]
    pub fn with_password(lab: &Lab, certificates: &Certificates) -> Self {
        let site = Site::proxy_host(lab);
        let users = lab.file("squid.users", format!("{USER}:{PASSWORD_HASH}\n"));
        let directory = lab.directory().join("squid");
        std::fs::create_dir(&directory).expect("make a directory for squid");
        std::os::unix::fs::chown(&directory, Some(USER_ID), Some(USER_ID))
            .expect("give a directory to squid");
        let configuration = format!(
            "http_port {PROXY}:{PORT}
             https_port {PROXY}:{TLS_PORT} tls-cert={certificate} tls-key={key}
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}
             auth_param basic realm lab
             auth_param basic children 2
             acl known proxy_auth REQUIRED
             http_access allow known
             http_access deny all
             cache deny all
             cache_effective_user {USER}
             cache_effective_group {USER}
             access_log none
             cache_log {directory}/cache.log
             coredump_dir {directory}
             pid_filename none
             netdb_filename none
             pinger_enable off
             max_filedescriptors 4096
             visible_hostname proxy
             shutdown_lifetime 0 seconds
            ",
            certificate = certificates.good.chain.display(),
            key = certificates.good.key.display(),
            users = users.display(),
            directory = directory.display(),
        );
        let file = lab.file("squid.conf", configuration);
        let mut command = program("squid");
        command.args(["-N", "-d1", "-f"]).arg(file);
        let daemon = Daemon::start(lab, &lab.proxy, "squid", &mut command, site.at(PORT));
        lab.permit_proxy_port(PORT);
        lab.permit_proxy_port(TLS_PORT);
        Self { daemon }
    }

    /// The URL of the port with TLS.
    #[must_use]
    pub fn url_over_tls(&self) -> String {
        of_kind("https", &url(Some((USER, PASSWORD)), TLS_PORT))
    }

    /// The URL without its credentials.
    #[must_use]
    pub fn bare_url(&self) -> String {
        of_kind("http", &url(None, PORT))
    }
}

impl Upstream for Squid {
    fn url(&self) -> String {
        of_kind("http", &url(Some((USER, PASSWORD)), PORT))
    }
}
