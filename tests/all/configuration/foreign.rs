//! Configurations that people have already: proxychains', torsocks', Dante's; and proxychains' own command line.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use presocks_tests::binary;
use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Lab, lab, missing};

/// A file that nobody else can read.
fn private(lab: &Lab, name: &str, content: &str) -> std::path::PathBuf {
    let path = lab.file(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn proxychains_conf(proxy: &str) -> String {
    format!(
        "strict_chain\nproxy_dns\ntcp_connect_time_out 8000\nlocalnet 10.88.0.0/255.255.255.0\n[ProxyList]\n{proxy}\n"
    )
}

const FETCH: [&str; 3] = ["curl", "-sS", "http://origin.test/hello"];

#[test]
fn proxychains_file_is_read_by_option_by_its_flags_and_by_its_name() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let _proxy = Microsocks::with_password(&lab);
    let line = format!("socks5 {} 1083 {} {}", lab::PROXY, lab::USER, lab::PASSWORD);
    let conf = private(&lab, "my.conf", &proxychains_conf(&line));
    let conf = conf.to_str().unwrap();
    let link = lab.directory().join("proxychains4");
    symlink(binary::presocks(), &link).unwrap();
    let link = link.to_str().unwrap();
    for run in [
        lab.presocks(FETCH).options(["--config", conf]),
        lab.presocks(FETCH).options(["--proxychains", "-q", "-f", conf]),
        lab.presocks(FETCH).options(["--proxychains"]).env("PROXYCHAINS_CONF_FILE", conf),
        lab.bare([&[link, "-f", conf], &FETCH[..]].concat()),
        lab.bare([&[link], &FETCH[..]].concat()).env("PROXYCHAINS_CONF_FILE", conf),
    ] {
        run.run().success().stdout_is(http::HELLO).stderr_is("");
    }
    lab.permit_direct("10.88.0.2");
    let direct = lab.presocks(["curl", "-sS", "http://10.88.0.2/hello"]).options(["--config", conf]);
    direct.run().success().stdout_is(http::HELLO);
    let unreadable = lab.presocks(FETCH).options(["--proxychains", "-f", "/nonexistent"]);
    unreadable.env("PROXYCHAINS_CONF_FILE", conf).run().code(125).stderr_has("/nonexistent");
    let env = lab.presocks(["env"]).options(["--proxychains"]).env("PROXYCHAINS_CONF_FILE", conf).run();
    assert!(!env.success().stdout().contains("my.conf"), "{}", env.report());
    lab.assert_no_leak();
}

#[test]
fn proxychains_search_takes_the_working_directory_unless_others_write_there() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let _proxy = Microsocks::open(&lab);
    let conf = lab.file("proxychains.conf", proxychains_conf(&format!("socks5 {} 1082", lab::PROXY)));
    let fetch = || lab.presocks(FETCH).options(["--proxychains"]);
    fetch().run().success().stdout_is(http::HELLO).stderr_has("./proxychains.conf");
    chown(&conf, Some(lab::USER_ID), None).unwrap();
    let refused = fetch().run();
    refused.code(125).stdout_is("").stderr_has("-f ./proxychains.conf");
    let named = lab.presocks(FETCH).options(["--proxychains", "-f", "./proxychains.conf"]);
    named.run().success().stdout_is(http::HELLO);
    let home = lab.directory().join("root-home/.proxychains");
    fs::create_dir(&home).unwrap();
    fs::rename(&conf, home.join("proxychains.conf")).unwrap();
    fetch().run().success().stdout_is(http::HELLO).stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn what_is_not_carried_over_is_said_with_its_line() {
    let lab = Lab::new();
    let content =
        "strict_chain # in order\nproxy_dns\nremote_dns_subnet 225\n[ProxyList]\nsocks5 127.0.0.1 1\n";
    let conf = lab.file("proxychains.conf", content);
    let name = conf.display();
    let run = lab.presocks(["true"]).options(["--config".as_ref(), conf.as_os_str()]).run();
    run.success().stderr_is(&format!(
        "presocks: {name}:1: strict_chain is ignored, as proxychains does: it must stand alone on its line, without a comment\n\
         presocks: {name}:3: remote_dns_subnet has no meaning here: names have addresses of 198.18.0.0/15\n"
    ));
    let wrong = lab.file("proxychains.conf", "[ProxyList]\nsocks7 127.0.0.1 1 me hunter2\n");
    let run = lab.presocks(["true"]).options(["--config".as_ref(), wrong.as_os_str()]).run();
    run.code(125).stderr_is(&format!(
        "presocks: {name}:2:1: not a proxy: its type is none of http, socks4 and socks5\n\
         2 | socks7 127.0.0.1 1 ***\n  | ^^^^^^^^^^^^^^^^^^^^^^\n"
    ));
}

#[test]
fn torsocks_file_is_read() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let _proxy = Microsocks::with_password(&lab);
    let content = format!(
        "TorAddress {}\nTorPort 1083\nSOCKS5Username {}\nSOCKS5Password {}\n",
        lab::PROXY,
        lab::USER,
        lab::PASSWORD
    );
    let conf = private(&lab, "torsocks.conf", &content);
    let run = lab.presocks(FETCH).options(["--config".as_ref(), conf.as_os_str()]).run();
    run.success().stdout_is(http::HELLO).stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn dantes_file_is_read_with_the_password_of_its_variables() {
    if missing(&["curl", "microsocks", "env"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let _proxy = Microsocks::with_password(&lab);
    let content = format!(
        "route {{ from: 0.0.0.0/0 to: 10.88.0.0/24 via: direct }}\n\
         route {{ from: 0.0.0.0/0 to: 0.0.0.0/0 via: {} port = 1083\n proxyprotocol: socks_v5\n method: username }}\n",
        lab::PROXY
    );
    let conf = lab.file("socks.conf", content);
    lab.permit_direct("10.88.0.2");
    let run = |words: &[&str]| {
        let run = lab.presocks(words.iter().map(Path::new)).options(["--config".as_ref(), conf.as_os_str()]);
        run.env("SOCKS_USERNAME", lab::USER).env("SOCKS_PASSWORD", lab::PASSWORD).run()
    };
    run(&FETCH).success().stdout_is(http::HELLO).stderr_has("interfaces");
    run(&["curl", "-sS", "http://10.88.0.2/hello"]).success().stdout_is(http::HELLO);
    let told = run(&["env"]);
    assert!(!told.success().stdout().contains(lab::PASSWORD), "{}", told.report());
    lab.assert_no_leak();
}
