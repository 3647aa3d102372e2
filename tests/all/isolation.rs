//! `--isolate`: user and password that are made up, by which a SOCKS5 proxy such as Tor keeps connections apart.

use std::collections::BTreeSet;

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::{ORIGIN, PROXY};
use presocks_tests::origin::{Datagrams, HttpServer, http};
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::proxy::{Embedded, Microsocks, ScriptedProxy, Stunnel, Tor, Upstream};
use presocks_tests::{Lab, missing};

/// Connects to each of its arguments, in their order.
const PROGRAM: &str = "
import socket, sys
for destination in sys.argv[1:]:
    host, port = destination.split(':')
    socket.create_connection((host, int(port))).close()";

const PYTHON: &str = "/usr/bin/python3";

/// A lab with a proxy that takes every user and password.
struct Scene {
    proxy: ScriptedProxy,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        if missing(&["python3"]) {
            return None;
        }
        let lab = Lab::new();
        let script = Script::new().greeting().send([5, 2]).credentials().send([1, 0]).request().send(SUCCESS);
        Some(Self { proxy: script.start(&lab), lab })
    }

    /// Runs a shell script, `$0` of which is the program, and gives the credentials of its connections, in their order.
    #[track_caller]
    fn credentials(&self, isolation: &str, script: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let before = self.proxy.connections().len();
        let script = script.replace("CONNECT", &format!("{PYTHON} -c \"$0\""));
        let run = self.lab.presocks(["sh", "-c", &script, PROGRAM]).proxy(&self.proxy);
        run.options(["--isolate", isolation]).run().success().stderr_is("");
        let count = self.proxy.connections().len();
        let connections = self.proxy.finished(count).split_off(before);
        // presocks may ask the proxy what it is like, by no user. A user follows his length, after the greeting and the version.
        let all = connections.iter().filter_map(|connection| match connection.pieces.as_slice() {
            [] | [_] => None,
            [_, methods, ..] if !methods.contains(&2) => None,
            [_, _, _, user, _, password, ..] => {
                assert!(!user.is_empty() && !password.is_empty(), "{connection:?}");
                Some((user.clone(), password.clone()))
            }
            _ => panic!("no credentials: {connection:?}"),
        });
        let all = all.collect();
        self.lab.assert_no_leak();
        all
    }
}

fn distinct<T: Ord>(all: &[T]) -> usize {
    all.iter().collect::<BTreeSet<_>>().len()
}

#[test]
fn by_process_each_process_has_its_own() {
    let Some(scene) = Scene::set() else { return };
    let script =
        "CONNECT a.test:1 b.test:2 192.0.2.1:3; CONNECT a.test:1 a.test:1; env -i CONNECT a.test:1 b.test:2";
    let all = scene.credentials("process", script);
    assert_eq!((all.len(), distinct(&all)), (7, 3), "{all:?}");
    assert_eq!((distinct(&all[..3]), distinct(&all[3..5]), distinct(&all[5..])), (1, 1, 1), "{all:?}");
}

#[test]
fn by_destination_each_destination_has_its_own_whoever_connects() {
    let Some(scene) = Scene::set() else { return };
    let script = "CONNECT a.test:1 b.test:1 192.0.2.1:1; CONNECT a.test:1 b.test:1 192.0.2.1:1";
    let all = scene.credentials("destination", script);
    assert_eq!((all.len(), distinct(&all)), (6, 3), "{all:?}");
    assert_eq!(all[..3], all[3..]);
}

#[test]
fn by_session_all_of_a_session_have_the_same_and_no_other_session_has_it() {
    let Some(scene) = Scene::set() else { return };
    let script = "CONNECT a.test:1 b.test:2; CONNECT a.test:1 192.0.2.1:3";
    let (one, other) = (scene.credentials("session", script), scene.credentials("session", script));
    assert_eq!((one.len(), distinct(&one), distinct(&other)), (4, 1, 1));
    assert_ne!(one[0], other[0]);
}

#[test]
fn what_is_made_up_is_another_in_each_session() {
    let Some(scene) = Scene::set() else { return };
    for isolation in ["process", "destination", "session"] {
        let first = scene.credentials(isolation, "CONNECT a.test:1");
        let second = scene.credentials(isolation, "CONNECT a.test:1");
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second, "{isolation}");
    }
}

/// It carries TLS to the next, and without the credentials could not tell what for.
#[test]
fn the_first_proxy_does_not_learn_the_destination_from_what_is_made_up() {
    if missing(&["curl", "stunnel4", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let certificates = Certificates::make(&lab);
    let last = Microsocks::open(&lab);
    let stunnel = Stunnel::before(&lab, 0, last.port(), &certificates.good);
    let script = Script::new().greeting().send([5, 2]).credentials().send([1, 0]).request().send(SUCCESS);
    let first = script.relay((PROXY, stunnel.port())).start(&lab);
    let second = format!("{}?ca-file={}", stunnel.url("socks5+tls", ""), certificates.authority.display());
    for isolation in ["destination", "process", "session"] {
        let run = lab.presocks(["curl", "-4sS", "http://origin.test/hello"]).proxy(&first).proxy(&second);
        run.options(["--isolate", isolation]).run().success().stdout_is(http::HELLO).stderr_is("");
    }
    for connection in first.connections() {
        let text = String::from_utf8_lossy(&connection.received).into_owned();
        assert!(!text.contains("origin.test"), "{text:?}");
    }
    lab.assert_no_leak();
}

/// No proxy on the way has credentials to tell connections apart by: what is said, and nothing of the program's gets through.
const NOT_APART: &str =
    "no proxy of the chain supports isolation (--isolate): none asks for a user and password\n";

#[test]
fn a_proxy_that_asks_for_no_credentials_is_not_used() {
    let Some(scene) = crate::hostile::proxy::Scene::set() else { return };
    for isolation in ["destination", "process", "session"] {
        // It does not even look at what it is offered.
        for choice in [0, 255] {
            let script = Script::new().greeting().send([5, choice]).request().send(SUCCESS).read_all();
            let proxy = script.start(&scene.lab);
            let outcome = scene.probe(&proxy, &["--isolate", isolation], &["mode=epoll", "times=3"]);
            outcome.success().stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3)).stderr_has(NOT_APART);
            outcome.stderr_has(&proxy.url());
            assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
            for connection in proxy.finished(3) {
                assert_eq!(connection.pieces[1], [2], "{connection:?}");
                assert_eq!(connection.pieces.iter().map(Vec::len).sum::<usize>(), 3, "{connection:?}");
            }
        }
    }
    scene.assert_untouched("no credentials");
}

#[test]
fn proxies_that_know_no_such_credentials_are_not_even_asked() {
    let Some(scene) = crate::hostile::proxy::Scene::set() else { return };
    let proxy = Script::new().close().start(&scene.lab);
    for scheme in ["http", "socks4a"] {
        let url = proxy.url_as(scheme);
        let options = ["--isolate", "session"];
        let outcome = scene.probe(&url, &options, &["mode=epoll", "times=3"]);
        outcome.success().stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3)).stderr_has(NOT_APART);
        assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
        // Nor are several of them.
        let outcome = scene.probe(&url, &[&["-p", &url], &options[..]].concat(), &["mode=epoll"]);
        outcome.stdout_is("connect: ENETUNREACH\nunusable\n").stderr_has(NOT_APART);
    }
    assert_eq!(proxy.connections().len(), 0);
    scene.assert_untouched("no SOCKS5");
}

/// One that tells connections apart suffices, wherever it stands.
#[test]
fn one_of_a_chain_that_asks_for_credentials_suffices() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let open = Microsocks::open(&lab);
    let asking = || Script::new().greeting().send([5, 2]).credentials().send([1, 0]).request().send(SUCCESS);
    let to_the_open = asking().relay((PROXY, open.port())).start(&lab);
    let to_the_origin = asking().relay((ORIGIN, 80)).start(&lab);
    for isolation in ["destination", "process", "session"] {
        for (first, second) in
            [(&to_the_open as &dyn Upstream, &open as &dyn Upstream), (&open, &to_the_origin)]
        {
            let run = lab.presocks(["curl", "-4sS", "http://origin.test/hello"]).proxy(first).proxy(second);
            run.options(["--isolate", isolation]).run().success().stdout_is(http::HELLO).stderr_is("");
        }
    }
    for proxy in [&to_the_open, &to_the_origin] {
        let users: Vec<_> =
            proxy.connections().iter().map(|connection| connection.pieces[3].clone()).collect();
        assert_eq!((users.len(), distinct(&users)), (3, 3), "{users:?}");
    }
    lab.assert_no_leak();
}

#[test]
fn datagrams_are_refused_and_one_line_says_so() {
    const SEND: &str = "
import errno, socket
for _ in range(3):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: print(s.sendto(b'x', ('10.88.0.2', 7)))
    except OSError as error: print(errno.errorcode[error.errno])";
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let service = Datagrams::echo(&lab, 7);
    let proxy = Embedded::open(&lab);
    // It relays them as long as nothing else is wanted.
    lab.presocks([PYTHON, "-c", SEND]).proxy(&proxy).run().success().stdout_is("1\n".repeat(3)).stderr_is("");
    for isolation in ["destination", "process", "session"] {
        let run = lab.presocks([PYTHON, "-c", SEND]).proxy(&proxy).options(["--isolate", isolation]).run();
        run.success().stdout_is("ENETUNREACH\n".repeat(3)).stderr_has("cannot be kept apart (--isolate)\n");
        assert_eq!(run.stderr().lines().count(), 1, "{}", run.report());
    }
    assert!(service.received().len() <= 3);
    lab.assert_no_leak();
}

#[test]
fn tor_takes_them() {
    if missing(&["tor", "curl"]) {
        return;
    }
    let lab = Lab::new();
    let tor = Tor::without_network(&lab);
    for isolation in ["process", "destination", "session"] {
        let run =
            lab.presocks(["curl", "-sS", "http://192.0.2.7/"]).proxy(&tor).options(["--isolate", isolation]);
        // It gets as far as the request, which this Tor cannot fulfil.
        run.run().stdout_is("").stderr_has(&tor.url()).stderr_has("the proxy answered: ");
    }
    lab.assert_no_leak();
}
