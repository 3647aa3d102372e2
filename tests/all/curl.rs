//! curl: pages by name and address, over IPv4 and IPv6, with TLS, many at a time, through every proxy.

use presocks_tests::origin::{HttpServer, HttpsServer, http, https};
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, one_of_each};
use presocks_tests::{Lab, missing};

#[test]
fn curl_fetches_by_name_and_by_address_through_every_proxy() {
    if missing(&["curl"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    for (round, proxy) in one_of_each(&lab).iter().enumerate() {
        let pages = ["origin.test", "10.88.0.2", "origin6.test", "[fd88::2]"]
            .map(|host| format!("http://{host}/hello"));
        let words = ["curl", "-sS"].into_iter().chain(pages.iter().map(String::as_str));
        lab.presocks(words).proxy(proxy).run().success().stdout_is(http::HELLO.repeat(4)).stderr_is("");
        assert_eq!(web.connections(), 4 * (round + 1));
    }
    lab.assert_no_leak();
}

#[test]
fn curl_fetches_a_large_file_unharmed_through_every_proxy() {
    if missing(&["curl"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    for proxy in one_of_each(&lab) {
        let fetch = lab.presocks(["curl", "-sS", "http://origin.test/large"]).proxy(&proxy);
        fetch.run().success().stdout_is(http::large());
    }
    lab.assert_no_leak();
}

#[test]
fn curl_speaks_tls_to_the_name_that_it_was_given() {
    if missing(&["curl", "danted", "openssl", "python3"]) {
        return;
    }
    let lab = Lab::new();
    let secure = HttpsServer::start(&lab);
    let proxy = Dante::with_password(&lab);
    let authority = secure.authority().to_string_lossy();
    for page in
        ["https://origin.test/", "https://www.origin.test/", "https://10.88.0.2/", "https://[fd88::2]/"]
    {
        let fetch = lab.presocks(["curl", "-sS", "--cacert", &authority, page]).proxy(&proxy);
        fetch.run().success().stdout_is(https::SECURE);
    }
    // c.test is the same server, but not in its certificate.
    lab.presocks(["curl", "-sS", "--cacert", &authority, "https://c.test/"]).proxy(&proxy).run().code(60);
    lab.assert_no_leak();
}

#[test]
fn curl_is_happy_with_one_family_only() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    for (family, host) in
        [("-4", "origin.test"), ("-6", "origin6.test"), ("-4", "both.test"), ("-6", "both.test")]
    {
        let page = format!("http://{host}/hello");
        lab.presocks(["curl", "-sS", family, &page]).proxy(&proxy).run().success().stdout_is(http::HELLO);
    }
    lab.assert_no_leak();
}

#[test]
fn curl_reaches_the_proxy_by_ipv6_and_by_name() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let by_name = format!("socks5h://proxy.lab:{}", proxy.port());
    let pages = ["http://origin.test/hello", "http://10.88.0.2/hello", "http://[fd88::2]/hello"];
    for url in [proxy.url6(), by_name] {
        let words = ["curl", "-sS"].into_iter().chain(pages);
        lab.presocks(words).proxy(&url).run().success().stdout_is(http::HELLO.repeat(3)).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn curl_fetches_many_pages_in_parallel_through_every_proxy() {
    const PAGES: usize = 60;
    if missing(&["curl"]) || missing(&EACH_NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let root = http::root(&lab);
    for page in 0..PAGES {
        std::fs::write(root.join(format!("page-{page}")), format!("this is page {page}\n")).unwrap();
    }
    for (round, proxy) in one_of_each(&lab).iter().enumerate() {
        let parallel =
            ["curl", "-sS", "--parallel", "--parallel-immediate", "--parallel-max", "30", "--create-dirs"];
        let mut words: Vec<String> = parallel.map(str::to_owned).to_vec();
        for page in 0..PAGES {
            let host = ["origin.test", "a.test", "b.test", "c.test", "10.88.0.2", "[fd88::2]"][page % 6];
            words.extend([
                format!("http://{host}/page-{page}"),
                "-o".into(),
                format!("round-{round}/{page}"),
            ]);
        }
        lab.presocks(words).proxy(proxy).run().success();
        for page in 0..PAGES {
            let got = std::fs::read_to_string(lab.directory().join(format!("round-{round}/{page}"))).unwrap();
            assert_eq!(got, format!("this is page {page}\n"));
        }
    }
    lab.assert_no_leak();
}

#[test]
fn curl_says_why_a_connection_failed() {
    if missing(&["curl", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    for page in
        ["http://origin.test:4/", "http://10.88.0.2:4/", "http://unreachable.test/", "http://10.99.0.1/"]
    {
        lab.presocks(["curl", "-sS", page]).proxy(&proxy).options(["-q"]).run().code(7);
    }
    lab.assert_no_leak();
}

#[test]
fn curl_runs_as_an_ordinary_user() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::with_password(&lab);
    let fetch = lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&proxy).ordinary_user();
    fetch.run().success().stdout_is(http::HELLO).stderr_is("");
    lab.assert_no_leak();
}
