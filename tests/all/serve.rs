//! `presocks --serve` and `presocks --demo`: the embedded SOCKS5 server, alone and at work.

use presocks_tests::lab::RESOLVER;
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::{Embedded, Upstream};
use presocks_tests::{Lab, binary, missing};

#[test]
fn the_embedded_server_resolves_names_and_reports_errors_like_any_other() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = Embedded::open(&lab);
    let pages = ["http://origin.test/hello", "http://10.88.0.2/large", "http://[fd88::2]/hello"];
    let expected = [http::HELLO.as_bytes(), http::large(), http::HELLO.as_bytes()].concat();
    let wrapped = lab.presocks(["curl", "-sS"].into_iter().chain(pages)).proxy(&proxy);
    wrapped.run().success().stdout_is(&expected).stderr_is("");
    // A client that is not ours gets on with it as well.
    let url = proxy.url().replace("socks5:", "socks5h:");
    lab.bare(["curl", "-sS", "--proxy", &url].into_iter().chain(pages)).run().success().stdout_is(&expected);
    assert_eq!(web.connections(), 6);
    lab.bare(["curl", "-sS", "--proxy", &url, "http://10.88.0.2:4/"]).run().code(97).stderr_has("(5)");
    lab.assert_no_leak();
}

#[test]
fn the_demo_shows_a_page_and_asks_the_outside_for_nothing_but_its_name() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let demo = lab.bare([binary::presocks().as_os_str(), "--demo".as_ref()]).run();
    demo.success().stdout_has("Hello from hello.presocks.test").stdout_has(" 198.1");
    // The demo asks the system's resolver itself, to show that it does not know the name.
    let (resolver, leaked) = (format!("{RESOLVER} . udp . 53 "), lab.leaked());
    assert!(leaked.iter().all(|packet| packet.starts_with(&resolver)), "{leaked:?}");
}
