//! UDP sockets that are bound so, and speak to a service at loopback, or to us.

use presocks_tests::lab::{CLIENT, ORIGIN6};
use presocks_tests::origin::Datagrams;
use presocks_tests::proxy::Embedded;

use super::*;

const HERE: &str = "to=127.0.0.1:7000";
const HERE6: &str = "to=[::1]:7000";

/// Echo services on the client and on the origin, and a proxy that relays datagrams.
struct Datagram {
    proxy: Embedded,
    _here: Datagrams,
    _there: Datagrams,
    lab: Lab,
}

impl Datagram {
    fn set() -> Option<Self> {
        if missing(&["cc", "python3"]) {
            return None;
        }
        let lab = Lab::new();
        let scene = Self {
            proxy: Embedded::open(&lab),
            _here: Datagrams::echo_on(&lab.client, 7000),
            _there: Datagrams::echo(&lab, 7000),
            lab,
        };
        scene.ip(&[WAY_OUT, COME].concat());
        Some(scene)
    }

    fn ip(&self, lines: &str) {
        self.lab.client.setup(&["ip", "-batch", "-"], lines);
    }

    /// `tests/programs/boundgram.c` under presocks.
    fn program(&self, build: Build, words: &[&str]) -> Invocation<'_> {
        let program = build.of(&self.lab, "boundgram", &[]);
        let words = [program.to_str().unwrap()].into_iter().chain(words.iter().copied());
        self.lab.presocks(words).proxy(&self.proxy.url())
    }

    /// The program is answered, and the lines are carried out; whatever becomes of what it says then, nothing is seen on the cable but what the proxy is to have.
    #[track_caller]
    fn goes_on(&self, words: &[&str], lines: &str) {
        for build in BUILDS {
            self.ip(&[WAY_OUT, COME, GO, COME].concat());
            let mut program = self.program(build, &[words, &["silent=1"]].concat()).start();
            assert_eq!(program.line(), "send: answered", "{build:?} {words:?}");
            self.ip(lines);
            program.write("\n");
            let said = program.line();
            assert!(said.starts_with("send: "), "{build:?} {words:?}: {said}");
            program.finish().success();
            self.lab.assert_no_leak();
        }
    }
}

/// Why all that follows is needed: the service's answers leave; and the kernel's own, when nobody is there, with what was sent to it.
#[test]
fn without_presocks_a_service_answers_by_the_default_route_when_the_address_has_left() {
    let Some(scene) = Datagram::set() else { return };
    let program = Build::Shared.of(&scene.lab, "boundgram", &[]);
    for to in [HERE6, "to=[::1]:9"] {
        scene.ip(COME);
        let words = [program.to_str().unwrap(), "own=[fd77::9]:5555", to, "silent=1"];
        let mut program = scene.lab.bare(words).start();
        program.line();
        scene.ip(GO);
        program.write("\n");
        program.line();
        program.finish().success();
    }
    let leaked = scene.lab.leaked();
    // The service is at any address, so the kernel chooses another source for it then.
    for start in ["fd77::9 . udp . ", "::1 > fd77::9 . ipv6-icmp . "] {
        assert!(leaked.iter().any(|packet| packet.starts_with(start)), "{start}: {leaked:?}");
    }
}

#[test]
fn no_datagram_goes_to_loopback_from_an_address_that_may_leave() {
    let Some(scene) = Datagram::set() else { return };
    for build in BUILDS {
        for (words, address) in [
            (&["own=[fd77::9]:0"][..], "fd77::9"),
            (&["own=[fd77::9]:5555"], "fd77::9"),
            (&["own=[2001:db8:113::77]:0", "free=1"], "2001:db8:113::77"),
            (&["own=[::]:0", "source=[fd77::9]:0"], "fd77::9"),
            (&["own=[::]:0", "source=[fd77::9]:0", "connected=1"], "fd77::9"),
        ] {
            let outcome = scene.program(build, &[words, &[HERE6]].concat()).run();
            outcome.success().stdout_is("send: ENETUNREACH\n").stderr_has(&format!(
                "datagram to loopback refused: it comes from {address}: once that address has left this machine, so would the answers from loopback\n"
            ));
        }
        for own in [&["own=[fd77::9]:5555"][..], &["own=[2001:db8:113::77]:5555", "free=1"]] {
            let outcome = scene.program(build, &[own, &[HERE6, "connected=1"]].concat()).run();
            outcome
                .success()
                .stdout_is("connect: ENETUNREACH\n")
                .stderr_has("datagram to [::1]:7000 refused: it comes from ");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_connected_socket_whose_port_is_the_kernels_choice_speaks_to_loopback_from_loopback() {
    let Some(scene) = Datagram::set() else { return };
    let far = format!("first=[{ORIGIN6}]:7000");
    for words in
        [&["own=[fd77::9]:0"][..], &["own=[2001:db8:113::77]:0", "free=1"], &["own=[fd77::9]:0", &far]]
    {
        scene.goes_on(&[words, &[HERE6, "connected=1"]].concat(), GO);
    }
}

#[test]
fn datagrams_from_loopback_to_loopback_and_ipv4s_pass() {
    let Some(scene) = Datagram::set() else { return };
    let own = format!("own={CLIENT}:5555");
    for build in BUILDS {
        for words in [
            &["own=[::1]:5555", HERE6][..],
            &["own=[::]:5555", HERE6],
            &["own=[::]:0", "source=[::1]:0", HERE6],
            &["own=127.0.0.1:5555", HERE],
        ] {
            for how in ["connected=0", "connected=1"] {
                scene.program(build, &[words, &[how]].concat()).run().success().stdout_is("send: answered\n");
            }
        }
        for words in [&["own=0.0.0.0:0", "source=10.77.0.9:0", HERE][..], &[&own, HERE]] {
            scene.program(build, words).run().success().stdout_is("send: answered\n");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn with_loopback_routed_ipv4_is_as_ipv6() {
    let Some(scene) = Datagram::set() else { return };
    scene.lab.client.setup(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet"], "");
    for build in BUILDS {
        for words in [
            &["own=10.77.0.9:0"][..],
            &["own=10.77.0.9:5555"],
            &["own=0.0.0.0:0", "source=10.77.0.9:0"],
            &["own=0.0.0.0:0", "source=10.77.0.9:0", "connected=1"],
        ] {
            let outcome = scene.program(build, &[words, &[HERE]].concat()).run();
            outcome.success().stdout_is("send: ENETUNREACH\n").stderr_has("it comes from 10.77.0.9: ");
        }
    }
    for words in [&["own=10.77.0.9:0"][..], &["own=0.0.0.0:0", "first=10.88.0.2:7000"]] {
        scene.goes_on(&[words, &[HERE, "connected=1"]].concat(), GO);
    }
    scene.lab.assert_no_leak();
}

/// Those that go through the proxy: our own answers.
#[test]
fn what_the_broker_answers_goes_to_no_address_that_has_left() {
    let Some(scene) = Datagram::set() else { return };
    let far = format!("to=[{ORIGIN6}]:7000");
    for lines in [
        GO,
        "route del local fd77::9 dev cable table local\n",
        "route replace fd77::9 via fd77::1 dev cable onlink metric 1\naddress del fd77::9/128 dev cable\n",
    ] {
        for own in ["own=[fd77::9]:0", "own=[fd77::9]:5555"] {
            for how in ["connected=0", "connected=1"] {
                scene.goes_on(&[own, &far, how], lines);
            }
        }
    }
    let far = "to=10.88.0.2:7000";
    for how in ["connected=0", "connected=1"] {
        scene.goes_on(&["own=10.77.0.9:0", far, how], GO);
    }
    scene.lab.client.setup(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet"], "");
    for lines in [GO, "route del local 10.77.0.9 dev cable table local\n"] {
        for how in ["connected=0", "connected=1"] {
            scene.goes_on(&["own=10.77.0.9:0", far, how], lines);
        }
    }
}

/// The proxy would send it to some host of its own network.
#[test]
fn a_broadcast_address_of_a_network_here_is_for_no_proxy() {
    let Some(scene) = Datagram::set() else { return };
    scene.ip("address add 10.66.0.2/24 broadcast 10.66.0.255 dev cable\n");
    let to = "to=10.66.0.255:7000";
    let says =
        |build, words: &[&str]| scene.program(build, &[&["own=0.0.0.0:0", "silent=1"], words].concat()).run();
    for build in BUILDS {
        // As on a bare machine.
        let bare = build.of(&scene.lab, "boundgram", &[]);
        for (words, said) in [(&[to][..], "send: EACCES\n"), (&[to, "connected=1"], "connect: EACCES\n")] {
            let own = [bare.to_str().unwrap(), "own=0.0.0.0:0"];
            scene.lab.bare(own.into_iter().chain(words.iter().copied())).run().success().stdout_is(said);
            says(build, words).success().stdout_is(said).stderr_is("");
        }
        let refused = "datagram to 10.66.0.255:7000 refused: multicast and broadcast cannot be proxied\n";
        let outcome = says(build, &[to, "broadcast=1"]);
        outcome.success().stdout_is("send: ENETUNREACH\n").stderr_has(refused);
        // What no hook sees ends in the kernel.
        says(build, &[to, "broadcast=1", "connected=1"]).success().stdout_is("send: no answer\n");
        // An address beside it is one like any.
        says(build, &["to=10.66.1.255:7000"]).success().stdout_is("send: no answer\n");
    }
    scene.ip("address add 10.99.7.2/30 broadcast 10.99.7.3 dev cable\n");
    says(Build::Shared, &["to=10.99.7.3:7000", "broadcast=1"]).success().stdout_is("send: ENETUNREACH\n");
    scene.ip("address del 10.99.7.2/30 dev cable\n");
    says(Build::Shared, &["to=10.99.7.3:7000", "broadcast=1"]).success().stdout_is("send: no answer\n");
    scene.lab.assert_no_leak();
}
