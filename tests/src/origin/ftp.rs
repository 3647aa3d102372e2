//! vsftpd with anonymous access and passive transfers; its greeting comes before the client says anything.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::http;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, USER};

/// The file `hello.txt`.
pub const HELLO: &str = "hello from the ftp server\n";

/// A running vsftpd on port 21, offering `hello.txt` and `large` ([`http::large`]).
#[derive(Debug)]
pub struct FtpServer(#[expect(dead_code, reason = "held for its end")] Daemon);

impl FtpServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let root = lab.directory().join("ftp");
        fs::create_dir(&root).expect("make the ftp directory");
        fs::write(root.join("hello.txt"), HELLO).expect("write a file to offer");
        fs::write(root.join("large"), http::large()).expect("write a file to offer");
        let configuration = format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\n\
             anon_root={}\nftp_username={USER}\nnopriv_user={USER}\nsecure_chroot_dir=/run/vsftpd/empty\n\
             pasv_enable=YES\nport_enable=NO\nseccomp_sandbox=NO\nxferlog_enable=NO\nisolate_network=NO\nisolate=NO\n",
            root.display()
        );
        let file = lab.file("vsftpd.conf", configuration);
        let mut command = Command::new("vsftpd");
        command.env_clear().arg(file);
        Self(Daemon::start(lab, &lab.origin, "vsftpd", &mut command, SocketAddr::from((ORIGIN, 21))))
    }
}
