//! Rules about name servers: who answers a program, and which way what is not known here is asked for.

use presocks_tests::origin::DnsServer;
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Upstream};
use presocks_tests::{Lab, Outcome, missing};

use super::named;

/// A lab with a name server on the origin, a proxy that is not to be asked, and a good one.
struct Scene {
    lab: Lab,
    _server: DnsServer,
    first: ScriptedProxy,
    second: Microsocks,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["nsd", "dig", "microsocks"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self {
            _server: DnsServer::start(&lab),
            first: Script::new().start(&lab),
            second: Microsocks::open(&lab),
            lab,
        })
    }

    /// The words with these rules, hooked or (`is_caught`) not.
    fn run(&self, rules: &[&str], options: &[&str], words: &[&str], is_caught: bool) -> Outcome {
        let config = named(&self.lab, &self.first.url(), &self.second.url());
        let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
        let before = if is_caught { &["env", "-i"][..] } else { &[] };
        let command = self.lab.presocks([before, words].concat()).options(["--config", &config]);
        command.options(rules).options(options).run()
    }
}

const MX: [&str; 6] = ["dig", "+short", "+tries=1", "@192.0.2.53", "mail.test", "MX"];

#[test]
fn the_server_is_asked_by_the_chain_that_a_rule_has_for_it() {
    let Some(scene) = Scene::set() else { return };
    let rules = ["address=10.88.0.2 port=53 protocol=tcp via=second"];
    for is_caught in [false, true] {
        let run = scene.run(&rules, &["--dns", "10.88.0.2"], &MX, is_caught);
        run.success().stdout_has("10 mx1.mail.test.").stderr_is("");
    }
    assert!(scene.first.connections().is_empty());
    scene.lab.assert_no_leak();
}

#[test]
fn a_programs_questions_go_by_the_programs_chain() {
    let Some(scene) = Scene::set() else { return };
    for transport in ["+notcp", "+tcp"] {
        for is_caught in [false, true] {
            let words = [&["dig", transport], &MX[1..]].concat();
            let run = |rule| scene.run(&[rule], &["--dns", "10.88.0.2"], &words, is_caught);
            run("program=dig via=second").success().stdout_has("10 mx1.mail.test.").stderr_is("");
            assert!(scene.first.connections().is_empty());
        }
    }
    let run = scene.run(&["program=host via=second"], &["--dns", "10.88.0.2"], &MX, false);
    run.success().stdout_is("");
    assert!(!scene.first.connections().is_empty());
    scene.lab.assert_no_leak();
}

#[test]
fn a_server_that_a_rule_denies_is_not_asked_and_a_direct_one_directly() {
    let Some(scene) = Scene::set() else { return };
    let options = ["--dns", "10.88.0.2"];
    let words = ["dig", "+tries=1", "@192.0.2.53", "mail.test", "MX"];
    let run = scene.run(&["address=10.88.0.2 via=deny"], &options, &words, false);
    let line = "presocks: name server 10.88.0.2:53: a rule denies it (--rule: address=10.88.0.2/32)\n";
    run.success().stdout_has("status: SERVFAIL").stderr_is(line);
    scene.lab.assert_no_leak();
    // All that no rule speaks of is direct; but not what is asked of name servers, by whatever name.
    let run = scene.run(&["via=direct"], &options, &words, false);
    run.success().stdout_has("status: SERVFAIL");
    assert!(!scene.first.connections().is_empty());
    scene.lab.assert_no_leak();
    scene.lab.permit_direct("10.88.0.2");
    let run = scene.run(&["address=10.88.0.2 via=direct"], &options, &MX, false);
    run.success().stdout_has("10 mx1.mail.test.").stderr_is("");
    scene.lab.assert_no_leak();
}

#[test]
fn a_program_asks_a_server_itself_only_when_a_rule_means_it_and_the_server() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.permit_direct("10.88.0.2");
    for transport in ["+notcp", "+tcp"] {
        let words = ["dig", "+short", "+tries=1", transport, "@10.88.0.2", "origin.mail.test", "A"];
        for is_caught in [false, true] {
            for (rule, is_itself) in [
                ("program=dig address=10.88.0.2 via=direct", true),
                ("port=53 via=direct", true),
                ("program=ping port=53 via=direct", false),
                ("port=853 via=direct", false),
                ("via=direct", false),
            ] {
                let run = scene.run(&[rule], &[], &words, is_caught);
                let is_stand_in = run.success().stdout().starts_with("198.1");
                assert_eq!(is_stand_in, !is_itself, "{rule} {}", run.report());
            }
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_program_that_a_rule_denies_asks_nobody() {
    let Some(scene) = Scene::set() else { return };
    for transport in ["+notcp", "+tcp"] {
        let words = ["dig", "+short", "+tries=1", "+time=2", transport, "@127.0.0.53", "mail.test", "A"];
        for is_caught in [false, true] {
            let run = scene.run(&["program=dig via=deny"], &[], &words, is_caught);
            assert!(!run.stdout().contains("198.1"), "{}", run.report());
            // It writes to a connected socket, and past the shim, which costs no question.
            if transport == "+tcp" {
                run.stderr_has("presocks: 127.0.0.53:53: a rule denies it (--rule: program=dig)\n");
            }
        }
    }
    assert!(scene.first.connections().is_empty());
    scene.lab.assert_no_leak();
}
