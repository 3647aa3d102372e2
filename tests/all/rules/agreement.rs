//! What `--explain` says is what happens: configurations drawn at random, from fixed seeds so that a failure comes again.

use presocks_tests::lab::RESOLVER;
use presocks_tests::origin::http;

use super::{ALL, Scene};

const RULES: [&str; 14] = [
    "name=origin.test via=second",
    "name=.test via=deny",
    "name=a.* via=direct",
    "name=a.test port=80 via=second",
    "address=10.88.0.0/24 via=second",
    "address=10.88.0.2 via=direct",
    "address=10.0.0.0/8 via=deny",
    "port=81-90 via=deny",
    "port=80 protocol=tcp via=second",
    "protocol=udp via=deny",
    "program=curl via=second",
    "program=busybox via=deny",
    "program=nothing via=direct",
    "name=.example address=10.88.0.0/16 via=proxy",
];
const OPTIONS: [&[&str]; 9] = [
    &[],
    &[],
    &["--direct", "10.88.0.0/24"],
    &["--default", "direct"],
    &["--default", "deny"],
    &["--only", "origin.test,10.88.0.2"],
    &["--rewrite", "a.test=10.88.0.2"],
    &["--rewrite", "10.88.0.2=b.example:80"],
    &["--rewrite", ".example:80=a.test"],
];
const HOSTS: [&str; 4] = ["origin.test", "a.test", "b.example", "10.88.0.2"];

/// Numbers at random (a linear congruential generator).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Nowhere,
    Directly,
    First,
    Second,
}

/// In the words of `--explain`. No resolver here knows the names, so by name nothing goes directly.
fn explained(text: &str) -> Way {
    let said = |words: &str| text.contains(words);
    match () {
        () if said("  denied") || said("its name is resolved on this machine") => Way::Nowhere,
        () if said("  directly, without a proxy") => Way::Directly,
        () if said("by the chain \"second\"") => Way::Second,
        () if said("by the chain \"proxy\"") => Way::First,
        () => panic!("{text}"),
    }
}

#[test]
fn what_is_explained_is_what_happens() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.permit_direct("10.88.0.2");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..=60 {
        let mut draw = Draw(seed);
        let rules: Vec<_> = (0..draw.below(4)).map(|_| RULES[draw.below(RULES.len())]).collect();
        let options = OPTIONS[draw.below(OPTIONS.len())];
        let (host, command) = (HOSTS[draw.below(HOSTS.len())], ALL[draw.below(ALL.len())]);
        let program = if command.contains(&"curl") { "curl" } else { "busybox" };
        let place = format!("{host}:80");
        let question = [options, &["--explain", &place]].concat();
        let answer = scene.command(&rules, &question, &[program]).run();
        let expected = explained(&answer.stdout());

        let before = scene.asked();
        let page = format!("http://{host}/hello");
        let run = scene.command(&rules, options, &[command, &[page.as_str()]].concat()).run();
        let has_page = run.stdout() == http::HELLO;
        let after = scene.asked();
        let way = match (after.0 > before.0, after.1 > before.1, has_page) {
            (false, false, false) => Way::Nowhere,
            (false, false, true) => Way::Directly,
            (true, false, true) => Way::First,
            (false, true, true) => Way::Second,
            other => panic!("seed {seed}: {other:?}\n{}", run.report()),
        };
        assert_eq!(way, expected, "seed {seed}: {rules:?}\n{}\n{}", answer.report(), run.report());
        seen.insert(way);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    // What is direct by name was asked of this machine's resolver, as the user wished; nothing else left.
    let query = format!("{RESOLVER} . udp . 53 ");
    let leaked = scene.lab.leaked();
    assert!(leaked.iter().all(|packets| packets.starts_with(&query)), "{leaked:?}");
}
