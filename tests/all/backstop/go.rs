//! Go: no libc for connections, and only sometimes for names; threads that the run-time interrupts by signals.

use presocks_tests::lab::{ORIGIN, UNREACHABLE};
use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::proxy::scripted::{Gate, SUCCESS, Script};
use presocks_tests::proxy::{Dante, Microsocks};
use presocks_tests::{Build, Lab, missing};

/// Builds, each with the resolver that it is told to use.
const KINDS: [(Build, &str); 3] =
    [(Build::Go, "netdns=go"), (Build::GoWithCgo, "netdns=go"), (Build::GoWithCgo, "netdns=cgo")];

const CONNECTIONS: usize = 200;

fn missing_go() -> bool {
    missing(Build::GoWithCgo.needs()) || missing(&["microsocks", "danted"])
}

#[test]
fn go_fetches_by_name_and_by_address() {
    if missing_go() {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::with_password(&lab);
    let pages = ["origin.test", "10.88.0.2", "origin6.test", "[fd88::2]", "both.test"]
        .map(|host| format!("http://{host}/hello"));
    for (build, resolver) in KINDS {
        let program = build.of(&lab, "fetch", &[]);
        let words = [program.to_str().unwrap(), "get"].into_iter().chain(pages.iter().map(String::as_str));
        let fetch = || lab.presocks(words.clone()).proxy(&proxy).env("GODEBUG", resolver);
        for run in [fetch(), fetch().ordinary_user()] {
            run.run().success().stdout_is(http::HELLO.repeat(pages.len())).stderr_is("");
        }
    }
    lab.assert_no_leak();
}

#[test]
fn go_opens_200_connections_at_once() {
    if missing_go() {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    for (build, host) in
        [(Build::Go, "10.88.0.2"), (Build::Go, "origin.test"), (Build::GoWithCgo, "origin.test")]
    {
        let gate = Gate::after(CONNECTIONS);
        let script = Script::until_request().pass(&gate).send(SUCCESS).relay((ORIGIN, web.port()));
        let proxy = script.start(&lab);
        let program = build.of(&lab, "fetch", &[]);
        let (count, page) = (CONNECTIONS.to_string(), format!("http://{host}/hello"));
        let run = lab.presocks([program.to_str().unwrap(), "many", &count, &page]).proxy(&proxy).run();
        run.success().stdout_is(format!("{CONNECTIONS} × {}", http::HELLO));
    }
    lab.assert_no_leak();
}

#[test]
fn go_sees_the_errors_of_direct_connections() {
    if missing_go() {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Dante::open(&lab);
    let unreachable = format!("{UNREACHABLE}:80");
    for (build, resolver) in KINDS {
        let program = build.of(&lab, "fetch", &[]);
        let places = ["10.88.0.2:4", "[fd88::2]:4", "origin.test:4", &unreachable, "unreachable.test:80"];
        let words = [program.to_str().unwrap(), "dial"].into_iter().chain(places).chain(["10.88.0.2:7"]);
        let run = lab.presocks(words).proxy(&proxy).options(["-q"]).env("GODEBUG", resolver).run();
        run.success().stdout_is(
            "connection refused\nconnection refused\nconnection refused\nno route to host\nno route to host\n\
             connected to port 7\n",
        );
    }
    lab.assert_no_leak();
}

#[test]
fn a_name_that_nobody_knows_is_an_error_in_go() {
    if missing_go() {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    for (build, resolver) in KINDS {
        let program = build.of(&lab, "fetch", &[]);
        let words = [program.to_str().unwrap(), "dial", "nobody.test:80"];
        let outcome = lab.presocks(words).proxy(&proxy).options(["-q"]).env("GODEBUG", resolver).run();
        assert!(!outcome.success().stdout().contains("connected"), "{}", outcome.report());
    }
    lab.assert_no_leak();
}

#[test]
fn go_sees_stand_ins() {
    if missing_go() {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    for (build, resolver) in KINDS {
        let program = build.of(&lab, "fetch", &[]);
        let words = [program.to_str().unwrap(), "addresses", "origin.test"];
        let outcome = lab.presocks(words).proxy(&proxy).env("GODEBUG", resolver).run();
        outcome.success().stdout_has("[198.1").stdout_has("fd70:7265:736f:636b:7300:");
    }
    lab.assert_no_leak();
}
