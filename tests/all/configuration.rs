//! Where the proxy's URL comes from, what stays out of the command's sight, and what is said when something is wrong.

mod environment;
mod file;
mod foreign;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::proxy::{Microsocks, Upstream};
use presocks_tests::{Lab, lab, missing};

#[test]
fn the_proxy_comes_from_an_option_a_file_or_the_environment() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::with_password(&lab);
    let file = lab.file("proxy", format!("{}\n", proxy.url()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let fetch = || lab.presocks(["curl", "-sS", "http://origin.test/hello"]);
    let named = [
        fetch().options(["-p", &proxy.url()]),
        fetch().options(["--proxy", &proxy.url().replace("socks5:", "socks5h:")]),
        fetch().options(["--proxy-file".as_ref(), file.as_os_str()]),
        fetch().env("PRESOCKS_PROXY", proxy.url()),
        fetch().env("ALL_PROXY", proxy.url()),
        fetch().env("all_proxy", proxy.url()),
    ];
    for fetch in named {
        fetch.run().success().stdout_is(http::HELLO).stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn the_stronger_source_wins() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let nowhere = "socks5://127.0.0.1:1";
    let fetch = || lab.presocks(["curl", "-sS", "http://origin.test/hello"]);
    let named = [
        fetch().proxy(&proxy).env("PRESOCKS_PROXY", nowhere).env("ALL_PROXY", nowhere),
        fetch().env("PRESOCKS_PROXY", proxy.url()).env("ALL_PROXY", nowhere),
        fetch().env("all_proxy", proxy.url()).env("ALL_PROXY", nowhere),
    ];
    for fetch in named {
        fetch.run().success().stdout_is(http::HELLO);
    }
    lab.assert_no_leak();
}

#[test]
fn without_a_proxy_the_command_is_not_run() {
    if missing(&["touch"]) {
        return;
    }
    let lab = Lab::new();
    let run = lab.presocks(["touch", "it-ran"]).run();
    run.code(125).stdout_is("").stderr_has("PRESOCKS_PROXY").stderr_has("-p ").stderr_has("--proxy-file");
    for wrong in [
        "ftp://10.77.0.1:1080",
        "10.77.0.1:1080",
        "socks5://",
        "socks5://10.77.0.1:99999",
        "socks4://a:b@h:1",
    ] {
        lab.presocks(["touch", "it-ran"]).proxy(wrong).run().code(125).stdout_is("");
    }
    assert!(!lab.directory().join("it-ran").exists());
    lab.assert_no_leak();
}

#[test]
fn an_error_about_a_proxy_never_shows_its_password() {
    if missing(&["curl", "true"]) {
        return;
    }
    let lab = Lab::new();
    lab.permit_proxy_port(1099);
    let url = format!("socks5://{}:hunter2@{}:1099", lab::USER, lab::PROXY);
    for options in [&["-p", &url][..], &["-v", "-p", &url]] {
        let run = lab.presocks(["curl", "-sS", "http://origin.test/"]).options(options).run();
        assert!(!run.code(7).stderr().contains("hunter2"), "{}", run.report());
    }
    for wrong in [
        "socks5://user:hunter2@",
        "socks6://user:hunter2@10.77.0.1:1",
        "socks5://user:hunter2@10.77.0.1:x",
        "socks4://user:hunter2@10.77.0.1",
    ] {
        let run = lab.presocks(["true"]).proxy(wrong).run();
        assert!(!run.code(125).stderr().contains("hunter2"), "{}", run.report());
    }
    lab.assert_no_leak();
}

#[test]
fn the_command_sees_neither_the_proxy_nor_its_password() {
    if missing(&["env", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::with_password(&lab);
    let file = lab.file("proxy", proxy.url());
    let runs = [
        lab.presocks(["env"]).proxy(&proxy),
        lab.presocks(["env"]).options(["--proxy-file".as_ref(), file.as_os_str()]),
        lab.presocks(["env"]).env("PRESOCKS_PROXY", proxy.url()).env("all_proxy", proxy.url()),
        lab.presocks(["env"]).env("ALL_PROXY", proxy.url()),
    ];
    for run in runs {
        let outcome = run.env("KEPT", "as it was").run();
        let environment = outcome.success().stdout();
        assert!(environment.contains("KEPT=as it was\n"), "{environment}");
        assert!(!environment.contains(lab::PASSWORD), "{environment}");
        assert!(!environment.contains(&lab::PROXY.to_string()), "{environment}");
    }
}

#[test]
fn a_password_with_every_awkward_character_is_percent_decoded() {
    if missing(&["nc"]) {
        return;
    }
    let lab = Lab::new();
    // Method 2 is chosen, the user and the password are read and accepted, then the request is granted.
    let script =
        Script::new().greeting().send([5, 2]).expect(2 + 4 + 1 + 5).send([1, 0]).request().send(SUCCESS);
    let proxy = script.start(&lab);
    let url = format!("socks5://u%3Ae%20:p%40%2Fs%25@{}:{}", lab::PROXY, proxy.port());
    lab.presocks(["nc", "-N", "origin.test", "7"]).proxy(&url).run().success();
    let received = proxy.finished(1).remove(0).received;
    let negotiation = b"\x01\x04u:e \x05p@/s%";
    assert!(received.windows(negotiation.len()).any(|window| window == negotiation), "{received:?}");
}

#[test]
fn declared_networks_are_reached_directly_and_nothing_else_is() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    lab.permit_direct("10.88.0.2");
    lab.permit_direct("fd88::2");
    // A proxy that nobody answers for: what succeeds was direct.
    let nowhere = "socks5://127.0.0.1:1";
    for direct in ["10.88.0.0/24,fd88::/16", "fd88::2,10.88.0.2"] {
        for page in ["http://10.88.0.2/hello", "http://[fd88::2]/hello"] {
            let fetch = lab.presocks(["curl", "-sS", page]).options(["--direct", direct]).proxy(nowhere);
            fetch.run().success().stdout_is(http::HELLO);
        }
        let name =
            lab.presocks(["curl", "-sS", "http://origin.test/hello"]).options(["-q", "--direct", direct]);
        name.proxy(nowhere).run().code(7);
    }
    assert_eq!(web.connections(), 4);
    lab.assert_no_leak();
}

#[test]
fn a_verbose_run_tells_each_connection_and_a_quiet_one_nothing() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let fetch = |option: &str| {
        let words = ["curl", "-sS", "http://origin.test/hello", "http://10.88.0.2/hello"];
        lab.presocks(words).proxy(&proxy).options([option]).run()
    };
    let told = fetch("-v");
    told.success().stdout_is(http::HELLO.repeat(2));
    let told = told.stderr();
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(told.starts_with("presocks: curl: the shim and the backstop"), "{told}");
    for (line, destination) in told.lines().skip(1).zip(["origin.test", "10.88.0.2"]) {
        assert!(line.contains("curl[") && line.contains(destination) && line.contains("ms"), "{line}");
    }
    fetch("-q").success().stderr_is("");
    let refused = lab.presocks(["nc", "-z", "10.88.0.2", "4"]).proxy(&proxy).options(["-q"]).run();
    refused.code(1).stderr_is("");
}

#[test]
fn a_cause_is_told_once_however_many_connections_it_breaks() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    lab.permit_proxy_port(1099);
    let program = "
import socket
for _ in range(20):
    print(socket.socket().connect_ex(('10.88.0.2', 80)), socket.socket().connect_ex(('10.88.0.3', 80)))
";
    let run = lab.presocks(["python3", "-c", program]).proxy("socks5://10.77.0.1:1099").run();
    let (told, unreachable) = (run.stderr(), 101);
    run.success().stdout_is(format!("{unreachable} {unreachable}\n").repeat(20));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("10.77.0.1:1099") && told.contains("10.88.0.2:80"), "{told}");
    lab.assert_no_leak();
}
