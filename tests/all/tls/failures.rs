//! TLS handshakes that fail: an errno, one line that says why, and not a byte in plain text.

use presocks_tests::certificates::{Certificates, SERVER_NAME};
use presocks_tests::lab::{ORIGIN, PROXY};
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Stunnel};
use presocks_tests::{Lab, binary, missing};

use crate::hostile::proxy::{MODES, PORT, Scene};

const USER: &str = "user:s3cret@";

/// Every kind of connect fails with `errno`, and one line says why and names both ends.
#[track_caller]
fn fails(scene: &Scene, url: &str, options: &[&str], errno: &str, why: &str) {
    for mode in MODES {
        let mode = format!("mode={mode}");
        let outcome = scene.probe(&url, options, &[&mode, "times=3"]);
        outcome.success().stdout_is(format!("connect: {errno}\nunusable\n").repeat(3)).stderr_has(why);
        let said = outcome.stderr();
        let names_both = said.contains(&PROXY.to_string()) && said.contains(&format!("{ORIGIN}:{PORT}"));
        assert!(
            said.lines().count() == 1 && names_both && !said.contains("s3cret"),
            "{url}\n{}",
            outcome.report()
        );
    }
    scene.assert_untouched(url);
}

/// What came is the beginning of a TLS handshake (RFC 8446 section 5.1) and tells nothing of what was wanted.
#[track_caller]
fn assert_nothing_plain(proxy: &ScriptedProxy) {
    let connections = proxy.connections();
    assert!(!connections.is_empty());
    for connection in connections {
        let received = &connection.received;
        let holds = |text: &[u8]| received.windows(text.len()).any(|window| window == text);
        assert!(received.is_empty() || received.starts_with(&[22, 3]), "{connection:?}");
        assert!(
            !holds(b"s3cret") && !holds(b"user") && !holds(&[10, 88, 0, 2]) && !holds(b"CONNECT"),
            "{connection:?}"
        );
    }
}

#[test]
fn a_certificate_that_does_not_hold_gives_enetunreach_and_the_proxy_gets_no_request() {
    if missing(&["stunnel4"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let certificates = Certificates::make(&scene.lab);
    let proxy = Script::until_request().send(SUCCESS).start(&scene.lab);
    let Certificates { good, misnamed, expired, self_signed, .. } = &certificates;
    let authority = certificates.authority.to_str().unwrap();
    let (trusting, trusting_itself) =
        (["--ca-file", authority], ["--ca-file", self_signed.chain.to_str().unwrap()]);
    for (number, certificate, options, why) in [
        (0, good, &[][..], "certificate"),
        (1, misnamed, &trusting, "certificate"),
        (2, expired, &trusting, "expired"),
        (3, self_signed, &trusting, "certificate"),
        (4, good, &trusting_itself, "certificate"),
    ] {
        let stunnel = Stunnel::before(&scene.lab, number, proxy.port(), certificate);
        for scheme in ["socks5+tls", "https", "http+tls"] {
            fails(&scene, &stunnel.url(scheme, USER), options, "ENETUNREACH", why);
        }
        fails(&scene, &stunnel.url("socks4a+tls", ""), options, "ENETUNREACH", why);
    }
    assert_eq!(proxy.connections().len(), 0);
}

/// `openssl req -x509` makes one unless it is told otherwise, and whoever trusts it may wonder what else is wrong.
#[test]
fn a_certificate_that_is_an_authoritys_own_has_a_sentence_of_its_own() {
    if missing(&["stunnel4"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let certificates = Certificates::make(&scene.lab);
    let itself = &certificates.authoritys;
    let stunnel = Stunnel::before(&scene.lab, 0, 9, itself);
    let options = ["--ca-file", itself.chain.to_str().unwrap()];
    let why = "the proxy's certificate is an authority's, not a server's (CA:TRUE)\n";
    fails(&scene, &stunnel.url("https", USER), &options, "ENETUNREACH", why);
}

#[test]
fn a_server_that_does_not_speak_tls_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    // What a client says first has more than five bytes.
    let answered = |answer: &[u8]| Script::new().expect(5).send(answer).read_all();
    let scripts = [
        answered(&[5, 0]),
        answered(&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        answered(&[0, 90, 0, 0, 0, 0, 0, 0]),
        answered(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        answered(&[0; 64]),
        answered(&[b'x'; 1 << 20]),
        answered(&[21, 3, 3, 0, 2, 2, 40]),
        Script::new().send(b"220 mail ready\r\n").read_all(),
        answered(&[&[22, 3, 3, 0x40, 0][..], &[2; 0x4000]].concat()),
    ];
    for script in scripts {
        let proxy = script.start(&scene.lab);
        for scheme in ["socks5+tls", "https"] {
            let url = proxy.url_as(scheme).replacen("//", &format!("//{USER}"), 1);
            fails(&scene, &url, &[], "ENETUNREACH", "TLS");
        }
        assert_nothing_plain(&proxy);
    }
}

#[test]
fn a_connection_that_ends_within_the_handshake_gives_enetunreach() {
    let Some(scene) = Scene::set() else { return };
    let scripts = [
        Script::new().close(),
        Script::new().expect(5).close(),
        Script::new().expect(5).send([22, 3, 3]).close(),
    ];
    for script in scripts {
        let proxy = script.start(&scene.lab);
        for scheme in ["socks5+tls", "https"] {
            let url = proxy.url_as(scheme).replacen("//", &format!("//{USER}"), 1);
            let outcome = scene.probe(&url, &[], &["mode=epoll", "times=3"]);
            // Where the end meets the handshake is chance, so the causes may differ.
            outcome.success().stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3));
            assert!((1..=3).contains(&outcome.stderr().lines().count()), "{}", outcome.report());
        }
        assert_nothing_plain(&proxy);
    }
    let proxy = Script::new().expect(5).reset().start(&scene.lab);
    let outcome = scene.probe(&proxy.url_as("https"), &[], &["mode=epoll", "times=3"]);
    outcome.stdout_is("connect: ENETUNREACH\nunusable\n".repeat(3));
    scene.assert_untouched("ends within the handshake");
}

#[test]
fn silence_within_the_handshake_gives_etimedout() {
    let Some(scene) = Scene::set() else { return };
    let never = Gate::closed();
    let scripts = [
        ("at once", Script::new()),
        ("after the hello", Script::new().expect(5)),
        ("amid a record", Script::new().expect(5).send([22, 3, 3, 0, 100, 2])),
    ];
    for (when, script) in scripts {
        let proxy = script.pass(&never).start(&scene.lab);
        for option in ["--handshake-timeout", "--timeout"] {
            let url = proxy.url_as("socks5+tls").replacen("//", &format!("//{USER}"), 1);
            let outcome = scene.probe(&url, &[option, "1"], &["mode=epoll"]);
            outcome.stdout_is("connect: ETIMEDOUT\nunusable\n").stderr_has("1s");
            assert_eq!(outcome.stderr().lines().count(), 1, "{when}\n{}", outcome.report());
        }
        assert_nothing_plain(&proxy);
    }
    never.open();
    scene.assert_untouched("silence");
}

#[test]
fn a_certificate_is_held_against_the_name_that_the_url_gives() {
    if missing(&["curl", "stunnel4", "microsocks"]) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let _web = HttpServer::start(&scene.lab);
    let certificates = Certificates::make(&scene.lab);
    let proxy = Microsocks::open(&scene.lab);
    let good = Stunnel::before(&scene.lab, 0, proxy.port(), &certificates.good);
    let misnamed = Stunnel::before(&scene.lab, 1, proxy.port(), &certificates.misnamed);
    let authority = certificates.authority.display();
    let url = |stunnel: &Stunnel, name: &str| {
        format!("{}?ca-file={authority}&server-name={name}", stunnel.url("socks5+tls", ""))
    };
    let fetch = |url: &str| scene.lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&url).run();
    for (stunnel, name) in
        [(&good, SERVER_NAME), (&good, "proxy.lab"), (&good, "10.77.0.1"), (&misnamed, "another.example")]
    {
        fetch(&url(stunnel, name)).success().stdout_is(http::HELLO).stderr_is("");
    }
    // By its name the client finds the proxy, and the certificate has the name.
    let named = format!("socks5+tls://proxy.lab:{}?ca-file={authority}", good.port());
    fetch(&named).success().stdout_is(http::HELLO).stderr_is("");
    for (stunnel, name) in [
        (&good, "another.example"),
        (&misnamed, "proxy.lab"),
        (&misnamed, "sub.another.example"),
        (&good, "10.77.0.2"),
    ] {
        fetch(&url(stunnel, name)).code(7).stdout_is("").stderr_has("certificate");
    }
    scene.lab.assert_no_leak();
}

/// The broker is elsewhere by then, and a pipe can be read once.
#[test]
fn a_file_of_authorities_is_found_from_where_presocks_was_started_and_may_be_a_pipe() {
    if missing(&["curl", "stunnel4", "microsocks", "bash"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let certificates = Certificates::make(&lab);
    let proxy = Microsocks::open(&lab);
    let stunnel = Stunnel::before(&lab, 0, proxy.port(), &certificates.good);
    let url = stunnel.url("socks5+tls", "");
    let (file, directory) = (
        certificates.authority.file_name().unwrap().to_str().unwrap(),
        certificates.authority.parent().unwrap(),
    );
    let fetch = || lab.presocks(["curl", "-4sS", "http://origin.test/hello"]).directory(directory);
    for run in [
        fetch().proxy(&format!("{url}?ca-file={file}")),
        fetch().proxy(&format!("{url}?ca-file=./{file}")),
        fetch().proxy(&url).options(["--ca-file", file]),
    ] {
        run.run().success().stdout_is(http::HELLO).stderr_is("");
    }
    let presocks = binary::presocks().display();
    let twice = "sh -c 'curl -4sS http://origin.test/hello; curl -4sS http://origin.test/hello'";
    for options in
        [format!("--ca-file <(cat {file}) -p '{url}'"), format!("-p '{url}'?ca-file=<(cat {file})")]
    {
        let script = format!("{presocks} {options} {twice}");
        let run = lab.bare(["bash", "-c", &script]).directory(directory).run();
        run.success().stdout_is(http::HELLO.repeat(2)).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn a_file_of_authorities_that_has_none_is_an_error_before_the_command_runs() {
    let Some(scene) = Scene::set() else { return };
    let empty = scene.lab.file("empty.pem", "");
    let broken =
        scene.lab.file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let absent = scene.lab.directory().join("absent.pem");
    for path in [&empty, &broken, &absent] {
        let path = path.to_str().unwrap();
        let name = path.rsplit('/').next().unwrap();
        let touch = || scene.lab.presocks(["touch", "it-ran"]);
        touch().proxy("https://10.77.0.1:9").options(["--ca-file", path]).run().code(125).stderr_has(name);
        touch().proxy(&format!("https://10.77.0.1:9?ca-file={path}")).run().code(125).stderr_has(name);
    }
    assert!(!scene.lab.directory().join("it-ran").exists());
    scene.lab.assert_no_leak();
}
