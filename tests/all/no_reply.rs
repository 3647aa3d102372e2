//! Proxies that close the connection where others answer that they cannot connect, as OpenSSH does: it is the destination that fails, in turns and
//! with greeting and request in one flight.

use presocks_tests::lab::ORIGIN;
use presocks_tests::origin::Service;
use presocks_tests::proxy::scripted::{SUCCESS, Script, reply};
use presocks_tests::proxy::{ScriptedProxy, SshDynamic, Upstream as _};
use presocks_tests::{Lab, Running, missing, patience};

const NEEDS: [&str; 4] = ["python3", "ssh", "sshd", "ssh-keygen"];
const CLOSED: &str = "the proxy closed the connection instead of answering the request";

/// Connects to each HOST:PORT that it reads, and says how it went.
const CONNECTOR: &str = "
import errno, socket, sys
for line in sys.stdin:
    host, port = line.rsplit(':', 1)
    try:
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b'x')
            print('echoed' if s.recv(1) == b'x' else 'lost', flush=True)
    except OSError as error: print(errno.errorcode.get(error.errno, error), flush=True)";

/// A program that connects when it is told to.
struct Connector(Running);

impl Connector {
    fn start(lab: &Lab, url: &str, options: &[&str]) -> Self {
        let run = lab.presocks(["python3", "-c", CONNECTOR]).options(["-p", url]).options(options);
        Self(run.start())
    }

    #[track_caller]
    fn connects(&mut self, to: &str, outcome: &str) {
        self.0.write(format!("{to}\n"));
        assert_eq!(self.0.line(), outcome, "{to}");
    }
}

#[test]
fn what_the_far_side_of_ssh_refuses_or_does_not_know_is_refused() {
    if missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = SshDynamic::open(&lab);
    let mut connector = Connector::start(&lab, &proxy.url(), &[]);
    // Before and after it is known whether greeting and request go in one flight.
    for _ in 0..6 {
        connector.connects("10.88.0.2:7", "echoed");
        connector.connects("10.88.0.2:4", "ECONNREFUSED");
        connector.connects("nowhere.test:80", "ECONNREFUSED");
        connector.connects("origin.test:7", "echoed");
    }
    let outcome = connector.0.finish();
    outcome.success().stderr_has(&format!("10.88.0.2:4 via {}: {CLOSED}", proxy.url()));
    assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.stderr());
    lab.assert_no_leak();
}

#[test]
fn a_destination_that_fails_so_tells_against_no_proxy() {
    if missing(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let (first, second) = (SshDynamic::open(&lab), Script::until_request().send(reply(1)).start(&lab));
    let options = ["-p", &second.url(), "--order", "failover", "-v"];
    let mut connector = Connector::start(&lab, &first.url(), &options);
    connector.connects("10.88.0.2:7", "echoed");
    // Another may reach it; the first keeps its place.
    connector.connects("10.88.0.2:4", "ENETUNREACH");
    connector.connects("10.88.0.2:7", "echoed");
    let outcome = connector.0.finish();
    outcome.success().stderr_has(&format!("going on without {}: {CLOSED}", first.url()));
    assert_eq!(second.connections().len(), 1);
    lab.assert_no_leak();
}

/// A proxy that serves in turns, and does this with what comes in one flight.
fn serving(lab: &Lab, pipelined: Script) -> ScriptedProxy {
    let script = Script::new().greeting().when_pipelined(pipelined).send([5, 0]).request();
    script.send(SUCCESS).relay((ORIGIN, 7)).start(lab)
}

/// How many connections have come in one flight.
fn pipelined(proxy: &ScriptedProxy) -> usize {
    proxy.connections().iter().filter(|connection| connection.pipelined).count()
}

/// Connects until this many have come in one flight, of which the first is the question whether that is taken. Each connection comes through.
#[track_caller]
fn until_pipelined(connector: &mut Connector, proxy: &ScriptedProxy, count: usize) {
    const MANY: usize = 500;
    for _ in 0..MANY {
        if pipelined(proxy) >= count {
            return;
        }
        connector.connects("10.88.0.2:7", "echoed");
    }
    panic!("{} of {count} have come in one flight", pipelined(proxy));
}

/// Has let a connection in that came in one flight, and closes it.
fn lets_in_and_closes() -> Script {
    Script::new().request().send([5, 0]).close()
}

#[test]
fn a_close_is_the_destinations_in_one_flight_too_where_that_is_known_to_be_taken() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let refused = Script::new().request().send([5, 0]).send(reply(5)).read_all();
    let proxy = serving(&lab, refused.and_later(lets_in_and_closes()));
    let mut connector = Connector::start(&lab, &proxy.url(), &[]);
    for _ in 0..4 {
        connector.connects("10.88.0.2:7", "echoed");
    }
    // The question has its answer, and the next one finds out that it is known.
    patience::wait_until("the question", || pipelined(&proxy) == 1);
    patience::wait_until("a connect in one flight", || {
        let before = proxy.connections().len();
        connector.0.write("10.88.0.2:7\n");
        let outcome = connector.0.line();
        assert_eq!(proxy.connections().len(), before + 1, "it was not made again");
        outcome == "ECONNREFUSED"
    });
    connector.connects("10.88.0.2:7", "ECONNREFUSED");
    connector.0.finish().success().stderr_has(CLOSED);
    lab.assert_no_leak();
}

#[test]
fn one_that_closes_instead_of_answering_is_found_to_take_one_flight() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let serves = Script::new().request().send([5, 0]).send(SUCCESS).relay((ORIGIN, 7));
    let proxy = serving(&lab, lets_in_and_closes().and_later(serves));
    let mut connector = Connector::start(&lab, &proxy.url(), &[]);
    until_pipelined(&mut connector, &proxy, 5);
    connector.0.finish().success().stderr_is("");
    lab.assert_no_leak();
}

#[test]
fn one_that_does_not_take_one_flight_costs_no_connection() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let answers = || Script::new().request().send([5, 0]).send(reply(5)).read_all();
    for script in [
        lets_in_and_closes(),
        // It has taken the question, and does not take what comes next: another one behind the same address, say.
        answers().and_later(Script::new().close()),
        answers().and_later(Script::new().reset()),
    ] {
        let proxy = serving(&lab, script);
        let mut connector = Connector::start(&lab, &proxy.url(), &[]);
        until_pipelined(&mut connector, &proxy, 2);
        for _ in 0..5 {
            connector.connects("10.88.0.2:7", "echoed");
        }
        assert_eq!(pipelined(&proxy), 2, "it was tried again");
        connector.0.finish().success().stderr_is("");
    }
    lab.assert_no_leak();
}
