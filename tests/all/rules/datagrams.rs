//! Rules for datagrams: each goes the way that the rules have for it, however its socket was used before.

use presocks_tests::lab::{CLIENT, ORIGIN};
use presocks_tests::origin::Datagrams;
use presocks_tests::proxy::relay::{From, Relay};
use presocks_tests::proxy::{ScriptedRelay, Upstream};
use presocks_tests::{Lab, Outcome, missing};

use super::named;

/// What a program begins with: `ask` sends the destination there and tells the errno, or whether the answer is from there. Each line is
/// `PLACE OUTCOME`.
const ASK: &str = "
import errno, os, socket, sys
def shown(error): return 'silence' if error.errno is None else errno.errorcode[error.errno]
def ask(s, place, is_connected=False, how=None):
    host, port = place.rsplit(':', 1)
    try:
        to = socket.getaddrinfo(host, int(port), s.family, socket.SOCK_DGRAM)[0][4]
        if is_connected: s.connect(to); (how or s.send)(place.encode())
        else: s.sendto(place.encode(), to)
        payload, sender = s.recvfrom(1000)
        print(place, 'answers' if (payload, sender[:2]) == (place.encode(), to[:2]) else f'{payload} {sender}')
    except OSError as error: print(place, shown(error))
def new(): s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); return s
";

/// A lab with two proxies that send datagrams back, and an echo at port 7 of the origin.
struct Scene {
    lab: Lab,
    echo: Datagrams,
    first: ScriptedRelay,
    second: ScriptedRelay,
}

impl Scene {
    fn set() -> Option<Self> {
        Self::with(&Relay::new())
    }

    fn with(proxy: &Relay) -> Option<Self> {
        if missing(&["python3"]) {
            return None;
        }
        let lab = Lab::new();
        let echo = Datagrams::echo(&lab, 7);
        let (first, second) = (proxy.clone().start(&lab), proxy.clone().start(&lab));
        Some(Self { lab, echo, first, second })
    }

    /// The script with these rules, hooked or caught.
    fn run(&self, rules: &[&str], options: &[&str], script: &str, is_caught: bool) -> Outcome {
        let config = named(&self.lab, &self.first.url(), &self.second.url());
        let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
        let before = if is_caught { &["env", "-i"][..] } else { &[] };
        let script = format!("{ASK}{script}");
        let words = [before, &["/usr/bin/python3", "-c", &script]].concat();
        self.lab.presocks(words).options(["--config", &config]).options(rules).options(options).run()
    }
}

/// Where the datagrams of a proxy were to go, sorted, each once.
fn came(proxy: &ScriptedRelay) -> Vec<String> {
    let associations = proxy.associations();
    let datagrams = associations.iter().flat_map(|association| &association.datagrams);
    let mut all: Vec<_> = datagrams.map(|datagram| datagram.to.clone()).collect();
    all.sort();
    all.dedup();
    all
}

const RULES: [&str; 6] = [
    "address=192.0.2.1 via=second",
    "address=192.0.2.2 via=deny",
    "address=10.88.0.0/24 protocol=udp via=direct",
    "name=.second.test port=7 via=second",
    "name=.denied.test via=deny",
    "name=.direct.test via=direct",
];

#[test]
fn one_socket_writes_to_many_and_each_datagram_goes_its_own_way() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.permit_direct("10.88.0.2");
    let script = "
places = ['192.0.2.9:7', '192.0.2.1:7', '192.0.2.2:7', '10.88.0.2:7', 'a.second.test:7', 'a.second.test:8',
          'a.denied.test:7', 'a.direct.test:7', '192.0.2.2:9', '192.0.2.9:7', '192.0.2.1:7', '192.0.2.2:7']
alike = new()
for place in places: ask(alike, place)
for place in places: ask(new(), place, True)
same = new()
for place in places: ask(same, place, True)
";
    let expected = "192.0.2.9:7 answers\n192.0.2.1:7 answers\n192.0.2.2:7 EACCES\n10.88.0.2:7 answers\n\
        a.second.test:7 answers\na.second.test:8 answers\na.denied.test:7 EACCES\na.direct.test:7 ENETUNREACH\n\
        192.0.2.2:9 EACCES\n192.0.2.9:7 answers\n192.0.2.1:7 answers\n192.0.2.2:7 EACCES\n";
    for is_caught in [false, true] {
        let run = scene.run(&RULES, &[], script, is_caught);
        if is_caught {
            // A connected socket's send is not caught: what may not leave goes to a socket of ours that takes nothing.
            let lines: Vec<_> = expected.lines().collect();
            run.success();
            assert!(run.stdout().lines().take(lines.len()).eq(lines.iter().copied()), "{}", run.report());
            assert_eq!(run.stdout().matches("answers").count(), 3 * 7, "{}", run.report());
        } else {
            run.success().stdout_is(expected.repeat(3));
        }
        run.stderr_has("datagram to 192.0.2.2:7 refused: a rule denies it (--rule: address=192.0.2.2/32)\n");
        run.stderr_has("datagram to a.denied.test:7 refused: a rule denies it (--rule: name=.denied.test)\n");
        run.stderr_has("datagram to a.direct.test:7 refused: a rule calls it direct, and a datagram to a name goes through a proxy or not at all\n");
        assert_eq!(run.stderr().lines().count(), 3, "{}", run.report());
        assert_eq!(came(&scene.first), ["192.0.2.9:7", "a.second.test:8"]);
        assert_eq!(came(&scene.second), ["192.0.2.1:7", "a.second.test:7"]);
    }
    let received = scene.echo.received();
    assert!(!received.is_empty() && received.iter().all(|(source, _)| source.ip().to_canonical() == CLIENT));
    scene.lab.assert_no_leak();
}

#[test]
fn a_denied_peer_is_not_reached_by_calls_that_no_hook_sees() {
    let Some(scene) = Scene::set() else { return };
    let script = "
s = new()
ask(s, '192.0.2.9:7', True)
s.connect(('192.0.2.2', 7))
for n in range(5):
    try: os.write(s.fileno(), b'denied')
    except OSError: pass
s.connect(('192.0.2.1', 7))
# What the kernel has to say of the others.
s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
os.write(s.fileno(), b'by the second'); print(s.recv(100))
";
    for is_caught in [false, true] {
        let run = scene.run(&RULES, &[], script, is_caught);
        run.success().stdout_is("192.0.2.9:7 answers\nb'by the second'\n");
    }
    assert_eq!(
        (came(&scene.first), came(&scene.second)),
        (vec!["192.0.2.9:7".into()], vec!["192.0.2.1:7".into()])
    );
    scene.lab.assert_no_leak();
}

#[test]
fn a_program_is_told_apart_and_so_is_the_protocol() {
    let Some(scene) = Scene::set() else { return };
    let script = "
s = new()
for n in range(2): ask(s, '192.0.2.9:7')
ask(new(), '192.0.2.9:7', True)
";
    for is_caught in [false, true] {
        let run = |rule| scene.run(&[rule], &[], script, is_caught);
        run("program=python3* protocol=udp via=deny")
            .success()
            .stdout_has("192.0.2.9:7 EACCES\n192.0.2.9:7 EACCES\n");
        run("protocol=tcp via=deny").success().stdout_is("192.0.2.9:7 answers\n".repeat(3));
        run("program=perl via=deny").success().stdout_is("192.0.2.9:7 answers\n".repeat(3));
    }
    assert!(came(&scene.second).is_empty());
    let run = scene.run(&["program=python3* via=second"], &[], script, false);
    run.success().stdout_is("192.0.2.9:7 answers\n".repeat(3));
    assert_eq!(came(&scene.second), ["192.0.2.9:7"]);
    scene.lab.assert_no_leak();
}

#[test]
fn a_rewritten_datagram_is_answered_by_whom_the_program_asked() {
    let Some(scene) = Scene::set() else { return };
    let options = &["--rewrite", "192.0.2.9:7=192.0.2.1:9", "--rewrite", "old.test=new.test"];
    let script = "
s = new()
for place in '192.0.2.9:7', 'old.test:8', '192.0.2.9:9', '192.0.2.9:7': ask(s, place)
for place in '192.0.2.9:7', 'old.test:8': ask(new(), place, True)
";
    for is_caught in [false, true] {
        let run = scene.run(&RULES, options, script, is_caught);
        let connected = "192.0.2.9:7 answers\nold.test:8 answers\n";
        run.success().stdout_is(format!("{connected}192.0.2.9:9 answers\n192.0.2.9:7 answers\n{connected}"));
        run.stderr_is("");
    }
    assert_eq!(came(&scene.first), ["192.0.2.9:9", "new.test:8"]);
    assert_eq!(came(&scene.second), ["192.0.2.1:9"]);
    let run = scene.run(&["address=192.0.2.1 via=direct"], options, script, false);
    run.success()
        .stdout_has("192.0.2.9:7 ENETUNREACH")
        .stderr_has("a rewritten datagram goes through a proxy");
    scene.lab.assert_no_leak();
}

#[test]
fn a_chain_of_several_proxies_refuses_at_once_and_one_line_says_so() {
    let Some(scene) = Scene::set() else { return };
    let script = "
for n in range(3): ask(new(), '192.0.2.9:7'); ask(new(), '192.0.2.9:7', True)
ask(new(), '192.0.2.1:7')
";
    let (first, second) = (scene.first.url(), scene.second.url());
    let run = scene.run(&RULES, &["-p", &first, "-p", &second], script, false);
    let refused = "192.0.2.9:7 ENETUNREACH\n".repeat(6);
    run.success().stdout_is(format!("{refused}192.0.2.1:7 answers\n"));
    run.stderr_is("presocks: datagrams via the chain \"proxy\": datagrams go through one proxy only, and this chain has several\n");
    assert!(came(&scene.first).is_empty());
    assert_eq!(came(&scene.second), ["192.0.2.1:7"]);
    scene.lab.assert_no_leak();
}

#[test]
fn a_proxy_does_not_speak_for_those_whom_the_rules_send_another_way() {
    // From somebody else each time: a direct network, another chain's destination, one that is denied, and at last the one that was asked.
    let as_if = |from: [u8; 4], answer: &[u8]| [&[0, 0, 0, 1], &from[..], &[0, 7], &answer[10..]].concat();
    let relay = Relay::new().answering(move |answer| {
        let others = [ORIGIN.octets(), [192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 77]];
        let others = others.map(|from| (From::Relay, as_if(from, answer)));
        others.into_iter().chain([(From::Relay, answer.to_vec())]).collect()
    });
    let Some(scene) = Scene::with(&relay) else { return };
    let script = "
s = new()
s.sendto(b'hello', ('192.0.2.9', 7))
while True:
    payload, sender = s.recvfrom(100)
    print(sender)
    if sender == ('192.0.2.9', 7): break
";
    for is_caught in [false, true] {
        let run = scene.run(&RULES, &[], script, is_caught);
        run.success().stdout_is("('192.0.2.77', 7)\n('192.0.2.9', 7)\n");
    }
    scene.lab.assert_no_leak();
}
