//! The names that this machine has without a line in /etc/hosts: its own (uname(2)), and those of localhost, as glibc's nss-myhostname knows them.

use std::io::{BufRead, BufReader, Write};

use presocks_tests::origin::Service;
use presocks_tests::proxy::ScriptedProxy;
use presocks_tests::proxy::Upstream;
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::{Invocation, Lab, binary, missing};

/// getent's status when it finds nothing.
const UNKNOWN: i32 = 2;

/// A lab whose client has no line with its own name, which is "client", in /etc/hosts, and a proxy that takes whatever it is asked for.
struct Scene {
    lab: Lab,
    proxy: ScriptedProxy,
}

impl Scene {
    fn set(needs: &[&str]) -> Option<Self> {
        if missing(needs) {
            return None;
        }
        let lab = Lab::new();
        let scene = Self { proxy: Script::until_request().send(SUCCESS).read_all().start(&lab), lab };
        scene.hosts("127.0.0.1 localhost\n");
        Some(scene)
    }

    /// The client's /etc/hosts.
    fn hosts(&self, content: &str) {
        std::fs::write(self.lab.directory().join("etc-client/hosts"), content).unwrap();
    }

    fn presocks<'a>(&'a self, words: &[&'a str]) -> Invocation<'a> {
        self.lab.presocks(words).proxy(&self.proxy)
    }

    /// What getent prints first on each line, hooked and caught.
    #[track_caller]
    fn looked_up(&self, database: &str, name: &str) -> Vec<String> {
        let words = ["env", "-i", "getent", database, name];
        let [hooked, caught] = [&words[2..], &words].map(|words| {
            let run = self.presocks(words).run();
            let first = |line: &str| line.split_whitespace().next().unwrap().to_owned();
            let found = run.stdout().lines().map(first).collect::<Vec<_>>();
            run.code(if found.is_empty() { UNKNOWN } else { 0 }).stderr_is("");
            found
        });
        assert_eq!(hooked, caught, "{database} {name}");
        hooked
    }

    #[track_caller]
    fn ends_without_a_question(&self) {
        assert!(self.proxy.connections().is_empty());
        self.lab.assert_no_leak();
    }
}

#[test]
fn the_machines_own_name_and_those_of_localhost_are_this_machine() {
    let Some(scene) = Scene::set(&["getent"]) else { return };
    for name in ["client", "CLIENT", "client."] {
        assert_eq!(scene.looked_up("ahostsv4", name), ["127.0.0.2"; 3], "{name}");
        assert_eq!(scene.looked_up("ahostsv6", name), ["::1"; 3], "{name}");
    }
    for name in ["localhost", "web.localhost", "localhost.localdomain.", "Web.LocalHost.localdomain"] {
        assert_eq!(scene.looked_up("ahostsv4", name), ["127.0.0.1"; 3], "{name}");
    }
    for name in ["_gateway", "_outbound", "_Gateway.", "_localdnsstub", "_localdnsproxy"] {
        assert!(scene.looked_up("ahosts", name).is_empty(), "{name}");
    }
    for name in
        ["client.example", "aclient", "localhost.localdomain.example", "_gateway.example", "localdomain"]
    {
        assert!(scene.looked_up("ahostsv4", name)[0].starts_with("198.1"), "{name}");
    }
    scene.ends_without_a_question();
}

#[test]
fn the_machines_own_addresses_have_its_name() {
    let Some(scene) = Scene::set(&["getent", "dig"]) else { return };
    let name = |address: &str| {
        let run = scene.presocks(&["getent", "hosts", address]).run();
        let found = run.stdout().split_whitespace().nth(1).map(str::to_owned);
        run.code(if found.is_some() { 0 } else { UNKNOWN });
        found
    };
    for (address, expected) in [
        ("127.0.0.2", "client"),
        ("10.77.0.2", "client"),
        ("fd77::2", "client"),
        ("127.0.0.1", "localhost"),
        ("::1", "localhost"),
    ] {
        assert_eq!(name(address).as_deref(), Some(expected), "{address}");
        let run = scene.presocks(&["dig", "+short", "+tries=1", "@192.0.2.53", "-x", address]).run();
        run.success().stdout_is(format!("{expected}.\n"));
    }
    assert_eq!(name("10.88.0.2"), None);
    scene.ends_without_a_question();
}

#[test]
fn a_service_of_this_machine_is_reached_by_its_name() {
    let Some(scene) = Scene::set(&["curl", "busybox"]) else { return };
    let service = Service::start_on(&scene.lab.client, 8080, |mut stream| {
        // One that is closed with the request unread is reset.
        let _ = BufReader::new(stream).lines().map_while(Result::ok).find(String::is_empty);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhere\n")
    });
    let clients = [&["curl", "-sS"][..], &["env", "-i", "curl", "-sS"], &["busybox", "wget", "-qO-"]];
    let pages = ["client", "Client.", "a.localhost.localdomain"].map(|name| format!("http://{name}:8080/"));
    for client in clients {
        for page in &pages {
            let words = [client, &[page.as_str()]].concat();
            scene.presocks(&words).run().success().stdout_is("here\n").stderr_is("");
        }
    }
    assert_eq!(service.connections(), clients.len() * pages.len());
    scene.ends_without_a_question();
}

#[test]
fn etc_hosts_and_rules_come_before_the_machines_own_name() {
    let Some(scene) = Scene::set(&["getent"]) else { return };
    scene.hosts("127.0.0.1 localhost\n192.0.2.7 client\n192.0.2.8 _gateway\n");
    assert_eq!(scene.looked_up("ahostsv4", "client"), ["192.0.2.7"; 3]);
    assert_eq!(scene.looked_up("ahostsv4", "_gateway"), ["192.0.2.8"; 3]);
    scene.hosts("127.0.0.1 localhost\n");
    for before in [&[][..], &["env", "-i"]] {
        let words = [before, &["getent", "ahostsv4", "client"]].concat();
        let run = scene.presocks(&words).options(["--rule", "name=client via=proxy"]).run();
        run.success().stdout_has("198.1");
    }
    let explained = scene.presocks(&["--explain", "client:80"]).run();
    explained.success().stdout_has("client is ::1 on this machine\n");
    let explained = scene.presocks(&["--explain", "_gateway:80"]).run();
    explained.success().stdout_is("_gateway: there is no such name\n");
    scene.ends_without_a_question();
}

#[test]
fn no_name_server_hears_of_the_machines_own_name_unless_that_is_one_of_the_dns() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    for (name, kind) in
        [("client", "MX"), ("CLIENT", "TXT"), ("_gateway", "NS"), ("a.localhost.localdomain", "MX")]
    {
        let run = scene.presocks(&["dig", "+tcp", "+tries=1", "@192.0.2.53", name, kind]).run();
        run.success().stdout_has("status: NOERROR").stdout_has("ANSWER: 0");
    }
    scene.ends_without_a_question();
    // A name with a domain is one of the DNS as well: its mail exchanger is there.
    let own = "hostname client.mail.example && exec \"$0\" \"$@\"";
    let presocks = binary::presocks().to_str().unwrap();
    let url = scene.proxy.url();
    let within = ["unshare", "--uts", "sh", "-c", own, presocks, "-p", &url];
    let run = |words: &[&str]| scene.lab.bare([&within[..], words].concat()).run();
    run(&["getent", "ahostsv4", "Client.mail.example"]).success().stdout_has("127.0.0.2");
    run(&["getent", "ahostsv4", "client"]).success().stdout_has("198.1");
    run(&["getent", "hosts", "10.77.0.2"]).success().stdout_has("client.mail.example");
    assert!(scene.proxy.connections().is_empty());
    let _ = run(&["dig", "+tcp", "+tries=1", "+time=1", "@192.0.2.53", "client.mail.example", "MX"]);
    assert!(!scene.proxy.connections().is_empty());
    scene.lab.assert_no_leak();
}
