//! Which name server is asked on the far side, by how many connections, and what becomes of a query when it does not answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use presocks_tests::lab::{ORIGIN, REFUSED_PORT, SILENT_PORT};
use presocks_tests::origin::{DnsServer, Service};
use presocks_tests::proxy::{Dante, EACH_NEEDS, Microsocks, Upstream, one_of_each};
use presocks_tests::{Lab, missing};

use super::Scene;

#[test]
fn the_option_names_the_server_whichever_the_program_asks() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    for (dns, shown) in [
        ("10.88.0.2", "10.88.0.2:53"),
        ("10.88.0.2:53", "10.88.0.2:53"),
        ("fd88::2", "[fd88::2]:53"),
        ("[fd88::2]:53", "[fd88::2]:53"),
        ("origin.test", "origin.test:53"),
    ] {
        for asked in ["@192.0.2.53", "@127.0.0.53", "@8.8.8.8", "@::1"] {
            let words = ["dig", "+tcp", "+short", asked, "mail.test", "TXT"];
            let run = scene.presocks(&words).options(["-v", "--dns", dns]).run();
            run.success().stdout_is("\"v=spf1 mx -all\"\n");
            run.stderr_has(&format!(
                "presocks: name server {shown} via socks5://10.77.0.1:1082: connected in "
            ));
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn without_the_option_a_server_that_the_far_side_knows_is_asked_and_else_the_default() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    for (asked, shown) in [
        ("@9.9.9.9", "9.9.9.9:53"),
        // Nobody on the far side has it.
        ("@149.112.112.112", "149.112.112.112:53"),
        ("@10.88.0.2", "9.9.9.9:53"),
        ("@192.168.1.1", "9.9.9.9:53"),
        ("@127.0.0.1", "9.9.9.9:53"),
        ("@fd88::2", "9.9.9.9:53"),
        ("@origin.test", "origin.test:53"),
        ("@198.19.7.7", "9.9.9.9:53"),
    ] {
        let run = scene.presocks(&["dig", "+tcp", "+short", asked, "mail.test", "TXT"]).options(["-v"]).run();
        run.stderr_has(&format!("presocks: name server {shown} via socks5://10.77.0.1:1082: "));
        if shown != "149.112.112.112:53" {
            run.success().stdout_is("\"v=spf1 mx -all\"\n");
        }
    }
    scene.lab.assert_no_leak();
}

#[test]
fn every_proxy_leads_to_the_server() {
    if missing(&EACH_NEEDS) || missing(&["dig", "nsd"]) {
        return;
    }
    let lab = Lab::new();
    let _server = DnsServer::start(&lab);
    for proxy in one_of_each(&lab) {
        let words = ["dig", "+tcp", "+short", "@192.0.2.53", "mail.test", "TXT"];
        let run = lab.presocks(words).proxy(&proxy).options(["--dns", "10.88.0.2"]).run();
        run.success().stdout_is("\"v=spf1 mx -all\"\n").stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn the_resolvers_own_interface_asks_the_first_server_of_resolv_conf() {
    let Some(scene) = Scene::set(&["python3"]) else { return };
    let file = scene.lab.directory().join("etc-client/resolv.conf");
    for (content, shown) in [
        ("nameserver 149.112.112.112\n", "149.112.112.112:53"),
        ("nameserver 192.168.1.1\nnameserver 149.112.112.112\n", "9.9.9.9:53"),
        ("nameserver 2620:fe::fe\n", "9.9.9.9:53"),
        ("", "9.9.9.9:53"),
    ] {
        std::fs::write(&file, content).unwrap();
        let run = scene.presocks(&["/usr/bin/python3", "-c", RES_QUERY]).options(["-v"]).run();
        run.success().stderr_has(&format!("presocks: name server {shown} via socks5://10.77.0.1:1082: "));
    }
    scene.lab.assert_no_leak();
}

const RES_QUERY: &str = "
import ctypes
answer = ctypes.create_string_buffer(512)
ctypes.CDLL(None).res_query(b'mail.test', 1, 15, answer, 512)";

#[test]
fn a_server_in_a_direct_network_is_asked_by_the_program_itself() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    scene.lab.permit_direct("10.77.0.1");
    let server = Service::start_on(&scene.lab.proxy, 53, answer_all);
    let words = ["dig", "+tcp", "+tries=1", "@10.77.0.1", "a.example", "TXT"];
    scene.presocks(&words).options(["--direct", "10.77.0.1"]).run().success().stdout_has("status: NXDOMAIN");
    assert_eq!(server.connections(), 1);
    scene.lab.assert_no_leak();
}

#[test]
fn a_wrong_server_is_an_error_of_the_command_line() {
    if missing(&["microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    for wrong in ["", "9.9.9.999", "tls://dns.example", "9.9.9.9:0", "a b"] {
        let run = lab.presocks(["true"]).proxy(&proxy).options(["--dns", wrong]).run();
        run.code(125).stdout_is("").stderr_has("--dns").stderr_has("write an address or a name");
    }
}

/// A client of one connection that asks for all of `$2…` at once, and prints the outcome of each, sorted; `$1` is the server.
const ASK: &str = "
import socket, struct, sys
def question(number, name):
    labels = b''.join(bytes([len(label)]) + label for label in name.encode().split(b'.'))
    return struct.pack('>6H', number, 0x0100, 1, 0, 0, 0) + labels + struct.pack('>BHH', 0, 16, 1)
s = socket.create_connection((sys.argv[1], 53))
names = sys.argv[2:]
asked = [question(number, name) for number, name in enumerate(names)]
s.sendall(b''.join(struct.pack('>H', len(each)) + each for each in asked))
s.shutdown(socket.SHUT_WR)
stream, order, seen = s.makefile('rb'), [], {}
while len(head := stream.read(2)) == 2:
    message = stream.read(struct.unpack('>H', head)[0])
    number, flags = struct.unpack('>HH', message[:4])
    assert message[12:len(asked[number])] == asked[number][12:], message
    order.append(names[number])
    seen.setdefault(names[number], []).append(flags & 15)
for name in sorted(seen):
    print(name, *seen[name])
print('order', *order[:3])";

/// Reads one query; `None` at the end.
fn read_query(mut stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query)?;
    Ok(Some(query))
}

fn write_answer(mut stream: &TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, answer].concat())
}

/// "No such name", to this query.
fn no_such_name(query: &[u8]) -> Vec<u8> {
    // The OPT record that dig adds is left out.
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    [&query[..2], &[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0], &query[12..end]].concat()
}

fn answer_all(stream: &TcpStream) -> io::Result<()> {
    while let Some(query) = read_query(stream)? {
        write_answer(stream, &no_such_name(&query))?;
    }
    Ok(())
}

/// A server of ours on the origin, and a program that asks it through the proxy.
struct Stage {
    lab: Lab,
    proxy: Dante,
}

impl Stage {
    fn set() -> Option<Self> {
        if missing(&["python3", "danted"]) {
            return None;
        }
        let lab = Lab::new();
        Some(Self { proxy: Dante::open(&lab), lab })
    }

    fn ask(&self, options: &[&str], names: &[&str]) -> presocks_tests::Outcome {
        let words = ["/usr/bin/python3", "-c", ASK, "10.88.0.2"].iter().chain(names);
        let server = ["--dns", &ORIGIN.to_string()].map(str::to_owned);
        let options = options.iter().map(ToString::to_string).chain(server);
        self.lab.presocks(words).proxy(&self.proxy).options(options).run()
    }
}

#[test]
fn answers_come_in_any_order_and_a_slow_one_holds_up_none() {
    let Some(stage) = Stage::set() else { return };
    let held = Mutex::new(None);
    let server = Service::start(&stage.lab, 53, move |stream| {
        let mut count = 0;
        while let Some(query) = read_query(stream)? {
            count += 1;
            if query.windows(4).any(|part| part == b"slow") {
                *held.lock().unwrap() = Some(query);
                continue;
            }
            write_answer(stream, &no_such_name(&query))?;
            if count == 50 {
                let slow = held.lock().unwrap().take().unwrap();
                write_answer(stream, &no_such_name(&slow))?;
            }
        }
        Ok(())
    });
    let names = [&["slow.example"][..], &["fast.example"; 49]].concat();
    let run = stage.ask(&[], &names);
    let expected =
        format!("fast.example{}\nslow.example 3\norder{}\n", " 3".repeat(49), " fast.example".repeat(3));
    run.success().stdout_is(expected).stderr_is("");
    assert_eq!(server.connections(), 1);
    stage.lab.assert_no_leak();
}

#[test]
fn one_connection_serves_a_session() {
    let Some(stage) = Stage::set() else { return };
    let server = Service::start(&stage.lab, 53, answer_all);
    let ask = "for n in 1 2 3 4 5; do /usr/bin/python3 -c \"$0\" 10.88.0.2 a$n.example; done";
    let run =
        stage.lab.presocks(["sh", "-c", ask, ASK]).proxy(&stage.proxy).options(["--dns", "10.88.0.2"]).run();
    assert_eq!(run.success().stdout().matches(".example 3\n").count(), 5, "{}", run.report());
    assert_eq!(server.connections(), 1);
    stage.lab.assert_no_leak();
}

#[test]
fn a_server_that_closes_after_each_answer_answers_all() {
    let Some(stage) = Stage::set() else { return };
    let server = Service::start(&stage.lab, 53, |stream| {
        if let Some(query) = read_query(stream)? {
            write_answer(stream, &no_such_name(&query))?;
        }
        Ok(())
    });
    let run = stage.ask(&[], &["a.example"; 8]);
    run.success().stdout_has(&format!("a.example{}\n", " 3".repeat(8))).stderr_is("");
    assert!(server.connections() >= 8);
    stage.lab.assert_no_leak();
}

#[test]
fn a_server_that_closes_without_an_answer_is_tried_twice() {
    let Some(stage) = Stage::set() else { return };
    let server = Service::start(&stage.lab, 53, |stream| read_query(stream).map(drop));
    let run = stage.ask(&[], &["a.example"]);
    run.success().stdout_has("a.example 2\n");
    run.stderr_is(&format!(
        "presocks: name server 10.88.0.2:53 via {}: it closed the connection without an answer\n",
        stage.proxy.url()
    ));
    assert_eq!(server.connections(), 2);
    stage.lab.assert_no_leak();
}

#[test]
fn a_server_that_says_nothing_is_a_server_failure_in_time_and_told_once() {
    let Some(stage) = Stage::set() else { return };
    let _server = Service::start(&stage.lab, 53, |stream| {
        while read_query(stream)?.is_some() {}
        Ok(())
    });
    let run = stage.ask(&["--timeout", "1"], &["a.example", "b.example"]);
    run.success().stdout_has("a.example 2\nb.example 2\n");
    run.stderr_is(&format!(
        "presocks: name server 10.88.0.2:53 via {}: it did not answer within 1s\n",
        stage.proxy.url()
    ));
    stage.lab.assert_no_leak();
}

#[test]
fn what_is_no_answer_to_the_query_is_a_server_failure() {
    let Some(stage) = Stage::set() else { return };
    let _server = Service::start(&stage.lab, 53, |stream| {
        while let Some(query) = read_query(stream)? {
            let mut answer = no_such_name(&query);
            match query[13] {
                b'b' => answer[14] ^= 1,
                b'c' => answer[7] = 200,
                b'd' => answer[2] = 0,
                b'e' => answer.truncate(3),
                b'f' => {
                    // Nobody has asked this, and what is asked is answered afterwards.
                    let other = [&[query[0] ^ 1], &answer[1..]].concat();
                    write_answer(stream, &other)?;
                    write_answer(stream, b"")?;
                }
                _ => {}
            }
            write_answer(stream, &answer)?;
        }
        Ok(())
    });
    let names = ["a.example", "bx.example", "c.example", "d.example", "e.example", "f.example"];
    let run = stage.ask(&[], &names);
    run.success()
        .stdout_has("a.example 3\nbx.example 2\nc.example 2\nd.example 2\ne.example 2\nf.example 3\n");
    run.stderr_is(&format!(
        "presocks: name server 10.88.0.2:53 via {}: its answer is not one to the query\n",
        stage.proxy.url()
    ));
    stage.lab.assert_no_leak();
}

#[test]
fn a_server_that_cannot_be_reached_is_a_server_failure_and_told_once() {
    let Some(scene) = Scene::set(&["dig"]) else { return };
    let twice = "for kind in MX TXT; do dig +tcp +timeout=20 @192.0.2.53 mail.test $kind; done";
    let refused = format!("10.88.0.2:{REFUSED_PORT}");
    let run = scene.presocks(&["sh", "-c", twice]).options(["--dns", &refused]).run();
    assert_eq!(run.success().stdout().matches("status: SERVFAIL").count(), 2, "{}", run.report());
    let line = run.stderr();
    assert!(
        line.lines().count() == 1
            && line.starts_with(&format!("presocks: name server {refused} via socks5://")),
        "{}",
        run.report()
    );
    let silent = format!("10.88.0.2:{SILENT_PORT}");
    let run = scene.presocks(&["sh", "-c", twice]).options(["--timeout", "1", "--dns", &silent]).run();
    assert_eq!(run.success().stdout().matches("status: SERVFAIL").count(), 2, "{}", run.report());
    let quiet = scene.presocks(&["sh", "-c", twice]).options(["-q", "--dns", &refused]).run();
    quiet.success().stderr_is("");
    scene.lab.assert_no_leak();
}
