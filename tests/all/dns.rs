//! Records that are no addresses, and the programs that ask for them: what the DNS has is asked through the proxy.

mod clients;
mod servers;

use std::process::{Command, Stdio};

use presocks_tests::origin::DnsServer;
use presocks_tests::origin::dns::{LARGE_STRINGS, QUAD9};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Invocation, Lab, Outcome, missing};

use crate::behaviour::program::compile;

/// A lab with a proxy and, behind it, a name server: at 10.88.0.2, and at the address of presocks' own choice.
struct Scene {
    lab: Lab,
    proxy: Microsocks,
    _server: DnsServer,
}

impl Scene {
    fn set(needs: &[&str]) -> Option<Self> {
        if missing(&["nsd", "microsocks"]) || missing(needs) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { proxy: Microsocks::open(&lab), _server: DnsServer::start_at(&lab, &[QUAD9]), lab })
    }

    fn presocks<'a>(&'a self, words: &[&'a str]) -> Invocation<'a> {
        self.lab.presocks(words).proxy(&self.proxy)
    }

    /// The words hooked, and caught: both must come out the same.
    #[track_caller]
    fn both_ways(&self, words: &[&str], look: impl Fn(&Outcome)) {
        look(&self.presocks(words).run());
        look(&self.presocks(&[&["env", "-i"], words].concat()).run());
    }
}

/// The lines of an answer in order: servers shuffle them.
fn sorted(outcome: &Outcome) -> String {
    let mut lines: Vec<_> = outcome.success().stdout().lines().map(|line| format!("{line}\n")).collect();
    lines.sort();
    lines.concat()
}

const RECORDS: [(&str, &str, &str); 9] = [
    ("MX", "mail.test", "10 mx1.mail.test.\n20 mx2.mail.test.\n"),
    ("TXT", "mail.test", "\"v=spf1 mx -all\"\n"),
    ("SRV", "_sip._tcp.mail.test", "1 2 5060 mx1.mail.test.\n"),
    ("NS", "mail.test", "ns.mail.test.\n"),
    ("CAA", "mail.test", "0 issue \"ca.test\"\n"),
    ("SOA", "mail.test", "ns.mail.test. postmaster.mail.test. 7 3600 900 604800 60\n"),
    ("CNAME", "alias.mail.test", "mail.test.\n"),
    ("TYPE65400", "odd.mail.test", "\\# 3 0A0B0C\n"),
    ("PTR", "2.0.88.10.in-addr.arpa", "origin.mail.test.\n"),
];

#[test]
fn dig_sees_every_record_over_tcp() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    for (kind, name, answer) in RECORDS {
        scene.both_ways(&["dig", "+tcp", "+short", "@192.0.2.53", name, kind], |run| {
            assert_eq!(sorted(run), answer, "{}", run.report());
            run.stderr_is("");
        });
    }
    scene.lab.assert_no_leak();
}

#[test]
fn dig_sees_every_record_over_udp() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    for (kind, name, answer) in RECORDS {
        scene.both_ways(&["dig", "+notcp", "+short", "@192.0.2.53", name, kind], |run| {
            assert_eq!(sorted(run), answer, "{}", run.report());
            run.stderr_is("");
        });
    }
    scene.lab.assert_no_leak();
}

#[test]
fn an_answer_that_no_datagram_holds_is_cut_and_asked_for_again_over_tcp() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    let large = ["large.mail.test", "TXT", "@192.0.2.53"];
    scene.both_ways(&[&["dig", "+short"], &large[..]].concat(), |run| {
        assert_eq!(run.success().stdout().matches('"').count(), 2 * LARGE_STRINGS, "{}", run.report());
    });
    for edns in ["+noedns", "+edns=0", "+bufsize=8192"] {
        let words = [&["dig", "+ignore", edns], &large[..]].concat();
        scene.both_ways(&words, |run| {
            run.success().stdout_has(" tc").stdout_has("status: NOERROR").stdout_has("ANSWER: 0");
        });
    }
    // Ten strings fit a datagram of 4096 bytes, and no smaller one.
    let medium = ["medium.mail.test", "TXT", "@192.0.2.53"];
    for (size, is_cut) in [("+bufsize=1232", true), ("+bufsize=4096", false)] {
        scene.both_ways(&[&["dig", "+ignore", size], &medium[..]].concat(), |run| {
            let flags =
                run.success().stdout().lines().find(|line| line.contains("flags: ")).unwrap().to_owned();
            assert_eq!(flags.contains(" tc"), is_cut, "{}", run.report());
        });
    }
    scene.lab.assert_no_leak();
}

#[test]
fn what_the_dns_says_comes_through_as_it_is() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    let says = |words: &[&str], expected: &[&str]| {
        scene.both_ways(&[&["dig", "+tcp", "@192.0.2.53"], words].concat(), |run| {
            for text in expected {
                run.success().stdout_has(text);
            }
        });
    };
    says(&["none.mail.test", "MX"], &["status: NXDOMAIN", "SOA"]);
    says(&["mx1.mail.test", "MX"], &["status: NOERROR", "ANSWER: 0", "SOA"]);
    says(&["elsewhere.test", "MX"], &["status: REFUSED"]);
    says(&["+dnssec", "MAIL.tesT", "MX"], &["flags: do; udp: ", "\nMAIL.tesT.", "\t10 mx1."]);
    says(&["+norecurse", "mail.test", "NS"], &["flags: qr aa; "]);
    // From here on it is presocks that answers.
    says(&["mail.test", "ANY"], &["status: REFUSED"]);
    says(&["mail.test", "A"], &["\tA\t198.1"]);
    says(&["mail.test", "HTTPS"], &["status: NOERROR", "ANSWER: 0"]);
    says(&["-x", "127.0.0.1"], &["\tPTR\tlocalhost."]);
    says(&["-x", "198.18.0.1"], &["status: NXDOMAIN"]);
    says(&["localhost", "MX"], &["status: NOERROR", "ANSWER: 0"]);
    says(&["CH", "version.bind", "TXT"], &["status: REFUSED"]);
    says(&["+opcode=notify", "mail.test", "SOA"], &["status: NOTIMP"]);
    scene.lab.assert_no_leak();
}

#[test]
fn a_zone_is_transferred() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    scene.both_ways(&["dig", "+onesoa", "+noall", "+answer", "@192.0.2.53", "mail.test", "AXFR"], |run| {
        let zone = run.success().stdout();
        assert_eq!(zone.lines().count(), 15, "{}", run.report());
        assert_eq!(zone.matches("SOA").count(), 1, "{}", run.report());
    });
    scene.both_ways(&["dig", "@192.0.2.53", "none.test", "AXFR"], |run| {
        run.stdout_has("Transfer failed");
    });
    scene.lab.assert_no_leak();
}

/// Runs `tests/programs/resolv.c` on the origin, whose resolv.conf is empty and means its own name server, and wrapped.
#[test]
fn the_resolvers_own_interface_is_answered_as_libc_answers_it() {
    let Some(scene) = Scene::set(&["cc"]) else { return };
    let program = compile(&scene.lab, "resolv");
    let mut command = Command::new(&program);
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    let bare = scene.lab.origin.spawn(&mut command).wait_with_output().unwrap();
    assert!(bare.status.success(), "{}", String::from_utf8_lossy(&bare.stdout));
    let words = [program.to_str().unwrap(), "proxied=1"];
    let wrapped = scene.presocks(&words).run();
    assert!(wrapped.status.success(), "{}", wrapped.report());
    let own = ["errno is kept: ok", "cancelled threads leave nothing open: ok"];
    let shared: Vec<_> =
        wrapped.stdout().lines().filter(|line| !own.contains(line)).map(str::to_owned).collect();
    assert_eq!(shared, String::from_utf8_lossy(&bare.stdout).lines().collect::<Vec<_>>());
    scene.presocks(&words).ordinary_user().run().success();
    scene.lab.assert_no_leak();
}

#[test]
fn what_resolv_conf_says_does_not_matter() {
    let Some(scene) = Scene::set(&["dig", "cc"]) else { return };
    let program = compile(&scene.lab, "resolv");
    let program = program.to_str().unwrap();
    let file = scene.lab.directory().join("etc-client/resolv.conf");
    for content in ["nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lab\n", "", "nonsense\0\n"] {
        std::fs::write(&file, content).unwrap();
        for transport in ["+tcp", "+notcp"] {
            scene.both_ways(&["dig", transport, "+short", "mail.test", "TXT"], |run| {
                run.success().stdout_is("\"v=spf1 mx -all\"\n");
            });
        }
        scene.presocks(&[program, "proxied=1"]).run().success();
        scene.both_ways(&["getent", "hosts", "mail.test"], |run| {
            run.success().stdout_has("mail.test");
        });
    }
    // Without the file, as in a bare container.
    let etc = scene.lab.directory().join("etc-client");
    std::fs::remove_file(&file).ok();
    let inside = "mount --bind \"$0\" /etc && exec \"$@\"";
    let within = ["unshare", "--mount", "sh", "-c", inside, etc.to_str().unwrap()];
    scene.both_ways(&[&within[..], &[program, "proxied=1"]].concat(), |run| {
        assert!(!run.stdout().is_empty(), "{}", run.report());
    });
    scene.presocks(&[&within[..], &[program, "proxied=1"]].concat()).run().success();
    scene.both_ways(&[&within[..], &["getent", "hosts", "mail.test"]].concat(), |run| {
        run.success().stdout_has("mail.test");
    });
    scene.lab.assert_no_leak();
}
