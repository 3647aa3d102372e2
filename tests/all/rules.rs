//! Rules and rewrites: which way each connection goes, whether the shim or the backstop brings it.

mod agreement;
mod datagrams;
mod direct;
mod links;
mod loopback;
mod names;
mod servers;

use presocks_tests::lab::{ORIGIN, PROXY};
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::proxy::{ScriptedProxy, Upstream};
use presocks_tests::{Invocation, Lab, missing};

/// A lab with a web server, and two proxies that connect to it whatever they are asked for.
struct Scene {
    lab: Lab,
    web: HttpServer,
    first: ScriptedProxy,
    second: ScriptedProxy,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["curl", "busybox", "python3"]) {
            return None;
        }
        let lab = Lab::new();
        let web = HttpServer::start(&lab);
        let proxy = || Script::until_request().send(SUCCESS).relay((ORIGIN, 80)).start(&lab);
        let (first, second) = (proxy(), proxy());
        Some(Self { lab, web, first, second })
    }

    /// A command with these rules, and these options before it. `via=second` is the second proxy.
    fn command(&self, rules: &[&str], options: &[&str], command: &[&str]) -> Invocation<'_> {
        let config = named(&self.lab, &self.first.url(), &self.second.url());
        let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
        self.lab.presocks(command).options(["--config", &config]).options(rules).options(options)
    }

    /// How many connections the proxies have been asked for so far; not those to themselves, by which presocks finds out what they take.
    fn asked(&self) -> (usize, usize) {
        let is_to_itself = |received: &[u8]| received.windows(4).any(|bytes| bytes == PROXY.octets());
        let is_asked = |received: &[u8]| received.len() > 4 && !is_to_itself(received);
        let count = |proxy: &ScriptedProxy| {
            proxy.connections().iter().filter(|connection| is_asked(&connection.received)).count()
        };
        (count(&self.first), count(&self.second))
    }

    /// Fetches `host`'s page by this command, which ends in `http://`; by which proxy that went: 1, 2, or 0 for none.
    #[track_caller]
    fn goes_by(&self, rules: &[&str], options: &[&str], (command, host): (&[&str], &str)) -> usize {
        let before = (self.asked(), self.web.connections());
        let page = format!("http://{host}/hello");
        let words: Vec<_> = command.iter().copied().chain([page.as_str()]).collect();
        self.command(rules, options, &words).run().success().stdout_is(http::HELLO).stderr_is("");
        assert!(self.web.connections() > before.1, "{words:?}");
        let after = self.asked();
        match (after.0 - before.0.0, after.1 - before.0.1) {
            (0, 0) => 0,
            // Some programs try both families when the first answer takes its time.
            (1 | 2, 0) => 1,
            (0, 1 | 2) => 2,
            other => panic!("{words:?} asked the proxies for {other:?} connections"),
        }
    }
}

/// A configuration whose proxy is `first`, and which calls another `second`.
fn named(lab: &Lab, first: &str, second: &str) -> String {
    let text = format!("proxy = \"{first}\"\n\n[proxies]\nsecond = \"{second}\"\n");
    lab.file("config.toml", text).to_str().unwrap().to_owned()
}

const CURL: &[&str] = &["curl", "-sS", "--max-time", "20"];
/// Without the shim: the backstop catches it.
const CAUGHT: &[&str] = &["env", "-i", "curl", "-sS", "--max-time", "20"];
/// A static program with a resolver of its own.
const BUSYBOX: &[&str] = &["busybox", "wget", "-qO-"];
const ALL: [&[&str]; 3] = [CURL, CAUGHT, BUSYBOX];

#[test]
fn names_networks_ports_and_programs_choose_the_proxy_for_hooked_and_caught_programs_alike() {
    let Some(scene) = Scene::set() else { return };
    for command in ALL {
        for (rules, host, way) in [
            (&["name=origin.test via=second"][..], "origin.test", 2),
            (&["name=origin.test via=second"], "a.test", 1),
            (&["name=.test via=second"], "a.test", 2),
            (&["name=*.test port=81-90 via=second"], "a.test", 1),
            (&["name=?.test port=79-80 protocol=tcp via=second"], "a.test", 2),
            (&["address=10.88.0.0/24 via=second"], "10.88.0.2", 2),
            (&["address=10.88.0.0/24 via=second"], "origin.test", 1),
            (&["protocol=udp via=second"], "10.88.0.2", 1),
            (&["name=a.test via=proxy", "name=.test via=second"], "a.test", 1),
        ] {
            assert_eq!(scene.goes_by(rules, &[], (command, host)), way, "{command:?} {rules:?} {host}");
        }
    }
    let rules = &["program=busybox,nothing via=second"];
    for (command, way) in [(CURL, 1), (CAUGHT, 1), (BUSYBOX, 2)] {
        assert_eq!(scene.goes_by(rules, &[], (command, "origin.test")), way, "{command:?}");
    }
    for command in [CURL, CAUGHT] {
        assert_eq!(
            scene.goes_by(&["program=c?r* via=second"], &[], (command, "10.88.0.2")),
            2,
            "{command:?}"
        );
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_script_goes_by_its_own_name_however_long_and_by_its_interpreters() {
    let Some(scene) = Scene::set() else { return };
    let content = "#!/usr/bin/python3 -s
import sys, urllib.request
sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())
";
    let script = scene.lab.file("fetch-the-page-of-a-host", content);
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = script.to_str().unwrap();
    for command in [&[path][..], &["env", "-i", path]] {
        for (rule, way) in [
            ("program=fetch-the-page-of-a-host via=second", 2),
            ("program=fetch-the-page* via=second", 2),
            ("program=python3* via=second", 2),
            ("program=fetch-the-page-of-another via=second", 1),
            ("program=fetch via=second", 1),
        ] {
            assert_eq!(scene.goes_by(&[rule], &[], (command, "10.88.0.2")), way, "{command:?} {rule}");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn what_a_rule_denies_fails_with_eacces_and_one_line_for_each_rule() {
    let Some(scene) = Scene::set() else { return };
    let script = "
import socket
for place in ('origin.test', 80), ('10.88.0.2', 80), ('a.test', 80), ('10.88.0.2', 81):
    try: socket.create_connection(place, 10); print('connected')
    except OSError as error: print(error.errno)
";
    let rules =
        ["name=.test via=deny", "address=10.0.0.0/8 port=1-80 via=deny", "address=10.0.0.0/8 via=deny"];
    for before in [&[][..], &["env", "-i"]] {
        let words: Vec<_> = before.iter().copied().chain(["/usr/bin/python3", "-c", script]).collect();
        let run = scene.command(&rules, &[], &words).run();
        let expected = "presocks: origin.test:80: a rule denies it (--rule: name=.test)\n\
            presocks: 10.88.0.2:80: a rule denies it (--rule: address=10.0.0.0/8 port=1-80)\n\
            presocks: 10.88.0.2:81: a rule denies it (--rule: address=10.0.0.0/8)\n";
        run.success().stdout_is("13\n".repeat(4)).stderr_is(expected);
    }
    scene
        .command(&["program=busybox via=deny"], &[], &["busybox", "wget", "http://10.88.0.2/"])
        .run()
        .code(1);
    let config =
        scene.lab.file("deny.toml", format!("proxy = \"{}\"\ndefault = \"deny\"\n", scene.first.url()));
    let config = config.to_str().unwrap();
    let run = scene.lab.presocks(["curl", "-sS", "http://10.88.0.2/"]).options(["--config", config]).run();
    run.code(7).stderr_has("presocks: 10.88.0.2:80: no rule permits it");
    assert_eq!((scene.asked(), scene.web.connections()), ((0, 0), 0));
    scene.lab.assert_no_leak();
}

#[test]
fn what_a_rule_calls_direct_goes_directly_and_nothing_else_does() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.permit_direct("10.88.0.2");
    let rules = &["address=10.88.0.0/24 port=80 via=direct"];
    for command in ALL {
        assert_eq!(scene.goes_by(rules, &[], (command, "10.88.0.2")), 0, "{command:?}");
        assert_eq!(scene.goes_by(rules, &[], (command, "origin.test")), 1, "{command:?}");
        assert_eq!(scene.goes_by(rules, &[], (command, "[fd88::2]")), 1, "{command:?}");
    }
    let rules = &["program=busybox address=10.88.0.2 via=direct"];
    for (command, way) in [(CURL, 1), (CAUGHT, 1), (BUSYBOX, 0)] {
        assert_eq!(scene.goes_by(rules, &[], (command, "10.88.0.2")), way, "{command:?}");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn with_only_the_rest_is_direct_and_no_name_server_learns_a_name_of_the_list() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.permit_direct("10.88.0.2");
    let only = &["--only", ".test,fd88::/16"];
    for command in ALL {
        for (host, way) in [("origin.test", 1), ("a.test", 1), ("[fd88::2]", 1), ("10.88.0.2", 0)] {
            assert_eq!(scene.goes_by(&[], only, (command, host)), way, "{command:?} {host}");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn names_and_addresses_are_rewritten_before_the_rules() {
    let Some(scene) = Scene::set() else { return };
    let rules = &["address=10.88.0.0/24 port=8080 via=second"];
    for command in ALL {
        let rewrite = &["--rewrite", "old.example:80=10.88.0.2:8080", "--rewrite", "192.0.2.9=new.example"];
        assert_eq!(scene.goes_by(rules, rewrite, (command, "old.example")), 2, "{command:?}");
        assert_eq!(scene.goes_by(rules, rewrite, (command, "192.0.2.9")), 1, "{command:?}");
    }
    let has = |proxy: &ScriptedProxy, request: &[u8]| {
        proxy.connections().iter().filter(|each| each.received.ends_with(request)).count()
    };
    assert_eq!(has(&scene.second, b"\x01\x0a\x58\x00\x02\x1f\x90"), 3);
    assert_eq!(has(&scene.first, b"\x03\x0bnew.example\0\x50"), 3);
    scene.lab.assert_no_leak();
}

#[test]
fn an_explanation_connects_nothing() {
    let Some(scene) = Scene::set() else { return };
    let explain = |rules: &[&str], words: &[&str]| {
        let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
        let config = named(&scene.lab, &scene.first.url(), &scene.second.url());
        let run = scene.lab.presocks(words).options(["--config", &config]).options(rules).run();
        run.success().stderr_is("");
        run.stdout()
    };
    let rules = ["name=.test via=second", "program=busybox via=deny"];
    let answer = explain(&rules, &["--explain", "origin.test:80"]);
    assert!(
        answer.contains("rule: --rule: name=.test\n") && answer.contains(&scene.second.url()),
        "{answer}"
    );
    let answer = explain(&rules, &["--explain", "10.88.0.2:80", "/bin/busybox", "wget"]);
    assert!(answer.contains("denied"), "{answer}");
    let answer = explain(&rules, &["--explain", "10.88.0.2:80", "curl"]);
    assert!(answer.contains(&scene.first.url()), "{answer}");
    assert!(scene.first.connections().is_empty() && scene.second.connections().is_empty());
    scene.lab.assert_no_leak();
}
