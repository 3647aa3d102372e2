//! Net news (NNTP).

use std::fs;

use presocks_tests::origin::NewsServer;
use presocks_tests::origin::news::GROUP;
use presocks_tests::proxy::Dante;
use presocks_tests::terminal::PROMPT;
use presocks_tests::{Lab, missing};

use super::desk::{converse, dot_file, line, screen};

const PYTHON: &str = "
import nntplib
with nntplib.NNTP('origin.test', user='lab', password='secret') as server:
    print(server.post(b'''From: me@client.test\r
Newsgroups: lab.news\r
Subject: by python\r
\r
An article by python.\r
'''.splitlines(True))[:3])
    print(server.group('lab.news')[1])
    print(server.body(1)[1].lines[0].decode())";

/// An article for the group as a file for a program's queue.
fn article(program: &str) -> String {
    format!(
        "From: me@client.test\nNewsgroups: {GROUP}\nSubject: by {program}\nMessage-ID: <{program}@client.test>\n\n\
         An article by {program}.\n"
    )
}

/// A lab with a proxy and, behind it, a news server.
fn set(needs: &[&str]) -> Option<(NewsServer, Dante, Lab)> {
    if missing(&["danted", "/usr/lib/news/bin/innd", "openssl"]) || missing(needs) {
        return None;
    }
    let lab = Lab::new();
    Some((NewsServer::start(&lab), Dante::with_password(&lab), lab))
}

#[test]
fn news_is_fetched_and_posted_in_batches() {
    let Some((server, proxy, lab)) = set(&["python3", "slrnpull", "tin"]) else { return };
    let python = lab.presocks(["/usr/bin/python3", "-W", "ignore", "-c", PYTHON]).proxy(&proxy);
    python.run().success().stdout_is("240\n1\nAn article by python.\n").stderr_is("");

    dot_file(&lab, "news/slrnpull.conf", "lab.news\n");
    dot_file(&lab, "news/authinfo", "lab\nsecret\n");
    dot_file(&lab, "news/out.going/X1", &article("slrnpull"));
    let home = lab.directory().join("root-home");
    let slrnpull = lab
        .presocks(["slrnpull", "-d", "news", "-h", "origin.test", "--logfile", "news/log"])
        .directory(&home);
    slrnpull.proxy(&proxy).run().success();
    server.article_with("An article by slrnpull.");
    assert!(fs::read_to_string(home.join("news/news/lab/news/1")).unwrap().contains("An article by python."));

    dot_file(&lab, ".newsauth", "origin.test secret lab\n");
    dot_file(&lab, ".newsrc", "lab.news:\n");
    let tin = lab.presocks(["tin", "-r", "-A", "-S"]).env("NNTPSERVER", "origin.test");
    // It mails a log of what it did.
    tin.env("MAILER", "true").proxy(&proxy).run().success();
    assert!(fs::read_to_string(home.join("News/lab/news/1")).unwrap().contains("An article by python."));
    lab.assert_no_leak();
}

/// fetchnews becomes the user `news` before it connects, and speaks of fixed places below /etc and /var.
#[test]
fn leafnode_fetches_and_posts_news() {
    let Some((server, proxy, lab)) = set(&["fetchnews"]) else { return };
    let files = lab.directory().join("leafnode");
    for directory in ["etc/leafnode", "spool/interesting.groups", "spool/out.going"] {
        fs::create_dir_all(files.join(directory)).unwrap();
    }
    let configuration =
        "server = origin.test\nusername = lab\npassword = secret\nexpire = 20\nhostname = client.lab.arpa\n";
    fs::write(files.join("etc/leafnode/config"), configuration).unwrap();
    fs::write(files.join("spool/interesting.groups/lab.news"), "").unwrap();
    fs::write(files.join("spool/out.going/1"), article("leafnode")).unwrap();
    lab.bare(["chown", "-R", "news:news", "leafnode"]).run().success();
    for (directory, place) in [("leafnode/etc", "/etc/news"), ("leafnode/spool", "/var/spool/news")] {
        lab.bare(["mount", "--bind", directory, place]).run().success();
    }
    // Without -w something of it goes on in the background.
    lab.presocks(["fetchnews", "-w"]).proxy(&proxy).run().success();
    server.article_with("An article by leafnode.");
    let fetched = fs::read_to_string(files.join("spool/lab/news/2")).unwrap();
    assert!(fetched.contains("An article by leafnode."), "{fetched}");
    lab.assert_no_leak();
}

/// Answers the prompts of slrn, so that no key is pressed before slrn looks for one.
const SLRN_MACRO: &str = "
define post_article ()
{
    set_input_string (\"lab.news\\nby slrn\");
    set_input_chars (\"y\");
    call (\"post\");
}
definekey (\"post_article\", \"X\", \"group\");
";

#[test]
fn slrn_and_tin_run_on_a_terminal() {
    let Some((server, proxy, lab)) = set(&["slrn", "tin"]) else { return };
    let mut terminal = screen(&lab);
    lab.file("editor", "echo 'An article by slrn.' >> \"$1\"\n");
    lab.file("macro.sl", SLRN_MACRO);
    dot_file(
        &lab,
        ".slrnrc",
        &format!(
            "nnrpaccess \"origin.test\" \"lab\" \"secret\"\nset username \"me\"\nset hostname \"client.test\"\n\
             set confirm_actions 0\ninterpret \"{}/macro.sl\"\n",
            lab.directory().display()
        ),
    );
    dot_file(&lab, ".jnewsrc", "lab.news:\n");
    terminal.command("export VISUAL='sh editor' NNTPSERVER=origin.test");
    terminal.enter(&line(&lab, &proxy, "slrn"));
    converse(&mut terminal, &[("q:Quit", "X"), ("...done", "q"), (PROMPT, "")]);
    server.article_with("An article by slrn.");
    terminal.enter(&line(&lab, &proxy, "slrn"));
    let read = [("q:Quit", " "), ("by slrn", ""), ("q:Quit", " "), ("An article by slrn.", "")];
    converse(&mut terminal, &read);

    dot_file(&lab, ".newsauth", "origin.test secret lab\n");
    dot_file(&lab, ".newsrc", "lab.news:\n");
    // With this there is no page of welcome.
    dot_file(&lab, ".tin/tinrc", "mail_address=me@client.test\n");
    let mut terminal = screen(&lab);
    terminal.command("export NNTPSERVER=origin.test");
    terminal.enter(&line(&lab, &proxy, "tin -r -A lab.news"));
    converse(&mut terminal, &[("Authorized for user", ""), ("by slrn", "")]);
    lab.assert_no_leak();
}
