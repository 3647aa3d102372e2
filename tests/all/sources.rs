//! Sockets that are bound to an address of this machine, or of no machine, and are connected to loopback: to a proxy there, to a relay, to a service.
//! Linux answers them by whatever route leads to their address; so once that has left the machine, the answers do.

mod datagrams;
mod listeners;
mod services;

use std::net::Ipv4Addr;

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{SUCCESS, Script, reply};
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Stunnel, UnixDoor, Upstream as _};
use presocks_tests::{Build, Invocation, Lab, Site, missing};

const BUILDS: [Build; 2] = [Build::Shared, Build::Static];

/// Addresses of the client's that come and go.
const COME: &str = "address replace fd77::9/128 dev cable nodad\naddress replace 10.77.0.9/32 dev cable\n";
const GO: &str = "address del fd77::9/128 dev cable\naddress del 10.77.0.9/32 dev cable\n";

/// Where what leaves goes.
const WAY_OUT: &str = "route replace default via fd77::1 dev cable onlink\n";

/// The words by which `tests/programs/bound.c` speaks to the origin's echo service, and to a name server that there is not.
const FAR: &[&str] = &["to=10.88.0.2:7000"];
const FAR6: &[&str] = &["to=[fd88::2]:7000"];
const NAME_SERVER: &[&str] = &["to=192.0.2.53:53", "query=1"];
const NAME_SERVER6: &[&str] = &["to=[2001:db8::53]:53", "query=1"];

/// A lab whose client has addresses that come and go, with a proxy of each kind that is reached over loopback.
struct Scene {
    stunnel: Stunnel,
    certificates: Certificates,
    door: UnixDoor,
    real: Microsocks,
    /// On the client.
    near: ScriptedProxy,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["cc", "microsocks", "stunnel4"]) {
            return None;
        }
        let lab = Lab::new();
        let _echo = Service::echo(&lab, 7000);
        let real = Microsocks::open(&lab);
        let certificates = Certificates::make(&lab);
        let loopback = Site {
            host: &lab.client,
            address: Ipv4Addr::LOCALHOST,
            near: "lo",
            far: "lo",
            is_for_the_client: false,
        };
        let scene = Self {
            stunnel: Stunnel::before(&lab, 0, real.port(), &certificates.good),
            certificates,
            door: UnixDoor::before(&lab, real.port()),
            real,
            near: Script::until_request().send(SUCCESS).relay((ORIGIN, 7000)).start_at(&lab, loopback),
            lab,
        };
        scene.ip(COME);
        Some(scene)
    }

    fn ip(&self, lines: &str) {
        self.lab.client.setup(&["ip", "-batch", "-"], lines);
    }

    fn over_tls(&self) -> String {
        format!("{}?ca-file={}", self.stunnel.url("socks5+tls", ""), self.certificates.authority.display())
    }

    fn at_a_unix_socket(&self) -> String {
        self.door.url("socks5+unix", "")
    }

    fn at_loopback(&self) -> String {
        self.near.url()
    }

    fn at_loopback6(&self) -> String {
        format!("socks5://[::1]:{}", self.near.port())
    }

    /// `tests/programs/bound.c` under presocks.
    fn program<'a>(&'a self, build: Build, proxy: &str, words: &[&[&str]]) -> Invocation<'a> {
        let program = build.of(&self.lab, "bound", &[]);
        let words = [program.to_str().unwrap()].into_iter().chain(words.concat());
        self.lab.presocks(words).proxy(&proxy)
    }

    /// The program connects, and the lines are carried out while it is connected: whatever becomes of the conversation, nothing of it is seen on the cable.
    /// `own` is the source that the program sees.
    #[track_caller]
    fn goes_on(&self, proxy: &str, own: &str, words: &[&[&str]], lines: &str) {
        for (build, is_ordinary) in BUILDS.into_iter().flat_map(|build| [(build, false), (build, true)]) {
            self.ip(&[WAY_OUT, COME, GO, COME].concat());
            let words = [words, &[&["leaves=1"]]].concat();
            let run = self.program(build, proxy, &words);
            let mut program = if is_ordinary { run.ordinary_user() } else { run }.start();
            let said = [program.line(), program.line(), program.line()];
            assert_eq!(
                said,
                ["connect: ok", &format!("own: {own}"), "before: ok"],
                "{build:?} {proxy} {words:?}"
            );
            self.ip(lines);
            program.write("\n");
            program.finish().success().stdout_has("after: ok");
            self.lab.assert_no_leak();
        }
    }
}

#[test]
fn an_address_that_leaves_the_machine_takes_nothing_of_a_relay_or_a_proxy_at_loopback_with_it() {
    let Some(scene) = Scene::set() else { return };
    let own = ["own=[fd77::9]:0"];
    scene.goes_on(&scene.over_tls(), "::1", &[&own, FAR6], GO);
    scene.goes_on(&scene.at_a_unix_socket(), "::1", &[&own, FAR6], GO);
    scene.goes_on(&scene.at_loopback6(), "::1", &[&own, FAR6], GO);
    scene.goes_on(&scene.at_loopback6(), "::1", &[&own, FAR6, &["nonblocking=1"]], GO);
    scene.goes_on(&scene.real.url(), "::1", &[&own, FAR6, &["only=1"]], GO);
    scene.goes_on(&scene.real.url(), "::1", &[&own, NAME_SERVER6], GO);
    scene.goes_on(&scene.at_loopback6(), "::1", &[&own, FAR6, &["mptcp=1"]], GO);
}

/// No privilege is needed for that.
#[test]
fn a_source_that_is_nobodys_takes_nothing_with_it_either() {
    let Some(scene) = Scene::set() else { return };
    let own = ["own=[2001:db8:113::77]:0", "free=1"];
    for proxy in [scene.over_tls(), scene.at_a_unix_socket(), scene.at_loopback6()] {
        scene.goes_on(&proxy, "::1", &[&own, FAR6], GO);
    }
    scene.goes_on(&scene.real.url(), "::1", &[&own, NAME_SERVER6], GO);
    // IPv4 has no route for it. That is so on a bare machine, too.
    for (proxy, words) in
        [(scene.at_loopback(), FAR), (scene.at_a_unix_socket(), FAR), (scene.real.url(), NAME_SERVER)]
    {
        for build in BUILDS {
            let own = ["own=203.0.113.77:0", "free=1"];
            let outcome = scene.program(build, &proxy, &[&own, words]).run();
            outcome.success().stdout_is("connect: ENETUNREACH\nown: 203.0.113.77\n");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn routes_that_come_and_go_take_nothing_with_them() {
    let Some(scene) = Scene::set() else { return };
    for lines in [
        "route del local fd77::9 dev cable table local\n",
        "route del default via fd77::1 dev cable\n",
        "route replace fd77::9 via fd77::1 dev cable onlink metric 1\naddress del fd77::9/128 dev cable\n",
        &format!("route del default via fd77::1 dev cable\naddress del fd77::9/128 dev cable\n{WAY_OUT}"),
    ] {
        scene.goes_on(&scene.at_a_unix_socket(), "::1", &[&["own=[fd77::9]:0"], FAR6], lines);
    }
}

#[test]
fn a_socket_that_is_bound_to_a_port_as_well_goes_to_no_relay_and_to_no_proxy_at_loopback() {
    let Some(scene) = Scene::set() else { return };
    for own in [&["own=[fd77::9]:5555"][..], &["own=[2001:db8:113::77]:5555", "free=1"]] {
        for (proxy, far) in [
            (scene.over_tls(), FAR6),
            (scene.at_a_unix_socket(), FAR6),
            (scene.at_loopback6(), FAR6),
            (scene.real.url(), NAME_SERVER6),
        ] {
            for build in BUILDS {
                let outcome = scene.program(build, &proxy, &[own, far]).run();
                let address = if own.len() > 1 { "2001:db8:113::77" } else { "fd77::9" };
                outcome.success().stdout_is(format!("connect: ENETUNREACH\nown: {address}\n"));
                outcome.stderr_has(&format!(
                    "the program has bound its socket to {address} and a port: once that address has left this machine, so would the answers from loopback\n"
                ));
            }
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_socket_that_cannot_have_one_proxy_at_loopback_has_another_elsewhere_from_its_own_address() {
    let Some(scene) = Scene::set() else { return };
    let elsewhere = scene.real.url6();
    for (build, own) in
        BUILDS.into_iter().flat_map(|build| [(build, "own=[fd77::2]:5555"), (build, "own=[fd77::2]:0")])
    {
        for first in [
            scene.at_loopback6().replace(&scene.near.port().to_string(), "9"),
            scene.at_a_unix_socket().replace(".sock", ""),
        ] {
            let run = scene.program(build, &first, &[&[own], FAR6]).proxy(&elsewhere);
            let outcome = run.options(["--order", "failover"]).run();
            outcome.success().stdout_is("connect: ok\nown: fd77::2\nbefore: ok\n");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn a_socket_that_a_proxy_has_refused_connects_from_its_own_address_afterwards() {
    let Some(scene) = Scene::set() else { return };
    let refusing = Script::until_request().send(reply(5)).read_all().start(&scene.lab);
    let door = UnixDoor::before(&scene.lab, refusing.port());
    scene.lab.permit_direct("fd88::2");
    for build in BUILDS {
        for words in [&[][..], &["nonblocking=1"], &["mptcp=1"]] {
            let words = [&["own=[fd77::2]:0", "to=[2001:db8::1]:80"], FAR6, words];
            let run =
                scene.program(build, &door.url("socks5+unix", ""), &words).options(["--direct", "fd88::2"]);
            run.run()
                .success()
                .stdout_is("connect: ECONNREFUSED\nown: fd77::2\nconnect: ok\nown: fd77::2\nbefore: ok\n");
        }
    }
    scene.lab.assert_no_leak();
}

/// Linux would send that, with IPv6.
#[test]
fn nothing_is_sent_from_loopback_to_a_proxy_elsewhere() {
    let Some(scene) = Scene::set() else { return };
    for (build, own, far, proxy) in BUILDS.into_iter().flat_map(|build| {
        let (proxy, proxy6) = (scene.real.url(), scene.real.url6());
        [(build, "own=[::1]:0", FAR6, proxy6), (build, "own=127.0.0.1:0", FAR, proxy)]
    }) {
        scene.program(build, &proxy, &[&[own], far]).run().success().stdout_has("connect: EINVAL\n");
    }
    scene.lab.assert_no_leak();
}

/// As on machines whose containers are reached by forwarding from loopback.
#[test]
fn with_loopback_routed_an_ipv4_address_takes_nothing_with_it_either() {
    let Some(scene) = Scene::set() else { return };
    scene.lab.client.setup(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet"], "");
    let own = ["own=10.77.0.9:0"];
    scene.goes_on(&scene.over_tls(), "127.0.0.1", &[&own, FAR], GO);
    scene.goes_on(&scene.at_loopback(), "127.0.0.1", &[&own, FAR], GO);
    scene.goes_on(
        &scene.at_loopback(),
        "::ffff:127.0.0.1",
        &[&["own=[::ffff:10.77.0.9]:0", "to=[::ffff:10.88.0.2]:7000"]],
        GO,
    );
    scene.goes_on(&scene.real.url(), "127.0.0.1", &[&own, NAME_SERVER], GO);
    for build in BUILDS {
        let run = |own| scene.program(build, &scene.at_loopback(), &[&[own], FAR]).run();
        run("own=10.77.0.2:5555")
            .success()
            .stdout_has("connect: ENETUNREACH\n")
            .stderr_has("to 10.77.0.2 and a port");
        run("own=127.0.0.1:0").success().stdout_is("connect: ok\nown: 127.0.0.1\nbefore: ok\n");
    }
    scene.lab.assert_no_leak();
}

#[test]
fn an_ipv4_address_is_kept_where_the_kernel_keeps_loopback_in() {
    let Some(scene) = Scene::set() else { return };
    for build in BUILDS {
        for proxy in [scene.at_loopback(), scene.at_a_unix_socket()] {
            for own in ["own=10.77.0.9:0", "own=10.77.0.9:5555"] {
                let outcome = scene.program(build, &proxy, &[&[own], FAR]).run();
                outcome.success().stdout_is("connect: ok\nown: 10.77.0.9\nbefore: ok\n");
            }
        }
    }
    scene.lab.assert_no_leak();
}
