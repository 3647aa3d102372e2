//! Rules about names that could get past them: those of /etc/hosts, addresses written as names, and questions about names.

use presocks_tests::origin::DnsServer;
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Upstream};
use presocks_tests::{Build, Invocation, Lab, missing};

use super::{ALL, CURL, Scene, named};

/// Lines more for the client's /etc/hosts.
pub(super) fn know(lab: &Lab, names: &str) {
    let path = lab.directory().join("etc-client/hosts");
    let known = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{known}{names}")).unwrap();
}

/// How many requests of the proxy end in these bytes: a host and a port.
fn has(proxy: &ScriptedProxy, request: &[u8]) -> usize {
    proxy.connections().iter().filter(|each| each.received.ends_with(request)).count()
}

const HOSTED: &str = "10.88.0.2 hosted.test free.example\n";

#[test]
fn rules_and_rewrites_and_only_hear_of_a_name_that_etc_hosts_has_for_a_hooked_program() {
    let Some(scene) = Scene::set() else { return };
    know(&scene.lab, HOSTED);
    scene.lab.permit_direct("10.88.0.2");
    for (rules, options, host, way) in [
        (&["name=hosted.test via=second"][..], &[][..], "hosted.test", 2),
        (&["name=.test via=second", "address=10.0.0.0/8 via=direct"], &[], "hosted.test", 2),
        (&[], &["--only", "hosted.test"], "hosted.test", 1),
        (&[], &["--only", "hosted.test"], "free.example", 0),
        (&[], &["--rewrite", "hosted.test=new.example"], "hosted.test", 1),
    ] {
        let went = scene.goes_by(rules, options, (CURL, host));
        assert_eq!(went, way, "{rules:?} {options:?} {host}");
    }
    let denied = ["name=hosted.test via=deny"];
    let before = (scene.asked(), scene.web.connections());
    let words = [CURL, &["http://hosted.test/hello"]].concat();
    let run = scene.command(&denied, &[], &words).run();
    assert!(!run.stdout().contains("hello"), "{}", run.report());
    run.stderr_has("presocks: hosted.test:80: a rule denies it (--rule: name=hosted.test)\n");
    assert_eq!((scene.asked(), scene.web.connections()), before);
    assert_eq!(has(&scene.first, b"\x03\x0bnew.example\0\x50"), 1);
    scene.lab.assert_no_leak();
}

#[test]
fn a_name_of_etc_hosts_of_which_no_rule_speaks_is_its_address_to_the_rules() {
    let Some(scene) = Scene::set() else { return };
    know(&scene.lab, HOSTED);
    let rules = ["name=other.test via=deny", "address=10.88.0.0/24 via=second"];
    for command in ALL {
        assert_eq!(scene.goes_by(&rules, &[], (command, "hosted.test")), 2, "{command:?}");
    }
    assert_eq!(has(&scene.second, b"\x01\x0a\x58\x00\x02\0\x50"), ALL.len());
    scene.lab.assert_no_leak();
}

#[test]
fn what_is_rewritten_to_localhost_is_on_this_machine() {
    let Some(scene) = Scene::set() else { return };
    let script = "
import socket, sys
here = socket.create_server(('127.0.0.1', 2001))
for name in sys.argv[1:]:
    near = socket.create_connection((name, 80), 10)
    far, _ = here.accept()
    near.send(b'near'); print(name, far.recv(9).decode())
";
    let rewrites = [
        "--rewrite",
        "a.example=localhost:2001",
        "--rewrite",
        "b.example=LocalHost.:2001",
        "--rewrite",
        "c.example=web.localhost:2001",
    ];
    for before in [&[][..], &["env", "-i"]] {
        let program = ["/usr/bin/python3", "-c", script, "a.example", "b.example", "c.example"];
        let run = scene.command(&[], &rewrites, &[before, &program].concat()).run();
        run.success().stdout_is("a.example near\nb.example near\nc.example near\n").stderr_is("");
    }
    let run = scene.command(&[], &rewrites, &["--explain", "a.example:80"]).run();
    run.success().stdout_has("on this machine, without a proxy\n");
    assert_eq!(scene.asked(), (0, 0));
    scene.lab.assert_no_leak();
}

#[test]
fn an_address_written_as_a_name_is_that_address_to_the_rules() {
    let Some(scene) = Scene::set() else { return };
    let script = "
import errno, socket, sys
for name in sys.argv[1:]:
    try: socket.create_connection((name.encode(), 80), 10); print(name, 'connected')
    except socket.gaierror: print(name, 'does not exist')
    except OSError as error: print(name, errno.errorcode[error.errno])
";
    let names = ["10.88.0.2.", "10.88.0.2", "a.test", "a.test..", "a..test", "localhost.."];
    let rules = ["address=10.0.0.0/8 via=deny", "name=a.test via=deny"];
    let expected = "10.88.0.2. EACCES\n10.88.0.2 EACCES\na.test EACCES\na.test.. does not exist\n\
        a..test does not exist\nlocalhost.. does not exist\n";
    for before in [&[][..], &["env", "-i"]] {
        let words = [before, &["/usr/bin/python3", "-c", script], &names].concat();
        let run = scene.command(&rules, &[], &words).run();
        run.success().stdout_is(expected);
        run.stderr_has("presocks: 10.88.0.2:80: a rule denies it (--rule: address=10.0.0.0/8)\n");
    }
    assert_eq!((scene.asked(), scene.web.connections()), ((0, 0), 0));
    let rules = ["address=10.88.0.0/24 via=second"];
    for command in ALL {
        assert_eq!(scene.goes_by(&rules, &[], (command, "10.88.0.2.")), 2, "{command:?}");
    }
    assert_eq!(scene.goes_by(&[], &[], (CURL, "a.test.")), 1);
    scene.lab.assert_no_leak();
}

/// A lab with a name server on the origin, of which the client's /etc/resolv.conf speaks, and a microsocks.
struct Asking {
    lab: Lab,
    _server: DnsServer,
    /// Nobody is asked by it.
    first: ScriptedProxy,
    second: Microsocks,
}

impl Asking {
    fn set() -> Option<Self> {
        if missing(&["nsd", "dig", "microsocks"]) {
            return None;
        }
        let lab = Lab::new();
        let options = "nameserver 10.88.0.2\noptions timeout:1 attempts:1\n";
        std::fs::write(lab.directory().join("etc-client/resolv.conf"), options).unwrap();
        Some(Self {
            _server: DnsServer::start(&lab),
            first: Script::new().start(&lab),
            second: Microsocks::open(&lab),
            lab,
        })
    }

    fn command(&self, rules: &[&str], options: &[&str], words: &[&str]) -> Invocation<'_> {
        let config = named(&self.lab, &self.first.url(), &self.second.url());
        let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
        self.lab.presocks(words).options(["--config", &config]).options(rules).options(options)
    }
}

#[test]
fn a_direct_name_server_is_a_programs_own_only_while_nothing_speaks_of_names() {
    let Some(scene) = Asking::set() else { return };
    if missing(Build::StaticMusl.needs()) {
        return;
    }
    // The address that the server knows, or a stand-in: a resolver of the program's own asks whom resolv.conf names.
    let program = Build::StaticMusl.of(&scene.lab, "resolved", &[]);
    let musl = [program.to_str().unwrap(), "mx1.mail.test"];
    let dig = |transport| ["dig", "+short", "+tries=1", transport, "mx1.mail.test", "A"];
    let direct = ["--direct", "10.88.0.0/16"];
    let asks = |rules: &[&str], options: &[&str], words: &[&str]| {
        let run = scene.command(rules, &[&direct, options].concat(), words).run();
        run.success().stderr_is("");
        match run.stdout().trim() {
            "10.88.0.2" => true,
            other => !other.starts_with("198.1") && panic!("{words:?}: {}", run.report()),
        }
    };
    let hooked = [dig("+notcp"), dig("+tcp")];
    let caught = hooked.map(|words| [&["env", "-i"], &words[..]].concat());
    let all =
        hooked.iter().map(|words| &words[..]).chain(caught.iter().map(|words| &words[..])).chain([&musl[..]]);
    let all: Vec<_> = all.collect();
    for words in &all {
        for (rules, options) in [
            (&["name=other.test via=deny"][..], &[][..]),
            (&["name=.test via=second"], &[]),
            (&[], &["--rewrite", "other.test=new.test"]),
        ] {
            assert!(!asks(rules, options, words), "{words:?} {rules:?} {options:?}");
        }
    }
    scene.lab.assert_no_leak();
    scene.lab.permit_direct("10.88.0.2");
    for words in &all {
        assert!(asks(&[], &[], words), "{words:?}");
        assert!(asks(&["address=192.0.2.0/24 via=deny"], &[], words), "{words:?}");
    }
    assert!(scene.first.connections().is_empty());
    scene.lab.assert_no_leak();
}

#[test]
fn a_question_about_a_name_goes_where_the_name_would_and_not_at_all_when_it_is_denied() {
    let Some(scene) = Asking::set() else { return };
    let options = ["--dns", "10.88.0.2"];
    for (kind, answer) in [("MX", "10 mx1.mail.test."), ("TXT", "\"v=spf1 mx -all\"")] {
        for transport in ["+notcp", "+tcp"] {
            for before in [&[][..], &["env", "-i"]] {
                let question = ["dig", "+tries=1", transport, "@192.0.2.53", "mail.test", kind];
                let words = [before, &question].concat();
                let run = scene.command(&["name=mail.test via=second"], &options, &words).run();
                run.success().stdout_has(answer).stderr_is("");
                assert!(scene.first.connections().is_empty(), "{words:?}");
                let rules = ["name=*.test program=dig via=deny", "name=mail.test via=second"];
                let run = scene.command(&rules, &options, &words).run();
                let line = "presocks: name server 10.88.0.2:53: a rule denies it (--rule: name=*.test program=dig)\n";
                run.success().stdout_has("status: SERVFAIL").stderr_is(line);
                assert!(!run.stdout().contains(answer), "{}", run.report());
            }
        }
    }
    let served = scene.second.daemon.log().matches("10.88.0.2").count();
    let words = ["dig", "+tries=1", "@192.0.2.53", "mail.test", "MX"];
    scene
        .command(&["name=mail.test via=deny"], &options, &words)
        .run()
        .success()
        .stdout_has("status: SERVFAIL");
    assert_eq!(scene.second.daemon.log().matches("10.88.0.2").count(), served);
    assert!(scene.first.connections().is_empty());
    // About another name: the default's.
    scene.command(&["name=other.test via=second"], &options, &words).run().success();
    assert!(!scene.first.connections().is_empty());
    scene.lab.assert_no_leak();
}
