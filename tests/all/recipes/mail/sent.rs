//! Programs that send a message to the port for submission: STARTTLS, then user and password.

use super::Scene;

/// What a program is to send.
fn message(program: &str) -> String {
    format!("From: me@client.test\nTo: you@origin.test\nSubject: by {program}\n\nA message by {program}.\n")
}

const PYTHON: &str = "
import smtplib, ssl, sys
with smtplib.SMTP('origin.test', 587) as server:
    server.starttls(context=ssl.create_default_context(cafile=sys.argv[1]))
    server.login('lab', 'secret')
    server.sendmail('me@client.test', 'you@origin.test', sys.stdin.read())";

#[test]
fn programs_for_scripts_send_a_message() {
    let Some(scene) = Scene::set(&["swaks", "curl", "msmtp", "python3"]) else { return };
    let swaks =
        "swaks --server origin.test:587 --tls --auth-user lab --auth-password secret --from me@client.test";
    let mut swaks: Vec<_> = swaks.split(' ').collect();
    swaks.extend([
        "--to",
        "you@origin.test",
        "--header",
        "Subject: by swaks",
        "--body",
        "A message by swaks.",
    ]);
    scene.presocks(&swaks).run().success();
    scene.arrived("swaks");

    let curl =
        "curl -sS --ssl-reqd smtp://origin.test:587 -u lab:secret --mail-from me@client.test --mail-rcpt";
    let mut curl: Vec<_> = curl.split(' ').collect();
    curl.extend(["you@origin.test", "-T", "-", "--cacert", scene.authority()]);
    scene.presocks(&curl).stdin(message("curl")).run().success().stderr_is("");
    scene.arrived("curl");

    scene.dot_file(
        ".msmtprc",
        &format!(
            "host origin.test\nport 587\ntls on\nauth on\nuser lab\npassword secret\nfrom me@client.test\n\
             tls_trust_file {}\n",
            scene.authority()
        ),
    );
    let msmtp = scene.presocks(&["msmtp", "you@origin.test"]).stdin(message("msmtp"));
    msmtp.run().success().stderr_is("");
    scene.arrived("msmtp");

    let python = ["/usr/bin/python3", "-c", PYTHON, scene.authority()];
    scene.presocks(&python).stdin(message("python")).run().success().stderr_is("");
    scene.arrived("python");
    scene.lab.assert_no_leak();
}

#[test]
fn mail_user_agents_send_a_message() {
    let Some(scene) = Scene::set(&["mutt", "s-nail"]) else { return };
    scene.dot_file(
        ".muttrc",
        &format!(
            "set from = me@client.test\nset smtp_url = smtp://lab@origin.test:587\nset smtp_pass = secret\n\
             set ssl_starttls = yes\nset certificate_file = {}\n",
            scene.authority()
        ),
    );
    let mutt = scene.presocks(&["mutt", "-s", "by mutt", "you@origin.test"]).stdin("A message by mutt.\n");
    mutt.run().success();
    scene.arrived("mutt");

    let mailrc = scene.lab.file(
        "mailrc",
        format!(
            "set v15-compat\nset from=me@client.test\nset mta=smtp://lab:secret@origin.test:587\n\
             set smtp-use-starttls\nset sendwait\nset tls-ca-file={}\nset tls-verify=strict\n",
            scene.authority()
        ),
    );
    let nail =
        scene.presocks(&["s-nail", "-s", "by s-nail", "you@origin.test"]).stdin("A message by s-nail.\n");
    // For root it takes the home of /etc/passwd.
    let nail = nail.env("MAILRC", mailrc);
    nail.run().success().stderr_is("");
    scene.arrived("s-nail");
    scene.lab.assert_no_leak();
}

impl Scene {
    /// The program's message is in the mailbox, and was taken from an authenticated user over TLS.
    #[track_caller]
    fn arrived(&self, program: &str) {
        let message = self.server.message_with(&format!("A message by {program}."));
        for line in [&format!("\nSubject: by {program}\n"), " with ESMTPSA "] {
            assert!(message.contains(line), "no {line:?} in:\n{message}");
        }
    }
}
