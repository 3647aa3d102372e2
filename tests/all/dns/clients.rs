//! Programs with a resolver of their own: ldns, BIND's, libunbound, c-ares, Go's, Perl's, busybox's.

use std::io::{BufRead as _, BufReader, Write as _};

use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::{Build, missing};

use super::Scene;

#[test]
fn drill_asks_over_tcp_and_udp() {
    let Some(scene) = Scene::set(&["drill"]) else { return };
    for transport in ["-t", "-u"] {
        scene.both_ways(&["drill", transport, "@192.0.2.53", "mail.test", "MX"], |run| {
            run.success().stdout_has("rcode: NOERROR").stdout_has("\t10 mx1.mail.test.");
        });
    }
    scene.lab.assert_no_leak();
}

#[test]
fn host_finds_mail_servers_and_the_names_of_addresses() {
    let Some(scene) = Scene::set(&["host"]) else { return };
    for transport in [&["-T"][..], &[]] {
        scene.both_ways(&[&["host"], transport, &["-t", "MX", "mail.test"]].concat(), |run| {
            run.success().stdout_has("mail.test mail is handled by 10 mx1.mail.test.");
        });
        scene.both_ways(&[&["host"], transport, &["10.88.0.2"]].concat(), |run| {
            run.success().stdout_has("domain name pointer origin.mail.test.");
        });
        // Addresses, then IPv6 addresses, then mail servers.
        scene.both_ways(&[&["host"], transport, &["mail.test"]].concat(), |run| {
            run.success().stdout_has("has address 198.1").stdout_has("handled by 20 mx2.mail.test.");
        });
    }
    scene.lab.assert_no_leak();
}

#[test]
fn unbound_host_asks_the_server_of_resolv_conf() {
    let Some(scene) = Scene::set(&["unbound-host"]) else { return };
    // As it comes, libunbound asks nobody for names below `test` (RFC 6761 section 6.2).
    let configuration = scene.lab.file("unbound.conf", "server:\n  local-zone: \"test.\" nodefault\n");
    let configuration = configuration.to_str().unwrap();
    let words = ["unbound-host", "-C", configuration, "-r", "-t", "TXT", "mail.test"];
    scene.both_ways(&words, |run| {
        run.success().stdout_has("\"v=spf1 mx -all\"");
    });
    scene.lab.assert_no_leak();
}

const NODE: &str = "
const dns = require('dns').promises;
(async () => {
  const mx = await dns.resolveMx('mail.test');
  console.log(mx.sort((a, b) => a.priority - b.priority).map(m => m.exchange).join(' '));
  console.log((await dns.resolveTxt('mail.test')).join());
  console.log((await dns.resolveSrv('_sip._tcp.mail.test'))[0].port);
  console.log((await dns.resolveTxt('large.mail.test'))[0].length);
  console.log(await dns.reverse('10.88.0.2'));
  await dns.resolveMx('none.mail.test').catch(error => console.log(error.code));
})();";

#[test]
fn node_resolves_records() {
    let Some(scene) = Scene::set(&["node"]) else { return };
    scene.both_ways(&["node", "-e", NODE], |run| {
        run.success().stdout_is(
            "mx1.mail.test mx2.mail.test\nv=spf1 mx -all\n5060\n40\n[ 'origin.mail.test' ]\nENOTFOUND\n",
        );
    });
    scene.lab.assert_no_leak();
}

const PYTHON: &str = "
import asyncio, aiodns
async def main():
    resolver = aiodns.DNSResolver()
    print(sorted(mx.host for mx in await resolver.query('mail.test', 'MX')))
    print((await resolver.query('_sip._tcp.mail.test', 'SRV'))[0].port)
    print((await resolver.query('large.mail.test', 'TXT'))[0].text[:4])
    print((await resolver.query('mail.test', 'A'))[0].host[:5])
    many = await asyncio.gather(*(resolver.query('mail.test', 'TXT') for _ in range(50)))
    print(sum(len(one) for one in many))
asyncio.run(main())";

#[test]
fn python_asks_by_c_ares() {
    if missing(&["/usr/lib/python3/dist-packages/aiodns"]) {
        return;
    }
    let Some(scene) = Scene::set(&["python3"]) else { return };
    scene.both_ways(&["/usr/bin/python3", "-c", PYTHON], |run| {
        run.success().stdout_is("['mx1.mail.test', 'mx2.mail.test']\n5060\n0000\n198.1\n50\n");
    });
    scene.lab.assert_no_leak();
}

#[test]
fn aria2_finds_a_host_by_c_ares() {
    let Some(scene) = Scene::set(&["aria2c"]) else { return };
    let _web = HttpServer::start(&scene.lab);
    let words = ["aria2c", "--quiet", "--allow-overwrite=true", "--out=fetched", "http://origin.test/hello"];
    scene.both_ways(&words, |run| {
        run.success();
        let fetched = scene.lab.directory().join("fetched");
        assert_eq!(std::fs::read_to_string(&fetched).unwrap(), http::HELLO);
        std::fs::remove_file(fetched).unwrap();
    });
    scene.lab.assert_no_leak();
}

/// The name of the mail server comes from an MX record, its address is the proxy's to find.
#[test]
fn swaks_finds_the_mail_server_of_a_domain() {
    let Some(scene) = Scene::set(&["swaks", "perl"]) else { return };
    let hosts = scene.lab.directory().join("etc-proxy/hosts");
    let known = std::fs::read_to_string(&hosts).unwrap();
    std::fs::write(&hosts, format!("{known}10.88.0.2 mx1.mail.test mx2.mail.test\n")).unwrap();
    let mail = Service::start(&scene.lab, 25, |mut stream| {
        stream.write_all(b"554 mx.mail.test not today\r\n")?;
        // It takes its leave.
        BufReader::new(stream).read_line(&mut String::new())?;
        stream.write_all(b"221 mx.mail.test bye\r\n")
    });
    scene.both_ways(&["swaks", "--to", "postmaster@mail.test", "--from", "me@client.test"], |run| {
        run.stdout_has("=== Trying mx1.mail.test:25").stdout_has("<** 554 mx.mail.test not today");
    });
    assert_eq!(mail.connections(), 2);
    scene.lab.assert_no_leak();
}

#[test]
fn go_resolves_records_by_itself() {
    let Some(scene) = Scene::set(Build::Go.needs()) else { return };
    let source = scene.lab.file("records.go", GO);
    let program = scene.lab.directory().join("records");
    let mut build = std::process::Command::new("go");
    build.args(["build", "-o"]).args([&program, &source]).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod");
    build.env("GO111MODULE", "off");
    assert!(build.status().unwrap().success());
    let run = scene.presocks(&[program.to_str().unwrap()]).run();
    run.success().stdout_is(
        "mx1.mail.test. 10\nv=spf1 mx -all\n5060\n8000\n[origin.mail.test.]\nno such host: true\n",
    );
    scene.lab.assert_no_leak();
}

const GO: &str = r#"package main

import (
	"errors"
	"fmt"
	"net"
)

func main() {
	mx, err := net.LookupMX("mail.test")
	if err != nil {
		panic(err)
	}
	fmt.Println(mx[0].Host, mx[0].Pref)
	txt, _ := net.LookupTXT("mail.test")
	fmt.Println(txt[0])
	_, srv, _ := net.LookupSRV("sip", "tcp", "mail.test")
	fmt.Println(srv[0].Port)
	large, _ := net.LookupTXT("large.mail.test")
	fmt.Println(len(large[0]))
	names, _ := net.LookupAddr("10.88.0.2")
	fmt.Println(names)
	_, err = net.LookupMX("none.mail.test")
	var none *net.DNSError
	fmt.Println("no such host:", errors.As(err, &none) && none.IsNotFound)
}
"#;

#[test]
fn busybox_looks_records_up() {
    let Some(scene) = Scene::set(&["busybox"]) else { return };
    scene.both_ways(&["busybox", "nslookup", "-type=mx", "mail.test"], |run| {
        run.success().stdout_has("10 mx1.mail.test");
    });
    scene.both_ways(&["busybox", "nslookup", "-type=ptr", "2.0.88.10.in-addr.arpa"], |run| {
        run.success().stdout_has("name = origin.mail.test");
    });
    scene.lab.assert_no_leak();
}
