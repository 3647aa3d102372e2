//! Programs that are told of a proxy by variables, as in a company's shell: under presocks they connect through its proxy, and not by way of that one.

use presocks_tests::origin::{HttpServer, Repository, http};
use presocks_tests::proxy::scripted::Script;
use presocks_tests::proxy::{Microsocks, ScriptedProxy, Tinyproxy, Upstream};
use presocks_tests::{Invocation, Lab, binary, missing};

const REMOVED: &str =
    "presocks: removed from the command's environment, so that it uses no proxy of its own: ";

/// Clients that follow `http_proxy`, and what they fetch.
fn clients(repository: &Repository) -> [(Vec<&'static str>, String); 3] {
    let page = "http://origin.test/hello";
    let head = format!("{}\tHEAD\n", repository.head);
    [
        (vec!["curl", "-sS", page], http::HELLO.to_owned()),
        (vec!["wget", "-q", "-O", "-", page], http::HELLO.to_owned()),
        (vec!["git", "ls-remote", "http://origin.test/repo.git", "HEAD"], head),
    ]
}

/// A proxy that nobody is to speak to.
fn company(lab: &Lab) -> (ScriptedProxy, String) {
    let proxy = Script::new().read_all().start(lab);
    let url = proxy.url_as("http");
    (proxy, url)
}

fn in_a_company<'lab>(run: Invocation<'lab>, url: &str) -> Invocation<'lab> {
    ["http_proxy", "https_proxy", "ALL_PROXY"].iter().fold(run, |run, name| run.env(name, url))
}

#[test]
fn programs_take_no_proxy_from_the_variables_of_a_shell() {
    if missing(&["curl", "wget", "git", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let repository = Repository::create(&lab);
    let proxy = Microsocks::open(&lab);
    let (company, url) = company(&lab);
    for (client, expected) in clients(&repository) {
        let run = in_a_company(lab.presocks(client).proxy(&proxy), &url).env("no_proxy", "localhost").run();
        run.success().stdout_is(expected).stderr_is(&format!(
            "{REMOVED}ALL_PROXY, https_proxy, http_proxy, no_proxy (--keep-proxy-env keeps them)\n"
        ));
    }
    assert!(company.connections().is_empty(), "{:?}", company.connections());
    lab.assert_no_leak();
}

#[test]
fn nor_does_one_that_the_shim_does_not_reach() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let (company, url) = company(&lab);
    let words = ["env", "-u", "LD_PRELOAD", "curl", "-sS", "http://10.88.0.2/hello"];
    let run = in_a_company(lab.presocks(words).proxy(&proxy), &url).ordinary_user().run();
    run.success().stdout_is(http::HELLO);
    assert!(company.connections().is_empty());
    lab.assert_no_leak();
}

#[test]
fn who_wants_them_keeps_them_and_who_knows_is_told_nothing() {
    if missing(&["env", "curl", "tinyproxy", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let (proxy, company) = (Microsocks::open(&lab), Tinyproxy::open(&lab));
    let env = || lab.presocks(["env"]).proxy(&proxy).env("https_proxy", "http://u:secret@h:1");
    for kept in [env().options(["--keep-proxy-env"]), env().env("PRESOCKS_KEEP_PROXY_ENV", "1")] {
        let outcome = kept.run();
        let told = outcome.success().stderr_is("").stdout();
        assert!(told.contains("https_proxy=http://u:secret@h:1\n") && !told.contains("KEEP"), "{told}");
    }
    for gone in [env().options(["-q"]), env().env("PRESOCKS_KEEP_PROXY_ENV", "0")] {
        let told = gone.run().success().stderr_is("").stdout();
        assert!(!told.contains("secret"), "{told}");
    }
    // What the command sets itself is its own.
    let words = ["env", "https_proxy=http://h:1", "env"];
    let told = lab.presocks(words).proxy(&proxy).run().success().stderr_is("").stdout();
    assert!(told.contains("https_proxy=http://h:1"), "{told}");
    // Through the one proxy to the other, as the user wants it.
    let fetch = lab.presocks(["curl", "-sS", "http://10.88.0.2/hello"]).proxy(&proxy);
    let fetch = fetch.env("http_proxy", company.url()).options(["--keep-proxy-env", "-v"]).run();
    fetch.success().stdout_is(http::HELLO).stderr_has(&format!("{} via {}", company.port(), proxy.url()));
}

#[test]
fn the_proxy_of_the_environment_is_used_by_presocks_where_it_is_asked_for() {
    if missing(&["curl", "wget", "git", "tinyproxy"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let repository = Repository::create(&lab);
    let proxy = Tinyproxy::with_password(&lab);
    for (client, expected) in clients(&repository) {
        let run = lab.presocks(client).options(["-p", "env", "-v"]).env("https_proxy", proxy.url()).run();
        run.success().stdout_is(expected).stderr_has(&format!("via {}", proxy.bare_url()));
        assert!(!run.stderr().contains(REMOVED), "{}", run.stderr());
    }
    let direct = lab.presocks(["env"]).options(["-p", "env"]).env("https_proxy", proxy.url());
    assert!(!direct.run().success().stderr_is("").stdout().contains("https_proxy"));
    let none = lab.presocks(["true"]).env("https_proxy", proxy.url()).run();
    none.code(125).stderr_has("no proxy is configured").stderr_has("presocks -p env COMMAND");
    assert!(!none.stderr().contains("was not run") && !none.stderr().contains("secret"), "{}", none.stderr());
    let explained = lab.presocks(["true"]).options(["--explain", "a.test:80"]).run();
    explained.code(125).stderr_has("no proxy is configured. Name one");
    lab.assert_no_leak();
}

#[test]
fn presocks_within_presocks_takes_them_as_well() {
    if missing(&["env", "sh", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let inner = binary::presocks().to_str().unwrap();
    let words = |option: &str| format!("https_proxy=http://u:secret@h:1 exec {inner} {option} env");
    let run = lab.presocks(["sh", "-c", &words("")]).proxy(&proxy).run();
    let told = run.success().stderr_has(&format!("{REMOVED}https_proxy")).stdout();
    assert!(!told.contains("secret"), "{told}");
    let run = lab.presocks(["sh", "-c", &words("--keep-proxy-env")]).proxy(&proxy).run();
    let told = run.success().stderr_has("the outer one").stdout();
    assert!(told.contains("secret") && !run.stderr().contains(REMOVED), "{told}");
}

#[test]
fn a_program_that_has_a_proxy_setting_of_its_own_is_told_on() {
    if missing(&["git", "curl", "wget", "microsocks", "tinyproxy"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let repository = Repository::create(&lab);
    let (proxy, company) = (Microsocks::open(&lab), Tinyproxy::open(&lab));
    let hint = |port: u16, whose: &str| {
        format!("connects to 10.77.0.1:{port}, {whose}: it seems to have a proxy setting of its own")
    };
    let settings = format!("http.proxy={}", company.url());
    let git = ["git", "-c", &settings, "ls-remote", "http://origin.test/repo.git", "HEAD"];
    let run = lab.presocks(git).proxy(&proxy).env("https_proxy", company.url()).run();
    run.success().stdout_is(format!("{}\tHEAD\n", repository.head));
    run.stderr_has(&hint(company.port(), "the proxy that https_proxy named"));
    // By its name in /etc/hosts; once.
    let wgetrc =
        lab.file("wgetrc", format!("use_proxy = on\nhttp_proxy = http://proxy.lab:{}\n", company.port()));
    let page = "http://10.88.0.2/hello";
    let run = lab.presocks(["wget", "-q", "-O", "-", page, page]).env("WGETRC", wgetrc);
    let run = run.proxy(&proxy).env("http_proxy", format!("http://proxy.lab:{}", company.port())).run();
    run.success().stdout_is(http::HELLO.repeat(2));
    run.stderr_has(&hint(company.port(), "the proxy that http_proxy named"));
    assert_eq!(run.stderr().matches("connects to").count(), 1, "{}", run.stderr());
    let curl = ["curl", "-sS", "-x", &proxy.url(), page];
    let run = lab.presocks(curl).proxy(&proxy).run();
    run.success().stdout_is(http::HELLO).stderr_has(&hint(proxy.port(), "presocks' own proxy"));
    lab.presocks(curl).proxy(&proxy).options(["-q"]).run().success().stderr_is("");
    lab.assert_no_leak();
}
