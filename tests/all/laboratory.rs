//! The laboratory itself: the witness sees what leaks, the proxies proxy, the servers serve. Without presocks.

use presocks_tests::origin::{
    FtpServer, GitServer, HttpServer, HttpsServer, Repository, Service, SshServer, ftp, http, https,
};
use presocks_tests::proxy::scripted::{self, Gate, Script};
use presocks_tests::proxy::{Dante, Microsocks, SshDynamic, Upstream};
use presocks_tests::terminal::{CTRL_C, PROMPT, Terminal};
use presocks_tests::{Lab, lab, missing, patience};

#[test]
fn an_idle_lab_leaks_nothing() {
    if missing(&[]) {
        return;
    }
    Lab::new().assert_no_leak();
}

#[test]
fn a_plain_connection_by_address_is_counted_and_never_reaches_the_origin() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    lab.bare(["curl", "-sS", "http://10.88.0.2/hello"]).run().code(7);
    lab.bare(["curl", "-sS", "http://[fd88::2]:81/hello"]).run().code(7);
    let leaked = lab.leaked();
    assert!(leaked.iter().any(|packet| packet.starts_with("10.88.0.2 . tcp . 80 ")), "{leaked:?}");
    assert!(leaked.iter().any(|packet| packet.starts_with("fd88::2 . tcp . 81 ")), "{leaked:?}");
    assert_eq!(web.connections(), 0);
}

#[test]
fn a_question_to_the_resolver_is_counted() {
    if missing(&["getent"]) {
        return;
    }
    let lab = Lab::new();
    lab.bare(["getent", "ahosts", "origin.test"]).run().code(2);
    let leaked = lab.leaked();
    assert!(leaked.iter().any(|packet| packet.starts_with("192.0.2.53 . udp . 53 ")), "{leaked:?}");
}

#[test]
fn a_datagram_to_the_proxy_host_and_tcp_to_a_port_without_proxy_are_counted() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let script = format!(
        "import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('10.77.0.1', {port}))
socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect_ex(('10.77.0.1', 22))
socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect_ex(('10.77.0.1', {port}))",
        port = proxy.port()
    );
    lab.bare(["python3", "-c", &script]).run().success();
    let leaked = lab.leaked();
    assert_eq!(leaked.len(), 2, "{leaked:?}");
    assert!(leaked.iter().any(|packet| packet.starts_with("10.77.0.1 . udp . 1082 ")), "{leaked:?}");
    assert!(leaked.iter().any(|packet| packet.starts_with("10.77.0.1 . tcp . 22 ")), "{leaked:?}");
}

#[test]
fn a_ping_is_counted() {
    if missing(&["ping"]) {
        return;
    }
    let lab = Lab::new();
    for address in ["10.88.0.2", "fd88::2"] {
        let outcome = lab.bare(["ping", "-c", "1", "-W", "1", address]).run();
        assert!(!outcome.status.success(), "{}", outcome.report());
    }
    let leaked = lab.leaked();
    assert!(leaked.iter().any(|packet| packet.starts_with("10.88.0.2 . icmp . 0 ")), "{leaked:?}");
    assert!(leaked.iter().any(|packet| packet.starts_with("fd88::2 . ipv6-icmp . 0 ")), "{leaked:?}");
}

#[test]
fn frames_of_packet_sockets_multicast_and_arp_are_counted() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let script = "import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('224.0.0.251', 5353))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('cable', 0))
s.send(bytes.fromhex('020000007701' '020000007702' '88b5') + b'x' * 50)
s.send(bytes.fromhex('ffffffffffff' '020000007702' '0806' '0001080006040001' '020000007702' '0a4d0002' '000000000000' '0a4d0063'))";
    lab.bare(["python3", "-c", script]).run().success();
    let leaked = lab.leaked();
    assert!(leaked.iter().any(|packet| packet.starts_with("224.0.0.251 . udp . 5353 ")), "{leaked:?}");
    assert!(
        leaked.iter().any(|packet| packet.starts_with("0x88b5 ") || packet.contains("88b5")),
        "{leaked:?}"
    );
    assert!(leaked.iter().any(|packet| packet.starts_with("arp ")), "{leaked:?}");
}

/// What a host drops on arrival shows no leak, unless the witness looks before that: the kernel drops packets from and to loopback addresses.
#[test]
fn packets_from_and_to_loopback_are_counted_with_their_source_whatever_their_port() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    lab.permit_relay_ports(5000..=5000);
    let script = format!(
        "import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('cable', 0))
def segment(to): return struct.pack('>HHIIBBHHH', 1234, to, 1, 0, 0x50, 2, 1024, 0, 0)
def datagram(to): return struct.pack('>HHHH', 1234, to, 8, 0)
def send(source, to, protocol, payload):
    if ':' in source:
        kind, pack = '86dd', lambda address: socket.inet_pton(socket.AF_INET6, address)
        header = struct.pack('>IHBB', 0x60000000, len(payload), protocol, 64)
    else:
        kind, pack = '0800', socket.inet_aton
        header = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    s.send(bytes.fromhex('020000007701' '020000007702' + kind) + header + pack(source) + pack(to) + payload)
TCP, UDP, ICMP6 = 6, 17, 58
send('::1', 'fd77::9', TCP, segment(80))
send('::1', 'fd77::1', TCP, segment({port}))
send('fd77::2', '::1', TCP, segment({port}))
send('::1', '::1', UDP, datagram(5000))
send('::1', 'fd77::1', UDP, datagram(5000))
send('::1', 'fd77::9', ICMP6, bytes([1, 4, 0, 0]) + bytes(4))
send('127.0.0.1', '10.77.0.1', TCP, segment({port}))
send('127.9.8.7', '10.77.0.1', UDP, datagram(5000))
send('10.77.0.2', '127.0.0.1', TCP, segment({port}))
send('127.0.0.1', '10.77.0.9', 1, bytes(8))",
        port = proxy.port()
    );
    lab.bare(["python3", "-c", &script]).run().success();
    let leaked = lab.leaked();
    let port = proxy.port();
    let expected = [
        "::1 > fd77::9 . tcp . 80 ",
        &format!("::1 > fd77::1 . tcp . {port} "),
        &format!("fd77::2 > ::1 . tcp . {port} "),
        "::1 > ::1 . udp . 5000 ",
        "::1 > fd77::1 . udp . 5000 ",
        "::1 > fd77::9 . ipv6-icmp . 0 ",
        &format!("127.0.0.1 > 10.77.0.1 . tcp . {port} "),
        "127.9.8.7 > 10.77.0.1 . udp . 5000 ",
        &format!("10.77.0.2 > 127.0.0.1 . tcp . {port} "),
        "127.0.0.1 > 10.77.0.9 . icmp . 0 ",
    ];
    assert_eq!(leaked.len(), expected.len(), "{leaked:#?}");
    for packet in expected {
        assert!(leaked.iter().any(|line| line.starts_with(packet)), "{packet} is not in {leaked:#?}");
    }
}

#[test]
fn a_direct_destination_is_reached_and_no_leak() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    lab.permit_direct("10.88.0.0/24");
    lab.permit_direct("fd88::2");
    lab.bare(["curl", "-sS", "http://10.88.0.2/hello"]).run().success().stdout_is(http::HELLO);
    lab.bare(["curl", "-sS", "http://[fd88::2]/hello"]).run().success().stdout_is(http::HELLO);
    lab.assert_no_leak();
}

#[test]
fn every_real_proxy_reaches_the_origin_by_name_and_address() {
    if missing(&["curl", "danted", "microsocks", "ssh", "sshd"]) {
        return;
    }
    let lab = Lab::new();
    let web = HttpServer::start(&lab);
    let dante = Dante::open(&lab);
    let dante_password = Dante::with_password(&lab);
    let microsocks = Microsocks::open(&lab);
    let microsocks_password = Microsocks::with_password(&lab);
    let ssh = SshDynamic::open(&lab);
    let proxies: [&dyn Upstream; 5] = [&dante, &dante_password, &microsocks, &microsocks_password, &ssh];
    for (count, proxy) in proxies.iter().enumerate() {
        let proxy = proxy.url().replace("socks5:", "socks5h:");
        for place in ["origin.test", "10.88.0.2", "origin6.test", "[fd88::2]"] {
            let page = format!("http://{place}/hello");
            lab.bare(["curl", "-sS", "--proxy", &proxy, &page]).run().success().stdout_is(http::HELLO);
        }
        assert_eq!(web.connections(), 4 * (count + 1));
    }
    lab.assert_no_leak();
}

#[test]
fn a_wrong_password_is_rejected_by_dante_and_microsocks() {
    if missing(&["curl", "danted", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let dante = Dante::with_password(&lab);
    let microsocks = Microsocks::with_password(&lab);
    for proxy in [dante.url(), microsocks.url()] {
        let proxy = proxy.replace(lab::PASSWORD, "wrong");
        lab.bare(["curl", "-sS", "--proxy", &proxy, "http://10.88.0.2/"]).run().code(97);
    }
}

#[test]
fn proxies_report_refused_unreachable_and_unknown_destinations() {
    if missing(&["curl", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let dante = Dante::open(&lab);
    let proxy = dante.url().replace("socks5:", "socks5h:");
    let refused = format!("http://origin.test:{}/", lab::REFUSED_PORT);
    for (page, code) in
        [(refused.as_str(), "(5)"), ("http://unreachable.test/", "(4)"), ("http://10.99.0.1/", "(4)")]
    {
        lab.bare(["curl", "-sS", "--proxy", &proxy, page]).run().code(97).stderr_has(code);
    }
}

#[test]
fn every_server_serves() {
    if missing(&["curl", "openssl", "python3", "sshd", "ssh-keygen", "vsftpd", "git", "nc"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let secure = HttpsServer::start(&lab);
    let shell = SshServer::start(&lab);
    let repository = Repository::create(&lab);
    let _git = GitServer::start(&lab);
    let _ftp = FtpServer::start(&lab);
    let echo = Service::echo(&lab, 7);
    let _banner = Service::banner_first(&lab, 25, b"220 mail.origin.test ESMTP\r\n");
    lab.permit_direct("10.88.0.2");
    lab.permit_direct("fd88::2");

    lab.bare(["curl", "-sS", "http://10.88.0.2/large"]).run().success().stdout_is(http::large());
    let authority = secure.authority().to_string_lossy();
    for page in ["https://10.88.0.2/", "https://[fd88::2]/"] {
        lab.bare(["curl", "-sS", "--cacert", &authority, page]).run().success().stdout_is(https::SECURE);
    }
    lab.bare(shell.client("ssh", ["root@10.88.0.2", "hostname"])).run().success().stdout_is("origin\n");
    for source in ["http://10.88.0.2/repo.git", "git://10.88.0.2/repo.git"] {
        let name = source.replace("://10.88.0.2/", "-");
        lab.bare(["git", "clone", "-q", source, &name]).run().success();
        lab.bare(["git", "-C", &name, "rev-parse", "HEAD"])
            .run()
            .success()
            .stdout_is(format!("{}\n", repository.head));
    }
    lab.bare(["curl", "-sS", "ftp://10.88.0.2/hello.txt"]).run().success().stdout_is(ftp::HELLO);
    lab.bare(["curl", "-sS", "ftp://[fd88::2]/large"]).run().success().stdout_is(http::large());
    lab.bare(["nc", "-N", "10.88.0.2", "7"]).stdin("echo this").run().success().stdout_is("echo this");
    lab.bare(["nc", "-N", "fd88::2", "25"])
        .stdin("QUIT")
        .run()
        .success()
        .stdout_is("220 mail.origin.test ESMTP\r\nQUIT");
    assert_eq!(echo.connections(), 1);
    lab.assert_no_leak();
}

#[test]
fn a_scripted_proxy_keeps_to_its_script_and_records_what_it_received() {
    if missing(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let gate = Gate::after(2);
    let script = Script::until_request().pass(&gate).dribble(scripted::SUCCESS).relay((lab::ORIGIN, 80));
    let proxy = script.start(&lab);
    let url = proxy.url().replace("socks5:", "socks5h:");
    let pages = ["http://origin.test/hello", "http://origin.test/hello"];
    let options = ["curl", "-sS", "--parallel", "--parallel-immediate", "--proxy", &url];
    lab.bare(options.into_iter().chain(pages)).run().success().stdout_is(http::HELLO.repeat(2));
    let connections = proxy.finished(2);
    assert_eq!(connections.len(), 2);
    for connection in connections {
        assert_eq!(connection.error, None);
        assert!(connection.received.ends_with(b"\x05\x01\x00\x03\x0borigin.test\x00\x50"), "{connection:?}");
    }
    lab.assert_no_leak();
}

#[test]
fn an_ordinary_user_is_one() {
    if missing(&["id"]) {
        return;
    }
    let lab = Lab::new();
    let touch = "id -u && id -G && touch \"$HOME/mine\" && ! touch /run/ours 2>/dev/null";
    lab.bare(["sh", "-c", touch]).ordinary_user().run().success().stdout_is("61000\n61000\n");
}

#[test]
fn a_terminal_interrupts_and_stops_what_runs_on_it() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    let mut terminal = Terminal::open(&lab);
    terminal.enter("sh -c 'echo started; exec sleep 1000'");
    terminal.wait_for("started\r\n");
    terminal.press(CTRL_C);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.command("echo status $?"), "status 130\n");
    assert_eq!(terminal.command("tty > /dev/null && echo a terminal"), "a terminal\n");
}

#[test]
fn what_runs_on_a_host_ends_with_it() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    lab.bare(["sh", "-c", "setsid sleep 12345 > /dev/null 2>&1 &"]).run().success();
    let sleeper = patience::wait_for("the sleeper", || lab.client.processes("sleep 12345").pop());
    drop(lab);
    assert!(!std::path::Path::new(&format!("/proc/{sleeper}")).exists());
}
