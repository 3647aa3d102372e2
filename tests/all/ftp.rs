//! FTP in passive mode: a second connection, to an address that the server names in its reply.

use presocks_tests::origin::{FtpServer, ftp, http};
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn ftp_fetches_through_every_proxy() {
    if missing(&["tnftp", "vsftpd"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _server = FtpServer::start(&lab);
    for proxy in one_of_each(&lab) {
        let fetch = lab.presocks(["tnftp", "-V", "-o", "-", "ftp://origin.test/hello.txt"]).proxy(&proxy);
        fetch.run().success().stdout_is(ftp::HELLO);
    }
    lab.assert_no_leak();
}

#[test]
fn ftp_holds_a_session_with_listing_and_a_large_file() {
    if missing(&["tnftp", "vsftpd", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _server = FtpServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let session = "user anonymous nobody@\npassive on\nbinary\nls\nget large fetched\nbye\n";
    let client = lab.presocks(["tnftp", "-n", "-v", "10.88.0.2"]).proxy(&proxy).stdin(session);
    client.run().success().stdout_has("hello.txt").stdout_has("226 Transfer complete");
    assert_eq!(std::fs::read(lab.directory().join("fetched")).unwrap(), http::large());
    lab.assert_no_leak();
}

#[test]
fn curl_fetches_by_ftp_in_both_passive_modes_and_both_families() {
    if missing(&["curl", "vsftpd", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _server = FtpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    for (mode, place) in [
        ("--ftp-pasv", "origin.test"),
        ("--disable-epsv", "10.88.0.2"),
        ("--ftp-pasv", "[fd88::2]"),
        ("--ftp-pasv", "origin6.test"),
    ] {
        let file = format!("ftp://{place}/large");
        let fetch = lab.presocks(["curl", "-sS", mode, &file]).proxy(&proxy);
        fetch.run().success().stdout_is(http::large());
    }
    lab.assert_no_leak();
}
