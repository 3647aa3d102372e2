//! Whatever a hostile proxy says, it says behind another one as well, and before another one.

use presocks_tests::lab::{ORIGIN, PROXY, PROXY6};
use presocks_tests::missing;
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::proxy::{Microsocks, Upstream};

use crate::hostile::proxy::{MODES, PORT, Scene};
use crate::hostile::scripts;

#[test]
fn every_hostile_answer_of_the_second_proxy_has_its_errno_and_one_line_that_names_it() {
    if missing(&["microsocks"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let first = Microsocks::open(&scene.lab);
    // On the program's own socket, and by the relay.
    for first in [first.url(), first.url6()] {
        for hostile in scripts::all() {
            let proxy = hostile.script.clone().start(&scene.lab);
            let second = proxy.url_as(hostile.scheme);
            let outcome = scene.probe(&first, &["-p", &second], &["mode=epoll"]);
            let words = [format!("at {second} (proxy 2 of 2)"), format!("presocks: {ORIGIN}:{PORT} via ")];
            hostile.assert_is_told(&outcome, &words);
        }
    }
    scene.assert_untouched("second of two");
}

/// What it says of the next proxy is no answer about the destination: of refusals and closed connections is left that the net is
/// not there, or time.
#[test]
fn every_hostile_answer_of_the_first_proxy_gives_an_errno_and_one_line() {
    if missing(&["microsocks"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let second = Microsocks::open(&scene.lab);
    for hostile in scripts::all() {
        let proxy = hostile.script.start(&scene.lab);
        for first in [
            proxy.url_as(hostile.scheme),
            proxy.url_as(hostile.scheme).replace(&PROXY.to_string(), &format!("[{PROXY6}]")),
        ] {
            let outcome = scene.probe(&first, &["-p", &second.url()], &["mode=poll"]);
            let said = outcome.stderr();
            let errno = outcome.stdout().lines().next().unwrap_or_default().replace("connect: ", "");
            assert!(
                ["ENETUNREACH", "EACCES", "ETIMEDOUT"].contains(&errno.as_str())
                    && outcome.stdout().ends_with("\nunusable\n")
                    && said.lines().count() == 1
                    && said.contains(" of 2)"),
                "{}\n{}",
                hostile.what,
                outcome.report()
            );
        }
    }
    scene.assert_untouched("first of two");
}

#[test]
fn not_a_byte_after_the_last_reply_is_lost_or_made_up() {
    if missing(&["microsocks"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let first = Microsocks::with_password(&scene.lab);
    let together = [&SUCCESS[..], b"220 hello\r\n"].concat();
    let established = b"HTTP/1.0 200 Fine\r\n\r\n220 hello\r\n";
    let asked = || Script::new().until(b"\r\n\r\n");
    for (scheme, script) in [
        ("socks5", Script::until_request().send(&together)),
        ("socks5", Script::until_request().dribble(&together)),
        ("socks4", Script::new().expect(9).send([&[0, 90, 0, 0, 0, 0, 0, 0][..], b"220 hello\r\n"].concat())),
        ("http", asked().send(established)),
        ("http", asked().dribble(established)),
    ] {
        let proxy = script.expect(5).read_all().start(&scene.lab);
        let second = proxy.url_as(scheme);
        for first in [first.url(), first.url6()] {
            for mode in MODES {
                let arguments = [&format!("mode={mode}"), "expect=11", "say=quit\n"];
                let outcome = scene.probe(&first, &["-p", &second], &arguments);
                outcome.stdout_is("connect: ok\npeer: the one asked for\nreceived: 220 hello\r\n\n");
            }
        }
        for connection in proxy.finished(2 * MODES.len()) {
            assert!(connection.received.ends_with(b"quit\n"), "{connection:?}");
        }
    }
    scene.assert_untouched("extra bytes");
}
