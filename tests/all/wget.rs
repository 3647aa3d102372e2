//! wget: a client that connects in the foreground, one address after the other.

use presocks_tests::origin::{HttpServer, HttpsServer, http, https};
use presocks_tests::proxy::{Dante, EACH_NEEDS, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn wget_fetches_through_every_proxy() {
    if missing(&["wget"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    for proxy in one_of_each(&lab) {
        let pages = ["http://origin.test/hello", "http://10.88.0.2/hello", "http://[fd88::2]/hello"];
        let words = ["wget", "-q", "-O", "-"].into_iter().chain(pages);
        lab.presocks(words).proxy(&proxy).run().success().stdout_is(http::HELLO.repeat(3)).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn wget_fetches_a_large_file_and_a_secure_page() {
    if missing(&["wget", "danted", "openssl", "python3"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let secure = HttpsServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let large = lab.presocks(["wget", "-q", "-O", "-", "http://origin.test/large"]).proxy(&proxy);
    large.run().success().stdout_is(http::large());
    let authority = format!("--ca-certificate={}", secure.authority().display());
    let page = lab.presocks(["wget", "-q", "-O", "-", &authority, "https://www.origin.test/"]).proxy(&proxy);
    page.run().success().stdout_is(https::SECURE);
    lab.assert_no_leak();
}

#[test]
fn wget_reports_a_refused_connection_as_refused() {
    if missing(&["wget", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    let fetch = lab.presocks(["wget", "-t", "1", "-O", "-", "http://10.88.0.2:4/"]).proxy(&proxy);
    fetch.run().code(4).stderr_has("Connection refused");
    lab.assert_no_leak();
}
