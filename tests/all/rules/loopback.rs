//! Rules about loopback: it is the program's own, unless a rule denies a port there. So is a proxy there kept from programs.

use presocks_tests::{Lab, Outcome, missing};

const NOWHERE: [&str; 2] = ["-p", "socks5://127.0.0.1:1"];

/// Listens at two ports of loopback, and connects to each HOST:PORT that is an argument, blocking and not.
const CONNECTOR: &str = "
import errno, select, socket, sys, threading
def serve(family, host, port):
    listener = socket.create_server((host, port), family=family)
    def accept():
        while True: listener.accept()[0].sendall(b'hello')
    threading.Thread(target=accept, daemon=True).start()
for port in 3128, 8080:
    serve(socket.AF_INET, '127.0.0.1', port)
    serve(socket.AF_INET6, '::1', port)
def blocking(family, to):
    with socket.socket(family) as s:
        s.connect(to)
        return s.recv(5).decode()
def waiting(family, to):
    with socket.socket(family) as s:
        s.setblocking(False)
        error = s.connect_ex(to)
        if error == errno.EINPROGRESS:
            select.select([], [s], [])
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error: raise OSError(error, '')
        s.setblocking(True)
        return s.recv(5).decode()
for word in sys.argv[1:]:
    host, port = word.rsplit(':', 1)
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    for how in blocking, waiting:
        try: print(how(family, (host, int(port))))
        except OSError as error: print(errno.errorcode[error.errno])";

/// By the shim and the backstop, by the backstop alone, and by the shim alone.
const WAYS: [(&[&str], &[&str]); 3] =
    [(&[], &[]), (&["env", "-u", "LD_PRELOAD"], &[]), (&[], &["--backstop=off", "-v"])];

fn connect(lab: &Lab, way: (&[&str], &[&str]), options: &[&str], to: &[&str]) -> Outcome {
    let words = [way.0, &["python3", "-c", CONNECTOR], to].concat();
    let run = lab.presocks(words).options(NOWHERE).options(way.1.iter().copied());
    run.options(options.iter().copied()).run()
}

#[test]
fn a_rule_denies_ports_of_loopback_and_leaves_the_others_alone() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let to = [
        "127.0.0.1:3128",
        "::1:3128",
        "0.0.0.0:3128",
        "localhost:3128",
        "127.0.0.1:8080",
        "::1:8080",
        "127.0.0.1:9",
    ];
    let denied = ["EACCES\n"; 8].concat() + &["hello\n"; 4].concat() + &["ECONNREFUSED\n"; 2].concat();
    let open = ["hello\n"; 12].concat() + &["ECONNREFUSED\n"; 2].concat();
    for way in WAYS {
        for rule in ["address=127.0.0.0/8,::1 port=3128 via=deny", "name=localhost port=3128 via=deny"] {
            let run = connect(&lab, way, &["--rule", rule], &to);
            run.success().stdout_is(&denied).stderr_has(": a rule denies it (--rule: ");
        }
        // What does not speak of loopback leaves it alone, and so does another program's rule.
        for rule in [
            "port=3128 via=deny",
            "address=0.0.0.0/0,::/0 via=deny",
            "address=127.0.0.1,::1 program=nc via=deny",
        ] {
            connect(&lab, way, &["--rule", rule], &to).success().stdout_is(&open);
        }
    }
    let explain = |to: &str| {
        let options = ["--rule", "address=127.0.0.0/8,::1 port=3128 via=deny", "--explain", to];
        lab.presocks([""; 0]).options(NOWHERE).options(options).run().success().stdout()
    };
    assert!(explain("127.0.0.1:3128").contains("denied") && explain("localhost:3128").contains("denied"));
    assert!(explain("127.0.0.1:8080").contains("on this machine"));
    lab.assert_no_leak();
}

#[test]
fn a_program_that_connects_to_a_proxy_at_loopback_that_a_variable_named_is_told_on() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    for (prefix, options) in WAYS {
        let words = [prefix, &["python3", "-c", CONNECTOR, "127.0.0.1:3128", "127.0.0.1:8080"]].concat();
        let run = lab.presocks(words).options(NOWHERE).options(options.iter().copied());
        let run = run.env("https_proxy", "http://localhost:3128").run();
        run.success().stdout_is("hello\n".repeat(4));
        let hint = "connects to 127.0.0.1:3128, the proxy that https_proxy named";
        assert_eq!(run.stderr().matches(hint).count(), 1, "{}", run.report());
    }
}
