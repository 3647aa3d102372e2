//! vsftpd(8): what it is told, see vsftpd.conf(5).

use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};

use crate::lab::{Lab, USER};

/// The file of the certificate, in the lab's directory.
pub(super) const CERTIFICATE: &str = "ftp.pem";

const BOTH: &str = "port_enable=YES\nconnect_from_port_20=YES\nwrite_enable=YES\nanon_upload_enable=YES\n\
                    anon_mkdir_write_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\n";

/// Only gives, and only in passive mode.
pub(super) fn passive(lab: &Lab, root: &Path) -> Command {
    configured(lab, root, "port_enable=NO\n")
}

/// Takes as well, in both modes; from port 20 in active mode.
pub(super) fn both(lab: &Lab, root: &Path) -> Command {
    configured(lab, root, BOTH)
}

/// The same, and it speaks TLS with who asks for it (RFC 4217).
pub(super) fn with_tls(lab: &Lab, root: &Path) -> Command {
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(["origin.test".to_owned()]).and_then(|params| params.self_signed(&key));
    let certificate = lab.file(CERTIFICATE, certificate.expect("a certificate").pem());
    let key = lab.file("ftp.key", key.serialize_pem());
    let tls = format!(
        "{BOTH}ssl_enable=YES\nallow_anon_ssl=YES\nforce_local_data_ssl=NO\nforce_local_logins_ssl=NO\n\
         require_ssl_reuse=NO\nrsa_cert_file={}\nrsa_private_key_file={}\n",
        certificate.display(),
        key.display()
    );
    configured(lab, root, &tls)
}

fn configured(lab: &Lab, root: &Path, more: &str) -> Command {
    let configuration = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\n\
         anon_root={}\nftp_username={USER}\nnopriv_user={USER}\nsecure_chroot_dir=/run/vsftpd/empty\n\
         pasv_enable=YES\nseccomp_sandbox=NO\nxferlog_enable=NO\nisolate_network=NO\nisolate=NO\n{more}",
        root.display()
    );
    let mut command = Command::new("vsftpd");
    command.arg(lab.file("vsftpd.conf", configuration));
    command
}
