//! Whatever a hostile proxy says, it says over TLS, too.

use presocks_tests::certificates::Certificates;
use presocks_tests::lab::{ORIGIN, PROXY};
use presocks_tests::missing;
use presocks_tests::proxy::Stunnel;
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};

use crate::hostile::proxy::{MODES, PORT, Scene};
use crate::hostile::scripts;

#[test]
fn every_hostile_answer_has_its_errno_and_one_line() {
    if missing(&["stunnel4"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let certificates = Certificates::make(&scene.lab);
    for (number, hostile) in (0..).zip(scripts::all()) {
        let proxy = hostile.script.clone().start(&scene.lab);
        let stunnel = Stunnel::before(&scene.lab, number, proxy.port(), &certificates.good);
        let scheme = format!("{}+tls", hostile.scheme);
        let url = format!("{}?ca-file={}", stunnel.url(&scheme, ""), certificates.authority.display());
        let outcome = scene.probe(&url, &[], &["mode=epoll"]);
        let words = [format!("{PROXY}:{}", stunnel.port()), format!("{ORIGIN}:{PORT}")];
        hostile.assert_is_told(&outcome, &words);
    }
    scene.assert_untouched("over TLS");
}

#[test]
fn silence_after_the_handshake_gives_etimedout() {
    if missing(&["stunnel4"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let certificates = Certificates::make(&scene.lab);
    let never = Gate::closed();
    let scripts = [Script::new(), Script::until_request(), Script::until_request().send(&SUCCESS[..9])];
    for (number, script) in (0..).zip(scripts) {
        let proxy = script.pass(&never).start(&scene.lab);
        let stunnel = Stunnel::before(&scene.lab, number, proxy.port(), &certificates.good);
        let url = format!("{}?ca-file={}", stunnel.url("socks5+tls", ""), certificates.authority.display());
        for mode in MODES {
            let outcome = scene.probe(&url, &["--timeout", "1"], &[&format!("mode={mode}")]);
            outcome.stdout_is("connect: ETIMEDOUT\nunusable\n").stderr_has("did not answer within 1s");
        }
    }
    never.open();
    scene.assert_untouched("silence");
}

#[test]
fn not_a_byte_after_the_reply_is_lost_or_made_up() {
    if missing(&["stunnel4"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let certificates = Certificates::make(&scene.lab);
    let together = [&SUCCESS[..], b"220 hello\r\n"].concat();
    let established = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n220 hello\r\n";
    let asked = || Script::new().until(b"\r\n\r\n");
    let scripts = [
        ("socks5+tls", Script::until_request().send(&together)),
        ("socks5+tls", Script::until_request().send(SUCCESS).send(b"220 hello\r\n")),
        ("socks5+tls", Script::until_request().dribble(&together)),
        ("https", asked().send(established)),
        ("https", asked().dribble(established)),
    ];
    for (number, (scheme, script)) in (0..).zip(scripts) {
        let proxy = script.expect(5).read_all().start(&scene.lab);
        let stunnel = Stunnel::before(&scene.lab, number, proxy.port(), &certificates.good);
        let url = format!("{}?ca-file={}", stunnel.url(scheme, ""), certificates.authority.display());
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
