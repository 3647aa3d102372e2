//! Real programs that talk UDP: nc, Python, iperf3, TFTP clients, mosh.

use std::process::{Command, Stdio};

use presocks_tests::daemon::Daemon;
use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::{Datagrams, TftpServer, tftp};
use presocks_tests::proxy::{Dante, Embedded, Upstream};
use presocks_tests::terminal::{PROMPT, Terminal};
use presocks_tests::{Lab, missing, patience};

use super::scene::await_socket;

#[test]
fn nc_talks_to_a_service_by_name_and_address() {
    if missing(&["nc", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Datagrams::echo(&lab, 7);
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    for proxy in [&dante as &dyn Upstream, &embedded] {
        for host in ["origin.test", "10.88.0.2", "fd88::2", "origin6.test"] {
            let mut talk = lab.presocks(["nc", "-u", host, "7"]).proxy(proxy).start();
            for line in ["to the origin and back", "and again"] {
                talk.write(format!("{line}\n"));
                assert_eq!(talk.line(), line, "{host}");
            }
        }
    }
    lab.assert_no_leak();
}

#[test]
fn nc_talks_to_another_that_listens() {
    if missing(&["nc", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    let mut command = Command::new("nc");
    command.args(["-u", "-l", "9000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut far = lab.origin.spawn(&mut command);
    await_socket(&lab.origin, 9000);
    let mut near = lab.presocks(["nc", "-u", "10.88.0.2", "9000"]).proxy(&proxy).start();
    near.write("from near\n");
    let mut line = String::new();
    let mut heard = std::io::BufReader::new(far.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut heard, &mut line).unwrap();
    assert_eq!(line, "from near\n");
    std::io::Write::write_all(far.stdin.as_mut().unwrap(), b"from far\n").unwrap();
    assert_eq!(near.line(), "from far");
    far.kill().unwrap();
    far.wait().unwrap();
    drop(near);
    lab.assert_no_leak();
}

#[test]
fn nc_on_loopback_hears_its_own_kind() {
    if missing(&["nc", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Dante::open(&lab);
    let script = "nc -u -l -W 1 127.0.0.1 9000 > heard & \
                  until grep -q ':2328 ' /proc/net/udp; do sleep 0.01; done; \
                  echo hello | nc -u -w 1 127.0.0.1 9000; wait; cat heard";
    lab.presocks(["sh", "-c", script]).proxy(&proxy).run().success().stdout_is("hello\n");
    lab.assert_no_leak();
}

#[test]
fn python_sends_and_receives_by_every_means_that_it_has() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Datagrams::echo(&lab, 7);
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    let script = "
import socket
for host, family in ('origin.test', socket.AF_INET), ('10.88.0.2', socket.AF_INET), ('fd88::2', socket.AF_INET6):
    place = socket.getaddrinfo(host, 7, family, socket.SOCK_DGRAM)[0][4]
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(15)
    s.sendto(b'one', place); print(s.recvfrom(100) == (b'one', place))
    s.sendmsg([b't', b'wo'], [], 0, place); data, _, _, source = s.recvmsg(100); print(data, source == place)
    buffer = bytearray(100)
    s.sendto(b'three', place); print(s.recvfrom_into(buffer) == (5, place))
    s.connect(place); s.send(b'four'); print(s.recv(100), s.getpeername() == place)
";
    for proxy in [&dante as &dyn Upstream, &embedded] {
        let run = lab.presocks(["/usr/bin/python3", "-c", script]).proxy(proxy).run();
        run.success().stdout_is("True\nb'two' True\nTrue\nb'four' True\n".repeat(3)).stderr_is("");
    }
    lab.assert_no_leak();
}

/// Its broker outlives it for as long as the association takes.
#[test]
fn what_a_program_sends_as_its_last_word_arrives() {
    if missing(&["bash", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let echo = Datagrams::echo(&lab, 7);
    let proxy = Dante::open(&lab);
    for _ in 0..3 {
        let run = lab.presocks(["bash", "-c", "echo last > /dev/udp/10.88.0.2/7"]).proxy(&proxy).run();
        run.success().stderr_is("");
    }
    patience::wait_until("three datagrams at the origin", || echo.received().len() == 3);
    lab.assert_no_leak();
}

#[test]
fn asyncio_has_datagram_endpoints_with_and_without_a_peer() {
    if missing(&["python3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Datagrams::echo(&lab, 7);
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    let script = "
import asyncio, socket
class Echoed(asyncio.DatagramProtocol):
    def __init__(self): self.queue = asyncio.Queue()
    def datagram_received(self, data, source): self.queue.put_nowait((data, source[:2]))
    def error_received(self, error): self.queue.put_nowait(error)
async def ask(host, number, with_peer):
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if '6' in host or ':' in host else socket.AF_INET
    place = (await loop.getaddrinfo(host, 7, family=family, type=socket.SOCK_DGRAM))[0][4]
    options = {'remote_addr': place[:2]} if with_peer else {'family': family, 'local_addr': ('::' if family == socket.AF_INET6 else '0.0.0.0', 0)}
    transport, protocol = await loop.create_datagram_endpoint(Echoed, **options)
    for time in range(5):
        text = b'%d %d' % (number, time)
        transport.sendto(text, None if with_peer else place)
        answer = await asyncio.wait_for(protocol.queue.get(), 15)
        if answer != (text, place[:2]): return f'{host}: {answer}'
    transport.close()
async def main():
    hosts = ['origin.test', 'a.test', '10.88.0.2', 'fd88::2', 'origin6.test'] * 4
    asks = [ask(host, number, number % 2) for number, host in enumerate(hosts)]
    print(set(await asyncio.gather(*asks)))
asyncio.run(main())
";
    for proxy in [&dante as &dyn Upstream, &embedded] {
        let run = lab.presocks(["/usr/bin/python3", "-c", script]).proxy(proxy).run();
        run.success().stdout_is("{None}\n").stderr_is("");
    }
    lab.assert_no_leak();
}

#[test]
fn iperf3_measures_both_directions() {
    if missing(&["iperf3", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let mut command = Command::new("iperf3");
    command.args(["-s", "-p", "5201"]);
    let _server = Daemon::start(&lab, &lab.origin, "iperf3", &mut command, (ORIGIN, 5201).into());
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    for proxy in [&dante as &dyn Upstream, &embedded] {
        for direction in [None, Some("-R")] {
            let words = ["iperf3", "-c", "origin.test", "-u", "-b", "10M", "-l", "1200", "-t", "1", "-J"];
            let run = lab.presocks(words.into_iter().chain(direction)).proxy(proxy).run();
            let report = run.success().stdout();
            // Of a thousand datagrams none need be lost at this pace, but a busy machine may lose some.
            assert!(!report.contains("\"error\""), "{}", run.report());
            let lost =
                report.lines().filter_map(|line| line.trim().strip_prefix("\"lost_percent\":")).next_back();
            let lost: f64 = lost.unwrap().trim().trim_end_matches(',').parse().unwrap();
            assert!(lost < 20.0, "{}", run.report());
        }
    }
    lab.assert_no_leak();
}

/// Each transfer has a port of its own: Dante relays nothing from a port that was not asked.
#[test]
fn tftp_clients_get_and_put() {
    if missing(&["tftp", "busybox"]) {
        return;
    }
    let lab = Lab::new();
    let server = TftpServer::start(&lab);
    let proxy = Embedded::open(&lab);
    lab.file("upload", tftp::large());
    for host in ["10.88.0.2", "origin.test"] {
        let shared = |line: String| {
            lab.presocks(
                ["tftp", "-m", "binary", host, "-c"]
                    .into_iter()
                    .map(str::to_owned)
                    .chain(line.split(' ').map(str::to_owned)),
            )
        };
        shared("get large got".into()).proxy(&proxy).run().success();
        assert_eq!(std::fs::read(lab.directory().join("got")).unwrap(), tftp::large(), "{host}");
        shared("put upload there".into()).proxy(&proxy).run().success();
        // busybox is static.
        let get = lab.presocks(["busybox", "tftp", "-g", "-r", "large", "-l", "-", host]).proxy(&proxy);
        get.run().success().stdout_is(tftp::large());
        lab.presocks(["busybox", "tftp", "-p", "-l", "upload", host]).proxy(&proxy).run().success();
    }
    // A client is done with the last acknowledgement, the server a moment later.
    patience::wait_until("the last upload", || server.uploads().len() >= 4);
    assert!(server.uploads() == vec![tftp::large(); 4], "not what was sent, or more");
    lab.assert_no_leak();
}

#[test]
fn mosh_shows_what_its_server_does_and_sends_what_is_typed() {
    if missing(&["mosh-server", "mosh-client", "danted"]) {
        return;
    }
    let lab = Lab::new();
    let (dante, embedded) = (Dante::open(&lab), Embedded::open(&lab));
    for (proxy, port) in [(dante.url(), "60001"), (embedded.url(), "60002")] {
        let mut command = Command::new("mosh-server");
        let shell = "read line; echo \"heard <$line>\"; sleep 1";
        command.args(["new", "-i", "10.88.0.2", "-p", port, "--", "sh", "-c", shell]);
        command.env_clear().env("LANG", "C.UTF-8").env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
        let output = lab.origin.spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let text = String::from_utf8(output.wait_with_output().unwrap().stdout).unwrap();
        let key = text.split_whitespace().skip_while(|word| *word != port).nth(1).expect("a key");
        let mut terminal = Terminal::open(&lab);
        terminal.command("stty rows 24 cols 80");
        let presocks = presocks_tests::binary::presocks().display();
        terminal
            .enter(&format!("TERM=xterm MOSH_KEY={key} {presocks} -p {proxy} mosh-client 10.88.0.2 {port}"));
        // From when it has the terminal it keeps what is typed until its server has it.
        terminal.wait_for("\u{1b}[");
        terminal.press("a line\r");
        terminal.wait_for("heard <a line>");
        terminal.wait_for(PROMPT);
    }
    lab.assert_no_leak();
}
