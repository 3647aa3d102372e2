//! Prosody, an XMPP server that insists on TLS, with accounts and data of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::process::Command;

use crate::certificates::Signed;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, PASSWORD, USER, USER_ID};

/// A running prosody on port 5222 (and 5223, where TLS begins at once), with the accounts `alice` and `bob` at `origin.test` and at `chat.test`.
#[derive(Debug)]
pub struct XmppServer(#[expect(dead_code, reason = "held for its end")] Daemon);

impl XmppServer {
    /// Starts it.
    #[must_use]
    pub fn start(lab: &Lab, certificate: &Signed) -> Self {
        let data = lab.directory().join("prosody");
        fs::create_dir(&data).expect("make a directory for prosody");
        for host in ["origin%2etest", "chat%2etest"] {
            let accounts = data.join(host).join("accounts");
            fs::create_dir_all(&accounts).expect("make a directory for accounts");
            for name in ["alice.dat", "bob.dat"] {
                let account = format!("return {{ [\"password\"] = \"{PASSWORD}\" }};\n");
                fs::write(accounts.join(name), account).expect("make an account");
            }
            chown(data.join(host), Some(USER_ID), Some(USER_ID)).expect("give a directory");
        }
        let configuration = format!(
            "data_path = \"{}\"\ninterfaces = {{ \"0.0.0.0\", \"::\" }}\nplugin_paths = {{}}\n\
             modules_enabled = {{ \"roster\", \"saslauth\", \"tls\", \"disco\", \"presence\", \"message\", \"iq\", \"offline\" }}\n\
             modules_disabled = {{ \"s2s\", \"posix\" }}\nauthentication = \"internal_plain\"\n\
             c2s_require_encryption = true\nc2s_direct_tls_ports = {{ 5223 }}\nlog = {{ info = \"*console\" }}\n\
             ssl = {{ certificate = \"{}\"; key = \"{}\" }}\n\
             VirtualHost \"origin.test\"\nVirtualHost \"chat.test\"\n",
            data.display(),
            certificate.chain.display(),
            certificate.key.display()
        );
        let file = lab.file("prosody.cfg.lua", configuration);
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
        command
            .env_clear()
            .args([&user, &group, "--clear-groups", "--", "prosody", "-F", "--config"])
            .arg(file);
        Self(Daemon::start(lab, &lab.origin, "prosody", &mut command, SocketAddr::from((ORIGIN, 5222))))
    }
}
