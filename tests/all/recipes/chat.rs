//! Instant messaging: IRC and XMPP.

use presocks_tests::certificates::Signed;
use presocks_tests::lab::PASSWORD;
use presocks_tests::origin::dns::QUAD9;
use presocks_tests::origin::{DnsServer, IrcServer, XmppServer};
use presocks_tests::proxy::{Dante, Upstream};
use presocks_tests::terminal::{PROMPT, Terminal};
use presocks_tests::{Lab, Running, binary, missing};

/// Reads what a program prints up to a line that has `text`.
fn read_until(program: &mut Running, text: &str) {
    while !program.line().contains(text) {}
}

/// `presocks -p PROXY`, for a shell.
fn wrapper(proxy: &Dante) -> String {
    format!("{} -p {}", binary::presocks().display(), proxy.url())
}

#[test]
fn sic_and_irssi_talk_on_a_channel() {
    if missing(&["danted", "ngircd", "sic", "irssi"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password(&lab);
    let certificate = Signed::for_the_origin(&lab);
    let _server = IrcServer::start(&lab, &certificate);
    let mut alice = lab.presocks(["sic", "-h", "origin.test", "-n", "alice"]).proxy(&proxy).start();
    read_until(&mut alice, "Welcome to the Internet Relay Network");
    alice.write(":j #lab\n");
    read_until(&mut alice, "End of NAMES list");

    // irssi waits 2.2 s between messages from the fifth on, so as not to flood a server.
    std::fs::create_dir(lab.directory().join("irssi")).unwrap();
    lab.file("irssi/config", "settings = { \"irc/core\" = { cmd_queue_speed = \"10msec\"; }; };\n");
    let authority = certificate.authority.display();
    let secure = format!("-tls -tls_verify -tls_cafile {authority} origin.test 6697");
    for (command, server) in [("irssi", "origin.test"), ("irssi", &secure)] {
        let mut terminal = Terminal::open(&lab);
        terminal.enter(&format!("TERM=xterm {} {command} --home irssi --nick bob", wrapper(&proxy)));
        terminal.wait_for("[(status)]");
        terminal.press(&format!("/connect {server}\n"));
        terminal.wait_for("Welcome to the Internet Relay Network");
        terminal.press("/join #lab\n");
        read_until(&mut alice, "JOIN (): #lab");
        alice.write("hello from sic\n");
        terminal.wait_for("hello from sic");
        terminal.press("hello from irssi\n");
        read_until(&mut alice, "<bob> hello from irssi");
        terminal.press("/quit\n");
        read_until(&mut alice, "bob         : ");
        terminal.wait_for(PROMPT);
    }
    alice.write(":QUIT\n");
    let _ = alice.finish();
    lab.assert_no_leak();
}

#[test]
fn xmpp_clients_send_messages_to_an_account() {
    if missing(&["danted", "prosody", "nsd", "profanity", "go-sendxmpp", "sendxmpp"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password(&lab);
    let certificate = Signed::for_the_origin(&lab);
    let (_server, _names) = (XmppServer::start(&lab, &certificate), DnsServer::start_at(&lab, &[QUAD9]));
    let authority = certificate.authority.as_os_str();
    let mut bob = lab
        .presocks(["go-sendxmpp", "-u", "bob@chat.test", "-p", PASSWORD, "--listen"])
        .proxy(&proxy)
        .env("SSL_CERT_FILE", authority)
        .start();
    let send =
        lab.presocks(["go-sendxmpp", "-u", "alice@chat.test", "-p", PASSWORD, "bob@chat.test"]).proxy(&proxy);
    send.env("SSL_CERT_FILE", authority).stdin("hello from go\n").run().success();
    read_until(&mut bob, "alice@chat.test: hello from go");

    let trusted = format!("--tls-ca-path={}", certificate.authority.display());
    let words =
        ["sendxmpp", "-t", "-u", "alice", "-j", "origin.test", "-p", PASSWORD, &trusted, "bob@chat.test"];
    lab.presocks(words).proxy(&proxy).stdin("hello from sendxmpp\n").run().success();
    read_until(&mut bob, "alice@origin.test: hello from sendxmpp");

    let mut terminal = Terminal::open(&lab);
    terminal.enter(&format!("export SSL_CERT_FILE={}", certificate.authority.display()));
    terminal.wait_for(PROMPT);
    terminal.enter(&format!("TERM=xterm {} profanity", wrapper(&proxy)));
    terminal.wait_for("Profanity");
    // The name server of chat.test says where its XMPP server is; of origin.test it knows nothing.
    for account in ["alice@chat.test", "alice@origin.test"] {
        terminal.press(&format!("/connect {account}\r"));
        terminal.wait_for("assword");
        terminal.press(&format!("{PASSWORD}\r"));
        terminal.wait_for(" logged in");
        terminal.press("/msg bob@chat.test hello from profanity\r");
        read_until(&mut bob, &format!("{account}: hello from profanity"));
        terminal.press("/disconnect\r");
        terminal.wait_for(" logged out");
    }
    lab.assert_no_leak();
}

#[test]
fn irssi_sends_a_file_by_dcc_to_another_that_the_server_only_introduces() {
    if missing(&["danted", "ngircd", "irssi"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::listening_for_anybody(&lab);
    let _server = IrcServer::start(&lab, &Signed::for_the_origin(&lab));
    let received = lab.directory().join("received");
    std::fs::create_dir(&received).unwrap();
    let file = lab.file("file.txt", "a file for alice\n");
    let [mut alice, mut bob] = [("alice", ""), ("bob", " --bind=any")].map(|(nick, bind)| {
        let home = lab.directory().join(nick);
        std::fs::create_dir(&home).unwrap();
        let config = format!(
            "settings = {{ \"irc/dcc\" = {{ dcc_autoget = \"yes\"; dcc_download_path = \"{}\"; }}; }};\n",
            received.display()
        );
        std::fs::write(home.join("config"), config).unwrap();
        let mut terminal = Terminal::open(&lab);
        terminal.enter(&format!("TERM=xterm {}{bind} irssi --home {nick} --nick {nick}", wrapper(&proxy)));
        terminal.wait_for("[(status)]");
        terminal.press("/connect origin.test\n");
        terminal.wait_for("Welcome to the Internet Relay Network");
        terminal
    });
    bob.press(&format!("/dcc send alice {}\n", file.display()));
    bob.wait_for("sent file");
    alice.wait_for("received file");
    assert_eq!(std::fs::read_to_string(received.join("file.txt")).unwrap(), "a file for alice\n");
    for terminal in [&mut alice, &mut bob] {
        terminal.press("/quit\n");
        terminal.wait_for(PROMPT);
    }
    lab.assert_no_leak();
}
