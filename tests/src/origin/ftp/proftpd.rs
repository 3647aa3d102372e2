//! proftpd(8): what it is told. It checks PORT and EPRT against the control connection unless `AllowForeignAddress` is on.

use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, USER};

/// Gives and takes, in both modes.
pub(super) fn both(lab: &Lab, root: &Path) -> Command {
    let (root, own) = (root.display(), lab.directory().display());
    let configuration = format!(
        "ServerType standalone\nDefaultServer on\nUseIPv6 on\nPort 21\nUser {USER}\nGroup {USER}\n\
         PidFile {own}/proftpd.pid\nScoreboardFile none\nDelayTable none\nDelayEngine off\nControlsEngine off\n\
         AuthPAM off\nUseReverseDNS off\nWtmpLog off\nTransferLog none\nRequireValidShell off\nAllowForeignAddress off\n\
         <Anonymous {root}>\n\
         User {USER}\nGroup {USER}\nUserAlias anonymous {USER}\nUserAlias ftp {USER}\n\
         <Limit WRITE>\nDenyAll\n</Limit>\n\
         <Directory incoming>\nAllowOverwrite on\n<Limit WRITE STOR>\nAllowAll\n</Limit>\n</Directory>\n\
         </Anonymous>\n"
    );
    let mut command = Command::new("proftpd");
    command.args(["-n", "-c"]).arg(lab.file("proftpd.conf", configuration));
    command
}
