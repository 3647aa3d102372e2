//! Proxies at Unix sockets: Tor by its own, others behind a door.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script, reply};
use presocks_tests::proxy::{Dante, Microsocks, SshDynamic, Tinyproxy, Tor, UnixDoor};
use presocks_tests::{Lab, missing};

use crate::hostile::proxy::{MODES, PORT, Scene};
use crate::relay::{self, pages};

const NEEDS: [&str; 6] = ["danted", "ssh", "sshd", "ssh-keygen", "tinyproxy", "python3"];

/// One of each kind of proxy at a Unix socket.
struct Proxies {
    _real: (Dante, Dante, SshDynamic, Tinyproxy),
    urls: Vec<String>,
    lab: Lab,
}

impl Proxies {
    fn start() -> Option<Self> {
        if missing(&NEEDS) {
            return None;
        }
        let lab = Lab::new();
        let real = (
            Dante::open(&lab),
            Dante::with_password(&lab),
            SshDynamic::open(&lab),
            Tinyproxy::with_password(&lab),
        );
        let door = |port: u16, scheme: &str, credentials: &str| {
            UnixDoor::before(&lab, port).url(&format!("{scheme}+unix"), credentials)
        };
        let urls = vec![
            door(real.0.port(), "socks5", ""),
            door(real.1.port(), "socks5h", "lab:secret@"),
            door(real.2.port(), "socks4a", ""),
            door(real.3.port(), "http", "lab:secret@"),
        ];
        Some(Self { _real: real, urls, lab })
    }
}

#[test]
fn curl_wget_and_python_fetch_by_name_and_by_address() {
    if missing(&["curl", "wget"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    for url in &proxies.urls {
        let hosts = pages::hosts(url.starts_with("socks4a"));
        pages::are_fetched(lab, url, hosts, |run| run.ordinary_user().directory("/"));
    }
    lab.assert_no_leak();
}

#[test]
fn bytes_arrive_whole_and_so_does_the_end_of_each_direction() {
    if missing(&["curl"]) {
        return;
    }
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _web = HttpServer::start(lab);
    for url in &proxies.urls {
        pages::arrive_whole(lab, url);
        relay::carries_megabytes_both_ways_at_once(lab, url);
        relay::carries_megabytes_one_way_and_then_the_other(lab, url);
        if !url.starts_with("http") {
            relay::carries_the_end_of_one_direction(lab, url);
        }
    }
    lab.assert_no_leak();
}

#[test]
fn sockets_know_their_peer_and_loops_connect_two_hundred_times_at_once() {
    let Some(proxies) = Proxies::start() else { return };
    let lab = &proxies.lab;
    let _echo = Service::echo(lab, 7);
    for url in &proxies.urls {
        let hosts: &[&str] = if url.starts_with("socks4a") {
            &["origin.test", "10.88.0.2"]
        } else {
            &["origin.test", "10.88.0.2", "fd88::2", "::ffff:10.88.0.2"]
        };
        relay::shows_the_destination_as_peer(lab, url, hosts);
        // tinyproxy takes a hundred clients.
        if !url.starts_with("http") {
            relay::connects_two_hundred_times_at_once(lab, url);
        }
    }
    lab.assert_no_leak();
}

#[test]
fn a_queue_that_is_full_is_waited_in() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Microsocks::open(&lab);
    let door = UnixDoor::narrow(&lab, proxy.port());
    relay::connects_two_hundred_times_at_once(&lab, &door.url("socks5+unix", ""));
    assert_eq!(door.connections(), 200);
    lab.assert_no_leak();
}

#[test]
fn what_a_program_sends_before_it_exits_arrives() {
    let Some(proxies) = Proxies::start() else { return };
    relay::carries_what_was_sent_before_the_exit(&proxies.lab, &proxies.urls[0]);
    proxies.lab.assert_no_leak();
}

#[test]
fn failures_behind_the_proxy_are_those_of_a_direct_connection() {
    let Some(proxies) = Proxies::start() else { return };
    for url in &proxies.urls[..2] {
        relay::tells_the_true_errno(&proxies.lab, url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn datagrams_are_refused_and_one_line_says_so() {
    let Some(proxies) = Proxies::start() else { return };
    for url in &proxies.urls {
        relay::refuses_datagrams(&proxies.lab, url);
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn tor_is_spoken_to_at_its_socket_and_what_it_refuses_is_refused() {
    if missing(&["tor", "cc"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let tor = Tor::without_network(&scene.lab);
    for (url, credentials) in
        [("socks5+unix", ""), ("socks5h+unix", "some:body@"), ("socks4a+unix", "somebody@")]
    {
        let url = format!("{url}://{credentials}{}", tor.socket().display());
        let outcome = scene.probe(&url, &[], &["mode=epoll", "times=2"]);
        outcome.success().stderr_has(tor.socket().to_str().unwrap()).stderr_has("the proxy answered: ");
        assert!(!outcome.stdout().contains(" ok"), "{}", outcome.report());
        assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
    }
    scene.assert_untouched("tor");
}

#[test]
fn a_socket_that_is_not_there_or_serves_nobody_or_not_us_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let path = |name: &str| scene.lab.directory().join(name);
    drop(UnixListener::bind(path("deserted")).unwrap());
    std::fs::set_permissions(path("deserted"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let _locked = UnixListener::bind(path("locked")).unwrap();
    std::fs::set_permissions(path("locked"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let plain = scene.lab.file("plain", "");
    std::fs::set_permissions(plain, std::fs::Permissions::from_mode(0o666)).unwrap();
    for (name, why) in [
        ("absent", "no such file"),
        ("deserted", "connection refused"),
        ("locked", "permission denied"),
        ("plain", "refused"),
    ] {
        for scheme in ["socks5+unix", "http+unix"] {
            let url = format!("{scheme}://{}", path(name).display());
            for mode in MODES {
                let probe = scene.lab.directory().join("probe");
                let (to, mode) = (format!("to={ORIGIN}:{PORT}"), format!("mode={mode}"));
                let run = scene.lab.presocks([probe.to_str().unwrap(), &to, &mode, "times=3"]).proxy(&url);
                let outcome = run.directory("/").ordinary_user().run();
                outcome.success().stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3)).stderr_has(why);
                outcome.stderr_has(path(name).to_str().unwrap());
                assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
            }
        }
    }
    scene.assert_untouched("no socket");
}

#[test]
fn silence_gives_etimedout_and_a_refusal_its_errno() {
    let Some(scene) = Scene::set() else { return };
    let never = Gate::closed();
    let silent = Script::new().pass(&never).start(&scene.lab);
    let url = UnixDoor::before(&scene.lab, silent.port()).url("socks5+unix", "");
    for mode in MODES {
        let mode = format!("mode={mode}");
        let outcome = scene.probe(&url, &["--timeout", "1"], &[&mode]);
        outcome.stdout_is("connect: ETIMEDOUT\nunusable\n").stderr_has("did not answer within 1s");
    }
    never.open();
    for (code, errno) in [(2, "EACCES"), (4, "EHOSTUNREACH"), (5, "ECONNREFUSED")] {
        let refusing = Script::until_request().send(reply(code)).start(&scene.lab);
        let url = UnixDoor::before(&scene.lab, refusing.port()).url("socks5+unix", "");
        let outcome = scene.probe(&url, &[], &["mode=poll", "times=3"]);
        outcome.stdout_is(format!("connect: {errno}\nunusable\n").repeat(3));
    }
    scene.assert_untouched("silent or refusing");
}

#[test]
fn not_a_byte_after_the_reply_is_lost_or_made_up() {
    let Some(scene) = Scene::set() else { return };
    let together = [&SUCCESS[..], b"220 hello\r\n"].concat();
    let scripts = [Script::until_request().send(&together), Script::until_request().dribble(&together)];
    for script in scripts {
        let proxy = script.expect(5).read_all().start(&scene.lab);
        let url = UnixDoor::before(&scene.lab, proxy.port()).url("socks5+unix", "");
        for mode in MODES {
            let outcome = scene.probe(&url, &[], &[&format!("mode={mode}"), "expect=11", "say=quit\n"]);
            outcome.stdout_is("connect: ok\npeer: the one asked for\nreceived: 220 hello\r\n\n");
        }
        for connection in proxy.finished(MODES.len()) {
            assert!(connection.received.ends_with(b"quit\n"), "{connection:?}");
        }
    }
    scene.assert_untouched("extra bytes");
}

#[test]
fn a_path_may_have_any_character() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::with_password(&lab);
    let door = UnixDoor::before(&lab, proxy.port());
    let odd = lab.directory().join("a b?c%d@e#f");
    std::fs::rename(door.path(), &odd).unwrap();
    let written = format!("{}/a%20b%3Fc%25d%40e%23f", lab.directory().display());
    let url = format!("socks5+unix://lab:secret@{written}");
    let fetch = lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&url).run();
    fetch.success().stdout_is(http::HELLO).stderr_is("");
    let failing = lab.presocks(["curl", "-sS", "http://10.88.0.2:4/"]).proxy(&url).run();
    assert!(!failing.code(7).stderr().contains("secret"), "{}", failing.report());
    lab.assert_no_leak();
}

#[test]
fn a_unix_socket_behind_another_proxy_is_an_error_before_the_command_runs() {
    if missing(&["touch"]) {
        return;
    }
    let lab = Lab::new();
    let run = lab
        .presocks(["touch", "it-ran"])
        .proxy("socks5://127.0.0.1:1")
        .proxy("socks5+unix:///run/proxy")
        .run();
    run.code(125).stderr_has("/run/proxy").stderr_has("first");
    assert!(!lab.directory().join("it-ran").exists());
}
