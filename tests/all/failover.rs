//! `--order failover`: the first proxy that is alive, and with `--failover-on-refusal` the first that does not refuse.

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::RESOLVER;
use presocks_tests::proxy::scripted::{Gate, Script, reply};
use presocks_tests::proxy::{Stunnel, Upstream};
use presocks_tests::{binary, missing, patience};

use crate::chains::Kind::Microsocks;
use crate::chains::{NEEDS, Proxies, WHO, tell_the_last_hop, through};

const WORDS: [&str; 4] = ["/usr/bin/python3", "-c", WHO, "4"];
const FAILOVER: [&str; 2] = ["--order", "failover"];
const ON_REFUSAL: [&str; 3] = ["--order", "failover", "--failover-on-refusal"];

#[test]
fn the_first_serves_while_it_lives_and_the_next_when_it_is_dead() {
    if missing(&NEEDS) {
        return;
    }
    let mut proxies = Proxies::crowd(&[Microsocks; 3]);
    let _origin = tell_the_last_hop(&proxies.lab);
    proxies.presocks(&WORDS, &FAILOVER).run().success().stdout_is("1111").stderr_is("");
    assert!(proxies.hops.asked(2).is_empty() && proxies.hops.asked(3).is_empty());
    proxies.kill(1);
    proxies.presocks(&WORDS, &FAILOVER).run().success().stdout_is("2222");
    proxies.kill(2);
    proxies.presocks(&WORDS, &FAILOVER).run().success().stdout_is("3333");
    assert_eq!(proxies.asked_by_others(), [0, 0, 0]);
    proxies.kill(3);
    let run = proxies.presocks(&WORDS, &FAILOVER).run();
    run.success().stdout_is("xxxx").stderr_has("cannot be reached");
    proxies.lab.assert_no_leak();
}

#[test]
fn one_that_dies_under_way_is_left_by_all_processes_of_the_session() {
    if missing(&NEEDS) {
        return;
    }
    let mut proxies = Proxies::crowd(&[Microsocks; 2]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let script = "while read -r line; do /usr/bin/python3 -c \"$0\" 1; echo; done";
    let urls = proxies.urls.clone();
    let lab = &proxies.lab;
    let mut running = through(lab, &urls, &["sh", "-c", script, WHO], &FAILOVER).start();
    running.write("go\n");
    assert_eq!(running.line(), "1");
    proxies.running[0] = None;
    for _ in 0..3 {
        running.write("go\n");
        assert_eq!(running.line(), "2");
    }
    running.finish().success();
    lab.assert_no_leak();
}

/// It accepts, and says nothing, or what no proxy says; or nobody vouches for it.
#[test]
fn one_that_is_no_use_is_passed_over() {
    if missing(&NEEDS) || missing(&["stunnel4"]) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let never = Gate::closed();
    let certificates = Certificates::make(&proxies.lab);
    let stunnel = Stunnel::before(&proxies.lab, 0, 9, &certificates.self_signed);
    let scripts = [
        Script::new().pass(&never),
        Script::new().close(),
        Script::new().greeting().send("HTTP/1.1 400 Bad Request\r\n\r\n"),
        Script::until_request().close(),
    ];
    let useless = scripts.map(|script| script.start(&proxies.lab).url());
    for first in useless.into_iter().chain([stunnel.url("socks5+tls", "")]) {
        let urls = [vec![first.clone()], proxies.urls.clone()].concat();
        let options = [&FAILOVER[..], &["--handshake-timeout", "3"]].concat();
        let run = through(&proxies.lab, &urls, &WORDS, &options).run();
        assert_eq!(run.success().stdout(), "1111", "{first}\n{}", run.report());
    }
    never.open();
    proxies.lab.assert_no_leak();
}

#[test]
fn a_refusal_is_an_answer_unless_it_is_to_be_passed_over() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let status = |line: &str| Script::new().until("\r\n\r\n").send(format!("HTTP/1.1 {line}\r\n\r\n"));
    let socks4 = Script::new().expect(9).send([0, 91, 0, 0, 0, 0, 0, 0]);
    for (scheme, script, why) in [
        ("socks5", Script::until_request().send(reply(1)), "(reply 1)"),
        ("socks5", Script::until_request().send(reply(5)), "(reply 5)"),
        ("socks4", socks4, "(reply 91)"),
        ("http", status("403 Forbidden"), "403 Forbidden"),
        ("http", status("503 Service Unavailable"), "503 Service Unavailable"),
    ] {
        let refusing = script.read_all().start(&proxies.lab).url_as(scheme);
        let urls = [vec![refusing], proxies.urls.clone()].concat();
        through(&proxies.lab, &urls, &WORDS, &FAILOVER).run().success().stdout_is("xxxx").stderr_has(why);
        through(&proxies.lab, &urls, &WORDS, &ON_REFUSAL).run().success().stdout_is("1111");
    }
    proxies.lab.assert_no_leak();
}

#[test]
fn when_all_refuse_the_last_refusal_is_the_answer() {
    if missing(&NEEDS) || missing(&["cc"]) {
        return;
    }
    let Some(scene) = crate::hostile::proxy::Scene::set() else { return };
    let refusing = |code| Script::until_request().send(reply(code)).read_all().start(&scene.lab).url();
    let urls = [refusing(2), refusing(4)];
    let options = [&["-p", &urls[1]], &ON_REFUSAL[..]].concat();
    let outcome = scene.probe(&urls[0], &options, &["mode=epoll"]);
    outcome.stdout_is("connect: EHOSTUNREACH\nunusable\n").stderr_has("(reply 4)").stderr_has(&urls[1]);
    scene.assert_untouched("all refuse");
}

/// Connects an IPv6 socket that is bound to nothing.
const SIX: &str = "
import errno, socket
for _ in range(3):
    s = socket.socket(socket.AF_INET6)
    try:
        s.connect(('fd88::2', 9000))
        print(s.getpeername()[0], s.recv(100) != b'')
    except OSError as error: print(errno.errorcode[error.errno])";

/// connect(2) says of a socket that has no address of the family that the address cannot be had: of the way there, not of the socket.
#[test]
fn where_there_is_no_ipv6_a_proxy_with_an_ipv6_address_is_passed_over() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let lab = &proxies.lab;
    lab.client.inside(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
    let six = "socks5://[::1]:1".to_owned();
    let words = ["/usr/bin/python3", "-c", SIX];
    let urls = [vec![six.clone()], proxies.urls.clone()].concat();
    let run = through(lab, &urls, &words, &FAILOVER).run();
    run.success()
        .stdout_is("fd88::2 True\n".repeat(3))
        .stderr_has(&six)
        .stderr_has("annot assign requested address");
    let strict = through(lab, std::slice::from_ref(&six), &words, &[]).run();
    strict.success().stdout_is("ENETUNREACH\n".repeat(3));
    strict.stderr_has(&six).stderr_has("annot assign requested address");
    assert_eq!(strict.stderr().lines().count(), 1, "{}", strict.report());
    lab.assert_no_leak();
}

/// Its name server swallows what it is asked: for two and a half minutes, were it waited for.
#[test]
fn a_look_up_that_hangs_holds_nothing_up() {
    if missing(&NEEDS) {
        return;
    }
    let proxies = Proxies::crowd(&[Microsocks]);
    let _origin = tell_the_last_hop(&proxies.lab);
    let lab = &proxies.lab;
    let resolver = format!("nameserver {RESOLVER}\noptions timeout:30 attempts:5\n");
    std::fs::write(lab.directory().join("etc-client/resolv.conf"), resolver).unwrap();
    lab.permit_direct(&RESOLVER.to_string());
    lab.proxy.setup(
        &["nft", "-f", "-"],
        &format!("table inet silence {{ chain input {{ type filter hook prerouting priority -300; ip daddr {RESOLVER} drop; }}; }}\n"),
    );
    let nobody = vec!["socks5://127.0.0.1:1".to_owned(), "socks5://nowhere.example:1".to_owned()];
    let urls = [nobody, proxies.urls.clone()].concat();
    let options = [&FAILOVER[..], &["--connect-timeout", "1"]].concat();
    let run = through(lab, &urls, &WORDS, &options).run();
    run.success().stdout_is("1111").stderr_has("nowhere.example");
    let ours = || lab.client.processes(binary::presocks().to_str().unwrap());
    patience::wait_until("the broker to end", || ours().is_empty());
    lab.assert_no_leak();
}

#[test]
fn a_strict_chain_passes_nobody_over_and_that_is_said() {
    if missing(&["touch"]) {
        return;
    }
    let lab = presocks_tests::Lab::new();
    let urls = [1, 2].map(|port| format!("socks5://127.0.0.1:{port}"));
    for options in [&["--failover-on-refusal"][..], &["--order", "strict", "--failover-on-refusal"]] {
        let run = through(&lab, &urls, &["touch", "it-ran"], options).run();
        run.code(125).stderr_has("--failover-on-refusal");
    }
    assert!(!lab.directory().join("it-ran").exists());
}
