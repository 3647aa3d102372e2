//! Real proxies that speak something else than SOCKS5: SOCKS4 by Dante and `ssh -D`, SOCKS4a by `ssh -D`, HTTP CONNECT by tinyproxy.
//! (Dante 1.4 takes the address that stands for a name for an address.)

use presocks_tests::origin::{DnsServer, HttpServer, Service, http};
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Dante, Microsocks, SshDynamic, Tinyproxy, Upstream, of_kind};
use presocks_tests::{Lab, missing};

const NEEDS: [&str; 6] = ["danted", "ssh", "sshd", "ssh-keygen", "tinyproxy", "python3"];

/// All of them, and how each is addressed: what it carries differs.
struct Proxies {
    dante: Dante,
    ssh: SshDynamic,
    http: Tinyproxy,
    http_with_password: Tinyproxy,
}

impl Proxies {
    fn start(lab: &Lab) -> Self {
        Self {
            dante: Dante::open(lab),
            ssh: SshDynamic::open(lab),
            http: Tinyproxy::open(lab),
            http_with_password: Tinyproxy::with_password(lab),
        }
    }

    /// Each with destinations that it carries, all of them the origin.
    fn carry(&self) -> Vec<(String, &'static [&'static str])> {
        let (dante, ssh) = (self.dante.url(), self.ssh.url());
        vec![
            (of_kind("socks4", &dante), &["10.88.0.2"]),
            (of_kind("socks4a", &dante), &["10.88.0.2"]),
            (of_kind("socks4", &ssh), &["10.88.0.2"]),
            (of_kind("socks4a", &ssh), &["10.88.0.2", "origin.test", "origin6.test"]),
            (self.http.url(), &["10.88.0.2", "origin.test", "fd88::2", "origin6.test"]),
            (self.http.url6(), &["10.88.0.2", "origin.test", "fd88::2"]),
            (self.http_with_password.url(), &["10.88.0.2", "origin.test", "fd88::2"]),
        ]
    }
}

#[test]
fn curl_fetches_by_name_and_by_address() {
    if missing(&["curl"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxies = Proxies::start(&lab);
    for (proxy, hosts) in proxies.carry() {
        for host in hosts {
            let host = if host.contains(':') { format!("[{host}]") } else { (*host).to_owned() };
            let fetch = lab.presocks(["curl", "-sS", &format!("http://{host}/hello")]).proxy(&proxy).run();
            fetch.success().stdout_is(http::HELLO).stderr_is("");
        }
    }
    lab.assert_no_leak();
}

#[test]
fn nc_carries_bytes_both_ways() {
    if missing(&["nc"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxies = Proxies::start(&lab);
    for (proxy, hosts) in proxies.carry() {
        for host in hosts {
            let mut talk = lab.presocks(["nc", host, "7"]).proxy(&proxy).start();
            for line in ["to the origin and back", "and again"] {
                talk.write(format!("{line}\n"));
                assert_eq!(talk.line(), line);
            }
        }
    }
    lab.assert_no_leak();
}

#[test]
fn an_event_loop_connects_many_times_at_once() {
    const PROGRAM: &str = "
import asyncio, sys
async def one(host):
    reader, writer = await asyncio.open_connection(host, 7)
    writer.write(host.encode() + b'\\n')
    line = await reader.readline()
    writer.close()
    return line == host.encode() + b'\\n'
async def main():
    hosts = sys.argv[1:] * 10
    print(all(await asyncio.gather(*map(one, hosts))))
asyncio.run(main())";
    if missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxies = Proxies::start(&lab);
    for (proxy, hosts) in proxies.carry() {
        let words = ["/usr/bin/python3", "-c", PROGRAM].iter().chain(hosts);
        lab.presocks(words).proxy(&proxy).run().success().stdout_is("True\n").stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn a_server_that_speaks_first_is_heard_from_its_first_byte() {
    const BANNER: &[u8] = b"220 mail.origin.test ESMTP\r\n";
    if missing(&["nc"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _mail = Service::start(&lab, 25, |mut stream| std::io::Write::write_all(&mut stream, BANNER));
    let proxies = Proxies::start(&lab);
    for (proxy, hosts) in proxies.carry() {
        lab.presocks(["nc", "-d", hosts[0], "25"]).proxy(&proxy).run().success().stdout_is(BANNER);
    }
    lab.assert_no_leak();
}

#[test]
fn a_port_where_nobody_listens_is_told_as_each_protocol_can() {
    if missing(&["nc"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let proxies = Proxies::start(&lab);
    let run = |proxy: &str| lab.presocks(["nc", "-zv", "10.88.0.2", "4"]).proxy(proxy).run();
    let refused = run(&of_kind("socks4", &proxies.dante.url()));
    refused.code(1).stderr_has("(reply 91)").stderr_has("Connection refused");
    // tinyproxy has the same status for every failure.
    run(&proxies.http.url()).code(1).stderr_has("HTTP/1.1 500 Unable to connect");
    lab.assert_no_leak();
}

#[test]
fn a_wrong_password_is_told() {
    if missing(&["nc"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let proxy = Tinyproxy::with_password(&lab);
    let wrong = proxy.url().replace("secret", "hunter2");
    for proxy in [proxy.bare_url(), wrong] {
        let run = lab.presocks(["nc", "-zv", "10.88.0.2", "7"]).proxy(&proxy).run();
        run.code(1)
            .stderr_has("wants a user and password, or others (http://USER:PASSWORD@HOST): HTTP/1.")
            .stderr_has("; it offers Basic\n")
            .stderr_has("Permission denied");
        assert!(!run.stderr().contains("hunter2"), "{}", run.report());
    }
    lab.assert_no_leak();
}

#[test]
fn a_proxy_that_wants_what_presocks_does_not_have_is_told_with_what_it_offers() {
    if missing(&["nc"]) {
        return;
    }
    let lab = Lab::new();
    let header = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\n\
                  Proxy-Authenticate: NTLM\r\nContent-Length: 3\r\n\r\nno\n";
    // Whole, in pieces, and with an end before its own.
    for script in [
        Script::new().until("\r\n\r\n").send(header).read_all(),
        Script::new().until("\r\n\r\n").dribble(header).read_all(),
        Script::new().until("\r\n\r\n").send(&header[..header.len() - 10]).close(),
    ] {
        let proxy = script.start(&lab);
        let run = lab.presocks(["nc", "-zv", "10.88.0.2", "7"]).options(["-p", &proxy.url_as("http")]).run();
        run.code(1).stderr_has("the proxy offers Negotiate, NTLM as authentication, and presocks has Basic");
    }
    lab.assert_no_leak();
}

#[test]
fn a_proxy_that_speaks_something_else_is_guessed() {
    if missing(&["nc", "microsocks"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let secure_shell = Script::new().send("SSH-2.0-OpenSSH_9.2p1\r\n").read_all().start(&lab);
    let (dante, ssh) = (Dante::open(&lab), SshDynamic::open(&lab));
    let (microsocks, tinyproxy) = (Microsocks::open(&lab), Tinyproxy::open(&lab));
    for (url, guess) in [
        (of_kind("http", &dante.url()), "(socks5://)"),
        (of_kind("http", &ssh.url()), "(socks5://)"),
        (of_kind("http", &microsocks.url()), "(socks5://)"),
        (tinyproxy.url().replace("http:", "socks5:"), "is it an HTTP proxy (http://)"),
        (secure_shell.url(), "an SSH server"),
    ] {
        let options = ["-p", &url, "--handshake-timeout", "2"];
        let run = lab.presocks(["nc", "-zv", "10.88.0.2", "7"]).options(options).run();
        run.code(1).stderr_has(guess);
    }
    lab.assert_no_leak();
}

#[test]
fn the_environment_may_name_any_kind() {
    if missing(&["curl"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Tinyproxy::with_password(&lab);
    for variable in ["PRESOCKS_PROXY", "ALL_PROXY", "all_proxy"] {
        let fetch =
            lab.presocks(["curl", "-sS", "http://origin.test/hello"]).env(variable, proxy.url()).run();
        fetch.success().stdout_is(http::HELLO).stderr_is("");
    }
    lab.assert_no_leak();
}

/// What goes by the backstop alone, with queries of its own to a name server.
#[test]
fn a_program_with_a_cleared_environment_is_served_alike() {
    if missing(&["curl", "env"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxies = Proxies::start(&lab);
    for (proxy, hosts) in proxies.carry() {
        let page = format!("http://{}/hello", hosts.get(1).unwrap_or(&hosts[0]));
        let fetch = lab.presocks(["env", "-i", "curl", "-sS", &page]).proxy(&proxy).run();
        fetch.success().stdout_is(http::HELLO).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn every_kind_leads_to_a_name_server() {
    if missing(&["dig", "nsd"]) || missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _server = DnsServer::start(&lab);
    let proxies = Proxies::start(&lab);
    for (proxy, hosts) in proxies.carry() {
        for server in hosts {
            let words = ["dig", "+tcp", "+short", "@192.0.2.53", "mail.test", "TXT"];
            let run = lab.presocks(words).proxy(&proxy).options(["--dns", server]).run();
            run.success().stdout_is("\"v=spf1 mx -all\"\n").stderr_is("");
        }
    }
    lab.assert_no_leak();
}
