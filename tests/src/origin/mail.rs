//! Mail for one domain: postfix takes it (SMTP), dovecot hands it out (POP3, IMAP) and knows the passwords of both.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::https;
use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, PASSWORD, USER, USER_ID};
use crate::patience;

/// Directories of postfix's own user, which its start-up script would make.
const DIRECTORIES: [&str; 9] = [
    "/data",
    "/queue/incoming",
    "/queue/active",
    "/queue/bounce",
    "/queue/defer",
    "/queue/deferred",
    "/queue/private",
    "/queue/public",
    "/queue/trace",
];

/// Services of postfix. Whoever submits a message must use TLS, and give [`USER`] and [`PASSWORD`].
const SERVICES: &str = "
submission inet n - n - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_tls_security_level=encrypt
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
";

/// Running servers for `origin.test`: SMTP on port 587 (submission), POP3 on 110 and 995, IMAP on 143 and 993.
///
/// Whoever a message is for, it goes to the one mailbox, which is [`USER`]'s.
#[derive(Debug)]
pub struct MailServer {
    _postfix: Daemon,
    _dovecot: Daemon,
    authority: PathBuf,
    mailbox: PathBuf,
}

impl MailServer {
    /// Makes a certificate and an empty mailbox, and starts the servers.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let (authority, key) = https::certificate(lab);
        let mailboxes = lab.directory().join("mail");
        let mailbox = mailboxes.join(USER);
        for directory in
            [&mailboxes, &mailbox, &mailbox.join("new"), &mailbox.join("cur"), &mailbox.join("tmp")]
        {
            fs::create_dir(directory).expect("make a mailbox");
            chown(directory, Some(USER_ID), Some(USER_ID)).expect("give a mailbox");
        }
        // First, since postfix asks it for passwords.
        let dovecot = dovecot(lab, &authority, &key);
        let postfix = postfix(lab, &authority, &key);
        Self { _postfix: postfix, _dovecot: dovecot, authority, mailbox }
    }

    /// The certificate (PEM) that a client must trust.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Puts the one message into the mailbox.
    pub fn deliver(&self, message: &str) {
        let file = self.mailbox.join("new/1.origin");
        fs::write(&file, message).expect("deliver a message");
        chown(file, Some(USER_ID), Some(USER_ID)).expect("give a message");
    }

    /// Waits for a message that has this text somewhere, and returns it.
    #[must_use]
    pub fn message_with(&self, text: &str) -> String {
        patience::wait_for(&format!("a message with {text:?}"), || {
            let files = fs::read_dir(self.mailbox.join("new")).expect("read the mailbox");
            let messages = files.map(|file| fs::read_to_string(file.expect("a message").path()));
            messages.map(|message| message.expect("read a message")).find(|message| message.contains(text))
        })
    }
}

fn dovecot(lab: &Lab, certificate: &Path, key: &Path) -> Daemon {
    let users = lab.file("users", format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
    let home = lab.directory().display();
    let configuration = format!(
        "protocols = imap pop3
         listen = {ORIGIN}
         log_path = /dev/stderr
         state_dir = {home}
         ssl_cert = <{}
         ssl_key = <{}
         mail_location = maildir:{home}/mail/{USER}
         auth_mechanisms = plain login
         passdb {{
           driver = passwd-file
           args = {}
         }}
         userdb {{
           driver = static
           args = uid={USER_ID} gid={USER_ID} home={home}/mail
         }}
         service auth {{
           unix_listener auth-postfix {{
             user = postfix
             mode = 0600
           }}
         }}
        ",
        certificate.display(),
        key.display(),
        users.display()
    );
    let file = lab.file("dovecot.conf", configuration);
    let mut command = Command::new("dovecot");
    command.env_clear().arg("-F").arg("-c").arg(file);
    Daemon::start(lab, &lab.origin, "dovecot", &mut command, SocketAddr::from((ORIGIN, 143)))
}

fn postfix(lab: &Lab, certificate: &Path, key: &Path) -> Daemon {
    let home = lab.directory().join("postfix");
    for (owner, directories) in [("root", &["", "/queue/pid"][..]), ("postfix", &DIRECTORIES)] {
        let directories: Vec<_> =
            directories.iter().map(|name| format!("{}{name}", home.display())).collect();
        let mut words = vec!["install", "-d", "-o", owner];
        words.extend(directories.iter().map(String::as_str));
        lab.origin.setup(&words, "");
    }
    let configuration = format!(
        "compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = {home}/queue
data_directory = {home}/data
myhostname = origin.test
mydestination =
virtual_mailbox_domains = origin.test
virtual_mailbox_base = {mailboxes}
virtual_mailbox_maps = static:{USER}/
virtual_uid_maps = static:{USER_ID}
virtual_gid_maps = static:{USER_ID}
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = /run/dovecot/auth-postfix
smtpd_relay_restrictions = permit_sasl_authenticated reject_unauth_destination
",
        home = home.display(),
        mailboxes = lab.directory().join("mail").display(),
        certificate = certificate.display(),
        key = key.display()
    );
    for (name, content) in [("main.cf", &configuration[..]), ("master.cf", SERVICES)] {
        fs::write(home.join(name), content).expect("write postfix's configuration");
    }
    // What was changed within the last second or two may still be changing: postfix would wait.
    let file = File::options().write(true).open(home.join("main.cf")).expect("open postfix's configuration");
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("set its time");
    let mut command = Command::new("/usr/lib/postfix/sbin/master");
    command.env_clear().arg("-c").arg(home).arg("-d");
    Daemon::start(lab, &lab.origin, "postfix", &mut command, SocketAddr::from((ORIGIN, 587)))
}
