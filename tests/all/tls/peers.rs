//! The peers themselves, by curl's own proxy client: without presocks.

use presocks_tests::certificates::{Certificates, SERVER_NAME};
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::{Microsocks, Squid, Stunnel, Tinyproxy, Tor, UnixDoor, Upstream, of_kind};
use presocks_tests::{Lab, missing};

#[test]
fn the_good_certificate_is_good_and_the_others_are_not() {
    if missing(&["curl", "stunnel4", "tinyproxy"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let certificates = Certificates::make(&lab);
    let proxy = Tinyproxy::open(&lab);
    let authority = certificates.authority.to_str().unwrap();
    let fetch = |stunnel: &Stunnel| {
        let url = stunnel.url("https", "");
        let words =
            ["curl", "-sS", "--proxy-cacert", authority, "-x", &url, "-p", "http://origin.test/hello"];
        lab.bare(words).run()
    };
    let Certificates { good, misnamed, expired, self_signed, .. } = &certificates;
    fetch(&Stunnel::before(&lab, 0, proxy.port(), good)).success().stdout_is(http::HELLO);
    for (number, certificate) in (1..).zip([misnamed, expired, self_signed]) {
        fetch(&Stunnel::before(&lab, number, proxy.port(), certificate)).code(60).stderr_has("SSL");
    }
    let stunnel = Stunnel::before(&lab, 9, proxy.port(), good);
    let (url, name) = (
        format!("https://{SERVER_NAME}:{}", stunnel.port()),
        format!("{SERVER_NAME}:{}:10.77.0.1", stunnel.port()),
    );
    let words = [
        "curl",
        "-sS",
        "--proxy-cacert",
        authority,
        "--resolve",
        &name,
        "-x",
        &url,
        "-p",
        "http://origin.test/hello",
    ];
    lab.bare(words).run().success().stdout_is(http::HELLO);
    lab.assert_no_leak();
}

#[test]
fn squid_wants_the_password_with_tls_and_without() {
    if missing(&["curl", "squid"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let certificates = Certificates::make(&lab);
    let squid = Squid::with_password(&lab, &certificates);
    let authority = certificates.authority.to_str().unwrap();
    for (url, status) in [(squid.url(), 0), (squid.url_over_tls(), 0), (squid.bare_url(), 56)] {
        let words =
            ["curl", "-sS", "--proxy-cacert", authority, "-x", &url, "-p", "http://origin.test/hello"];
        lab.bare(words).run().code(status).stdout_is(if status == 0 { http::HELLO } else { "" });
    }
    lab.assert_no_leak();
}

#[test]
fn tor_answers_on_its_port_and_on_its_unix_socket() {
    if missing(&["curl", "tor"]) {
        return;
    }
    let lab = Lab::new();
    let tor = Tor::without_network(&lab);
    let port = of_kind("socks5h", &tor.url());
    let socket = format!("socks5h://localhost{}", tor.socket().display());
    for url in [port, socket] {
        let run = lab.bare(["curl", "-sS", "-x", &url, "http://192.0.2.7/"]).run();
        run.code(97).stderr_has("SOCKS5");
    }
    lab.assert_no_leak();
}

#[test]
fn a_unix_door_leads_to_the_proxy() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let door = UnixDoor::before(&lab, proxy.port());
    let url = format!("socks5h://localhost{}", door.path().display());
    lab.bare(["curl", "-sS", "-x", &url, "http://origin.test/hello"]).run().success().stdout_is(http::HELLO);
    assert_eq!(door.connections(), 1);
    lab.assert_no_leak();
}
