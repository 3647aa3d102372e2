//! The configuration file: where it is looked for, what it says, and what is said when it is wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use presocks_tests::origin::{HttpServer, http};
use presocks_tests::proxy::{Microsocks, Upstream};
use presocks_tests::{Lab, missing};

/// Writes the user's config.toml, for no one else to read.
fn configure(lab: &Lab, content: &str) -> PathBuf {
    let path = lab.directory().join("root-home/.config/presocks/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn the_proxy_comes_from_the_usual_file_or_from_one_that_is_named() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::with_password(&lab);
    let fetch = || lab.presocks(["curl", "-sS", "http://origin.test/hello"]);
    let content = format!("timeout = 30\n[profiles.lab]\nproxy = \"{}\"\n", proxy.url());
    let path = configure(&lab, &content);
    let named = path.to_str().unwrap();
    for fetch in [
        fetch().options(["-P", "lab"]),
        fetch().env("PRESOCKS_PROFILE", "lab"),
        fetch().env("HOME", "/nonexistent").options(["--config", named, "--profile=lab"]),
        fetch().env("HOME", "/nonexistent").env("PRESOCKS_CONFIG", named).options(["-P", "lab"]),
        fetch().env("XDG_CONFIG_HOME", path.ancestors().nth(2).unwrap()).options(["-P", "lab"]),
    ] {
        fetch.run().success().stdout_is(http::HELLO).stderr_is("");
    }
    fetch().run().code(125).stderr_has("no proxy is configured");
    fetch().options(["-P", "lab", "--no-config"]).run().code(125).stderr_has("--profile");
    fetch().options(["-P", "office"]).run().code(125).stderr_has("\"office\"").stderr_has("it has lab");
    fetch().options(["--config", "/nonexistent.toml"]).run().code(125).stderr_has("/nonexistent.toml");
    lab.assert_no_leak();
}

#[test]
fn rules_of_the_file_send_connections_where_they_say() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    lab.permit_direct("10.88.0.2");
    let rules = format!(
        "proxy = \"nowhere\"\n[proxies]\nnowhere = \"socks5://127.0.0.1:1\"\nlab = \"{}\"\n\
         [[rules]]\nname = \"*.test\"\nport = 80\nvia = \"lab\"\n[[rules]]\naddress = \"10.88.0.0/24\"\nvia = \"direct\"\n\
         [[rules]]\naddress = \"fd88::/16\"\nvia = \"deny\"\n",
        proxy.url()
    );
    configure(&lab, &rules);
    let fetch = |page: &str| lab.presocks(["curl", "-sS", page]);
    fetch("http://origin.test/hello").run().success().stdout_is(http::HELLO);
    fetch("http://10.88.0.2/hello").run().success().stdout_is(http::HELLO);
    fetch("http://[fd88::2]/hello").run().code(7);
    assert_eq!(web.connections(), 2);
    let denied = ["--rule", "name=.test via=deny"];
    fetch("http://origin.test/hello").options(denied).run().code(7);
    assert_eq!(web.connections(), 2);
    lab.assert_no_leak();
}

#[test]
fn a_mistake_is_shown_with_its_line_and_the_command_is_not_run() {
    if missing(&["touch"]) {
        return;
    }
    let lab = Lab::new();
    let path = configure(&lab, "order = \"dynamic\"\nproxy = [\"socks5://user:hunter2@10.77.0.1:x\"]\n");
    let run = lab.presocks(["touch", "it-ran"]).run();
    run.code(125).stdout_is("").stderr_is(&format!(
        "presocks: {}:2:10: the port must be a number from 1 to 65535\n\
         2 | proxy = [\"socks5://***@10.77.0.1:x\"]\n  \
           |          ^^^^^^^^^^^^^^^^^^^^^^^^^^\n",
        path.display()
    ));
    for (content, why) in [
        ("proxi = \"socks5://user:hunter2@h\"", "unknown key `proxi`"),
        ("proxy = \"socks5://user:hunter2@h", "1 | proxy = \"socks5://***@h"),
        ("proxy = \"user:hunter2@h\"", "no scheme"),
        ("timeout = \"socks5://user:hunter2@h\"", "seconds"),
        ("proxy = \"socks5://h\"\nrules = [{ via = \"far\" }]", "\"far\""),
    ] {
        configure(&lab, content);
        let run = lab.presocks(["touch", "it-ran"]).run();
        assert!(
            !run.code(125).stderr_has(why).stderr_has("^").stderr().contains("hunter2"),
            "{}",
            run.report()
        );
    }
    assert!(!lab.directory().join("it-ran").exists());
}

#[test]
fn what_is_configured_is_printed_without_passwords_and_explained_without_a_connection() {
    let lab = Lab::new();
    configure(
        &lab,
        "proxy = \"socks5://user:hunter2@10.77.0.1:1099\"\n[[rules]]\nport = 22\nvia = \"direct\"\n",
    );
    let print = lab.presocks([] as [&str; 0]).options(["--timeout=5", "--print-config"]).run();
    let printed = print.success().stderr_is("").stdout();
    let expected = "proxy = \"socks5://user:***@10.77.0.1:1099\"\ntimeout = 5\n\n[[rules]]\nport = \"22\"\nvia = \"direct\"\n";
    assert_eq!(printed, expected);
    let file = lab.file("printed.toml", &printed);
    let again = lab.presocks(["true"]).options(["--config".as_ref(), file.as_os_str()]).run();
    again.code(125).stderr_has("masked by --print-config");
    let masked = printed.replace("user:***@", "");
    let file = lab.file("printed.toml", &masked);
    let again = lab.presocks([] as [&str; 0]).options([
        "--config".as_ref(),
        file.as_os_str(),
        "--print-config".as_ref(),
    ]);
    again.run().success().stdout_is(&masked);
    for (destination, word) in [("origin.test:22", "direct"), ("[2001:db8::1]:80", "by the chain \"proxy\"")]
    {
        let explain = lab.presocks([] as [&str; 0]).options(["--explain", destination]).run();
        assert!(!explain.success().stdout_has(word).stdout().contains("hunter2"), "{}", explain.report());
    }
    lab.assert_no_leak();
}

#[test]
fn a_file_with_a_password_that_others_can_read_is_mentioned() {
    let lab = Lab::new();
    let secret = "socks5://user:hunter2@10.77.0.1:1099\n";
    let path = configure(&lab, &format!("proxy = \"{}\"", secret.trim()));
    lab.presocks(["true"]).run().success().stderr_is("");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let line = |path: &std::path::Path| {
        let path = path.display();
        format!("presocks: {path} holds a password, and other users can read it: chmod 600 {path}\n")
    };
    lab.presocks(["true"]).run().success().stderr_is(&line(&path));
    lab.presocks(["true"]).options(["-q"]).run().success().stderr_is("");
    let file = lab.file("list", secret);
    let listed =
        lab.presocks(["true"]).options(["--no-config".as_ref(), "--proxy-file".as_ref(), file.as_os_str()]);
    listed.run().success().stderr_is(&line(&file));
}
