//! Programs that fetch a message which waits in the mailbox, by POP3 and by IMAP.

use std::fs;

use presocks_tests::terminal::PROMPT;

use super::Scene;
use crate::recipes::desk::{converse, line, screen};

const TEXT: &str = "A message that waited.";

impl Scene {
    /// Puts the message into the mailbox.
    fn deliver(&self) {
        let message = format!("From: you@origin.test\nTo: me@client.test\nSubject: from afar\n\n{TEXT}\n");
        self.server.deliver(&message);
    }
}

const POPLIB: &str = "
import poplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
box = poplib.POP3_SSL('origin.test', context=context)
box.user('lab')
box.pass_('secret')
print(box.retr(1)[1][-1].decode())
box.quit()";

const IMAPLIB: &str = "
import imaplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
with imaplib.IMAP4('origin.test') as box:
    box.starttls(context)
    box.login('lab', 'secret')
    box.select('INBOX', readonly=True)
    print(box.fetch('1', '(BODY[TEXT])')[1][0][1].decode().strip())";

#[test]
fn curl_and_python_fetch_a_message() {
    let Some(scene) = Scene::set(&["curl", "python3"]) else { return };
    scene.deliver();
    for place in ["pop3s://origin.test/1", "imaps://origin.test/INBOX;MAILINDEX=1"] {
        let words = ["curl", "-sS", "-u", "lab:secret", place, "--cacert", scene.authority()];
        scene.presocks(&words).run().success().stdout_has(TEXT).stderr_is("");
    }
    for program in [POPLIB, IMAPLIB] {
        let words = ["/usr/bin/python3", "-c", program, scene.authority()];
        scene.presocks(&words).run().success().stdout_is(format!("{TEXT}\n")).stderr_is("");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn fetchmail_and_mpop_fetch_a_message() {
    let Some(scene) = Scene::set(&["fetchmail", "mpop"]) else { return };
    scene.deliver();
    for protocol in ["pop3", "imap"] {
        let inbox = scene.lab.directory().join(protocol);
        scene.dot_file(
            ".fetchmailrc",
            &format!(
                "poll origin.test protocol {protocol} user lab password secret ssl sslcertfile {}\n\
                 keep fetchall mda \"cat > {}\"\n",
                scene.authority(),
                inbox.display()
            ),
        );
        scene.presocks(&["fetchmail"]).run().success();
        assert!(fs::read_to_string(inbox).unwrap().contains(TEXT));
    }
    let inbox = scene.lab.directory().join("inbox");
    scene.dot_file(
        ".mpoprc",
        &format!(
            "account default\nhost origin.test\nport 995\ntls on\ntls_starttls off\nauth on\nuser lab\npassword secret\nkeep on\n\
             delivery mbox {}\ntls_trust_file {}\n",
            inbox.display(),
            scene.authority()
        ),
    );
    scene.presocks(&["mpop", "-q"]).run().success();
    assert!(fs::read_to_string(inbox).unwrap().contains(TEXT));
    scene.lab.assert_no_leak();
}

#[test]
fn mutt_reads_a_message_by_imap() {
    let Some(scene) = Scene::set(&["mutt"]) else { return };
    scene.deliver();
    scene.dot_file(
        ".muttrc",
        &format!("set folder = imaps://lab@origin.test/\nset imap_pass = secret\nset quit = yes\nset certificate_file = {}\n", scene.authority()),
    );
    let mut terminal = screen(&scene.lab);
    terminal.enter(&line(&scene.lab, &scene.proxy, "mutt -f imaps://lab@origin.test/"));
    let read = [("from afar", "\n"), (TEXT, "qx"), (PROMPT, "")];
    converse(&mut terminal, &read);
    scene.lab.assert_no_leak();
}
