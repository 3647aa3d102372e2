//! Names in other scripts than ASCII: the proxy is asked for their ASCII form (IDNA2008), where the program has libc convert them.

use std::process::Command;

use presocks_tests::proxy::scripted::{SUCCESS, Script};
use presocks_tests::{Lab, missing};

use crate::behaviour::same_on;
use crate::behaviour::stage::Stage;

/// What makes a locale with a charset of its own.
const NEEDS: [&str; 2] = ["localedef", "/usr/share/i18n/charmaps/ISO-8859-1.gz"];

const CONVERTED: &str = "192.0.2.78 xn--bcher-kva.test\n192.0.2.79 xn--fa-hia.test\n";

#[test]
fn names_in_other_scripts_are_converted_as_libc_converts_them() {
    if missing(&NEEDS) {
        return;
    }
    let Some(stage) = Stage::set() else { return };
    let directory = stage.lab.directory();
    let hosts = directory.join("etc-proxy/hosts");
    let known = std::fs::read_to_string(&hosts).unwrap();
    std::fs::write(&hosts, format!("{known}{CONVERTED}")).unwrap();
    let mut localedef = Command::new("localedef");
    localedef.args(["-i", "de_DE", "-f", "ISO-8859-1"]).arg(directory.join("latin1"));
    assert!(localedef.status().unwrap().success());
    let latin1 = format!("latin1={}", directory.display());
    same_on(&stage, "international", &[&latin1]);
}

/// The name that the proxy is asked for when a program looks `name` up, with `AI_IDN` or without, and connects.
fn asked_for(before: &[&str], name: &str, has_flag: bool) -> String {
    let script = "
import socket, sys
place = socket.getaddrinfo(sys.argv[1].encode(), 80, socket.AF_INET, socket.SOCK_STREAM, 0, int(sys.argv[2]))
socket.create_connection(place[0][4], 10)
";
    let lab = Lab::new();
    let proxy = Script::until_request().send(SUCCESS).read_all().start(&lab);
    let flags = if has_flag { "64" } else { "0" };
    let words = [before, &["/usr/bin/python3", "-c", script, name, flags]].concat();
    lab.presocks(words).proxy(&proxy).run().success().stderr_is("");
    let request = proxy.finished(1)[0].pieces[2..].concat();
    let (head, rest) = request.split_at(5);
    assert_eq!((&head[..4], usize::from(head[4])), (&[5, 1, 0, 3][..], rest.len() - 2));
    lab.assert_no_leak();
    String::from_utf8(rest[..rest.len() - 2].to_vec()).unwrap()
}

#[test]
fn the_proxy_is_asked_for_the_ascii_form_of_a_name() {
    if missing(&["python3"]) {
        return;
    }
    for before in [&[][..], &["env", "-i"]] {
        assert_eq!(asked_for(before, "bücher.test", true), "xn--bcher-kva.test", "{before:?}");
        assert_eq!(asked_for(before, "FAß.例え.test", true), "xn--fa-hia.xn--r8jz45g.test", "{before:?}");
    }
    // Without a conversion a name is what it is. (By DNS, libc finds no host of such a name.)
    assert_eq!(asked_for(&[], "bücher.test", false), "bücher.test");
}

#[test]
fn getent_shows_a_name_as_its_readers_write_it() {
    if missing(&["getent"]) {
        return;
    }
    let lab = Lab::new();
    let shown = |name: &str, options: &[&str]| {
        let words = [&["getent"], options, &["ahostsv4", name]].concat();
        let run = lab.presocks(words).proxy("socks5://10.77.0.1:1").run();
        let line = run.success().stdout().lines().next().unwrap().to_owned();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        (words[0].clone(), words[2].clone())
    };
    let (address, name) = shown("bücher.test", &[]);
    assert_eq!(name, "bücher.test");
    assert_eq!(shown("xn--bcher-kva.test", &[]), (address.clone(), "bücher.test".to_owned()));
    assert_eq!(shown("xn--bcher-kva.test", &["--no-idn"]), (address, "xn--bcher-kva.test".to_owned()));
    lab.assert_no_leak();
}
