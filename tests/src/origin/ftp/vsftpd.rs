//! vsftpd(8): what it is told, see vsftpd.conf(5).

use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, USER};

/// Only gives, and only in passive mode.
pub(super) fn passive(lab: &Lab, root: &Path) -> Command {
    configured(lab, root, "port_enable=NO\n")
}

/// Takes as well, in both modes; from port 20 in active mode.
pub(super) fn both(lab: &Lab, root: &Path) -> Command {
    configured(
        lab,
        root,
        "port_enable=YES\nconnect_from_port_20=YES\nwrite_enable=YES\nanon_upload_enable=YES\n\
         anon_mkdir_write_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\n",
    )
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
