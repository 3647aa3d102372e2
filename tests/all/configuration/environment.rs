//! PRESOCKS_ variables, and ALL_PROXY with NO_PROXY.

use presocks_tests::binary;
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::{Microsocks, Upstream};
use presocks_tests::{Lab, lab, missing};

#[test]
fn no_variable_of_the_configuration_reaches_the_command() {
    if missing(&["env"]) {
        return;
    }
    let lab = Lab::new();
    lab.permit_proxy_port(1099);
    let url = format!("socks5://{}:hunter2@{}:1099", lab::USER, lab::PROXY);
    let run = lab
        .presocks(["env"])
        .env("PRESOCKS_PROXY", &url)
        .env("PRESOCKS_ORDER", "dynamic")
        .env("PRESOCKS_TIMEOUT", "30")
        .env("PRESOCKS_DIRECT", "192.0.2.0/24")
        .env("ALL_PROXY", &url)
        .env("NO_PROXY", "gone.example");
    let told = run.run().success().stdout();
    for gone in
        ["hunter2", "PRESOCKS_PROXY", "PRESOCKS_ORDER", "PRESOCKS_TIMEOUT", "PRESOCKS_DIRECT", "ALL_PROXY"]
    {
        assert!(!told.contains(gone), "{told}");
    }
    assert!(told.contains("PRESOCKS_SESSION=") && !told.contains("NO_PROXY"), "{told}");
    let told =
        lab.presocks(["env"]).env("all_proxy", &url).env("no_proxy", "gone.example").run().success().stdout();
    assert!(!told.contains("gone.example") && !told.contains("hunter2"), "{told}");
}

#[test]
fn nor_does_one_that_is_set_for_an_inner_presocks() {
    if missing(&["env", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let inner = binary::presocks().to_str().unwrap();
    let words =
        ["env", "PRESOCKS_PROXY=socks5://user:hunter2@h", "ALL_PROXY=socks5://user:hunter2@h", inner, "env"];
    let told = lab.presocks(words).proxy(&proxy).run();
    let told = told.success().stderr_has("the outer one").stdout();
    assert!(told.contains("PRESOCKS_SESSION=") && !told.contains("hunter2"), "{told}");
}

#[test]
fn what_no_proxy_lists_is_direct_when_the_proxy_is_that_of_all_proxy() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    lab.permit_direct("10.88.0.2");
    let nowhere = "socks5://127.0.0.1:1";
    let fetch = |page: &str| {
        lab.presocks(["curl", "-sS", "--noproxy", "*", page]).env("no_proxy", "192.0.2.1,10.88.0.0/24")
    };
    fetch("http://10.88.0.2/hello").env("ALL_PROXY", nowhere).run().success().stdout_is(http::HELLO);
    fetch("http://10.88.0.2/hello").env("PRESOCKS_PROXY", nowhere).run().code(7);
    fetch("http://origin.test/hello").env("ALL_PROXY", proxy.url()).run().success().stdout_is(http::HELLO);
    assert_eq!(web.connections(), 2);
    lab.assert_no_leak();
}

#[test]
fn a_wrong_variable_is_named() {
    let lab = Lab::new();
    for (name, value) in [("PRESOCKS_ORDER", "fast"), ("PRESOCKS_TIMEOUT", "soon"), ("PRESOCKS_UDP", "maybe")]
    {
        let run = lab.presocks(["true"]).proxy("socks5://127.0.0.1:1").env(name, value).run();
        run.code(125).stderr_has(&format!("presocks: {name}: "));
    }
    let run = lab.presocks(["true"]).proxy("socks5://127.0.0.1:1").env("PRESOCKS_TIMEUOT", "5").run();
    run.success().stderr_is("presocks: PRESOCKS_TIMEUOT: presocks knows no such variable\n");
}
