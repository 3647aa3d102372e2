//! What is direct: a rule that denies its network or all datagrams means it still.

use presocks_tests::origin::Datagrams;

use super::names::know;
use super::{ALL, Scene};

/// What only the broker looks up: a program would find them itself.
const ALIASES: [&str; 4] = ["--rewrite", "a.near=near.example", "--rewrite", "a.metadata=metadata.example"];

/// Connects to each place in turn, and prints what came of it.
const CONNECT: &str = "
import errno, socket, sys
for place in sys.argv[1:]:
    host, port = place.rsplit(':', 1)
    try: socket.create_connection((host, int(port)), 10); print(place, 'connected')
    except OSError as error: print(place, errno.errorcode.get(error.errno, error))
";

#[test]
fn a_direct_name_whose_address_a_rule_denies_is_refused() {
    let Some(scene) = Scene::set() else { return };
    know(&scene.lab, "10.88.0.2 near.example\n169.254.169.254 metadata.example\n");
    let rules = [
        "name=near.example port=81 via=direct",
        "address=10.88.0.0/24,169.254.0.0/16 via=deny",
        "name=.example via=direct",
    ];
    let places = ["a.near:80", "a.near:81", "a.metadata:80"];
    let expected = "a.near:80 EACCES\na.near:81 EACCES\na.metadata:80 EACCES\n";
    for before in [&[][..], &["env", "-i"]] {
        let words = [before, &["/usr/bin/python3", "-c", CONNECT], &places].concat();
        let run = scene.command(&rules, &ALIASES, &words).run();
        run.success().stdout_is(expected);
        let rule = "a rule denies it (--rule: address=10.88.0.0/24,169.254.0.0/16)";
        run.stderr_is(&format!("presocks: near.example:80 via direct: {rule}\n"));
    }
    assert_eq!((scene.asked(), scene.web.connections()), ((0, 0), 0));
    scene.lab.assert_no_leak();
}

#[test]
fn a_direct_name_is_not_refused_by_rules_that_speak_of_no_network() {
    let Some(scene) = Scene::set() else { return };
    know(&scene.lab, "10.88.0.2 near.example\n");
    scene.lab.permit_direct("10.88.0.2");
    for command in ALL {
        for rules in [
            &["name=near.example via=direct", "via=deny"][..],
            &["name=near.example via=direct", "port=80 via=deny"],
            &["name=near.example via=direct", "address=10.99.0.0/16 via=deny"],
            &["name=near.example via=direct", "protocol=udp address=10.88.0.0/16 via=deny"],
        ] {
            assert_eq!(scene.goes_by(rules, &ALIASES, (command, "a.near")), 0, "{command:?} {rules:?}");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn direct_takes_names_and_patterns_and_no_other_name_goes_that_way() {
    let Some(scene) = Scene::set() else { return };
    know(&scene.lab, "10.88.0.2 near.example\n");
    scene.lab.permit_direct("10.88.0.2");
    for command in ALL {
        for (direct, host, way) in [
            ("near.example", "a.near", 0),
            ("10.66.0.0/16,*.example", "a.near", 0),
            ("near.example,.near", "a.test", 1),
            ("10.88.0.0/24", "a.test", 1),
        ] {
            let options = [&ALIASES[..], &["--direct", direct]].concat();
            assert_eq!(scene.goes_by(&[], &options, (command, host)), way, "{direct} {host}");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn datagrams_are_refused_by_udp_deny_though_they_are_direct() {
    let Some(scene) = Scene::set() else { return };
    let echo = Datagrams::echo(&scene.lab, 7);
    let script = "
import errno, socket
for to in ('10.88.0.2', 7), ('192.0.2.1', 7), ('224.0.0.251', 5353), ('127.0.0.1', 7):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: s.sendto(b'sent', to); print(to[0], 'sent')
    except OSError as error: print(to[0], errno.errorcode[error.errno])
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.connect(to)
        for n in range(3): s.send(b'written')
    except OSError as error: print(to[0], 'connected', errno.errorcode[error.errno])
";
    let ways = [
        (&["address=10.88.0.0/24,224.0.0.0/4 via=direct"][..], &["--udp", "deny"][..]),
        (&[], &["--udp", "deny", "--direct", "10.88.0.0/24,224.0.0.0/4"]),
        (&[], &["--udp", "deny", "--only", "x.example"]),
    ];
    for before in [&[][..], &["env", "-i"]] {
        let words = [before, &["/usr/bin/python3", "-c", script]].concat();
        for (rules, options) in ways {
            let run = scene.command(rules, options, &words).run();
            run.success().stdout_has("10.88.0.2 ENETUNREACH\n").stdout_has("224.0.0.251 ENETUNREACH\n");
            run.stdout_has("192.0.2.1 ENETUNREACH\n").stdout_has("127.0.0.1 sent\n");
        }
    }
    assert!(echo.received().is_empty());
    scene.lab.assert_no_leak();
    scene.lab.permit_direct("10.88.0.2");
    let direct = ["--direct", "10.88.0.0/24"];
    scene.command(&[], &direct, &["/usr/bin/python3", "-c", script]).run().stdout_has("10.88.0.2 sent\n");
    presocks_tests::patience::wait_until("a direct datagram", || !echo.received().is_empty());
    scene.lab.assert_no_leak();
}
