//! Remote shells and small look-ups: telnet, rlogin, finger, whois.

use std::io::{BufRead, BufReader, Write};

use presocks_tests::lab::PASSWORD;
use presocks_tests::origin::{DnsServer, Inetd, Service};
use presocks_tests::proxy::{Dante, Upstream};
use presocks_tests::terminal::{PROMPT, Terminal};
use presocks_tests::{Lab, binary, missing};

/// Logs in on the origin by this command, under presocks, and asks there who and where one is.
fn log_in(lab: &Lab, proxy: &Dante, command: &str, user: Option<&str>) {
    let mut terminal = Terminal::open(lab);
    terminal.enter(&format!("{} -p {} {command}", binary::presocks().display(), proxy.url()));
    if let Some(user) = user {
        terminal.wait_for("login: ");
        terminal.press(&format!("{user}\r"));
    }
    terminal.wait_for("Password: ");
    terminal.press(&format!("{PASSWORD}\r"));
    terminal.wait_for("$ ");
    terminal.press("echo $(id -un) at $(hostname); exit\r");
    terminal.wait_for("\nlab at origin\r\n");
    terminal.wait_for(PROMPT);
}

#[test]
fn telnet_finger_and_whois_reach_their_servers() {
    if missing(&["danted", "inetd", "telnetd", "telnet", "in.fingerd", "finger", "whois"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password(&lab);
    let _inetd = Inetd::start(&lab);
    let _whois = Service::start(&lab, 43, |mut stream| {
        let mut query = String::new();
        BufReader::new(stream).read_line(&mut query)?;
        write!(stream, "domain: {}\r\nstatus: registered\r\n", query.trim_end())
    });
    log_in(&lab, &proxy, "telnet origin.test", Some("lab"));
    let finger = lab.presocks(["finger", "lab@origin.test"]).proxy(&proxy).run();
    finger.success().stdout_has("Login: lab").stdout_has("Shell: /bin/sh");
    let whois = lab.presocks(["whois", "-h", "origin.test", "name.test"]).proxy(&proxy).run();
    whois.success().stdout_is("domain: name.test\nstatus: registered\n").stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn rlogin_logs_in_from_a_privileged_port_that_the_proxy_keeps() {
    if missing(&["danted", "inetd", "in.rlogind", "nsd", "rlogin"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::with_password_and_same_ports(&lab);
    // rlogind turns away a client of whom no name server says that it has no name.
    let (_names, _inetd) = (DnsServer::start(&lab), Inetd::start(&lab));
    log_in(&lab, &proxy, "rlogin -l lab origin.test", None);
    let rlogin = lab.presocks(["rlogin", "-l", "lab", "origin.test"]).proxy(&proxy);
    rlogin.ordinary_user().run().stderr_has("behind the backstop it runs without them");
    lab.assert_no_leak();
}
