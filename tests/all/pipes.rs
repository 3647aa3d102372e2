//! `$(presocks …)` and `presocks … | cat` end with the command, also when a daemon of it lives on; the daemon keeps
//! its network, and everything of ours ends with the last descendant.

use std::fs;

use presocks_tests::origin::{HttpServer, http};
use presocks_tests::patience;
use presocks_tests::proxy::{Microsocks, Upstream};
use presocks_tests::{Lab, binary, missing};

/// Leaves a daemon that waits until a line comes through the FIFO `go`, then fetches a page.
const DAEMON: &str = "mkfifo go
    (setsid sh -c 'read line < go; curl -sS http://origin.test/hello > fetched.part 2>&1; mv fetched.part fetched' \
        < /dev/null > /dev/null 2>&1 &)
    echo started";

fn ours(lab: &Lab) -> Vec<u32> {
    lab.client.processes(&binary::presocks().to_string_lossy())
}

#[test]
fn a_daemon_keeps_its_network_after_presocks_has_returned_and_the_broker_ends_with_it() {
    if missing(&["curl", "microsocks", "setsid", "mkfifo"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    lab.presocks(["sh", "-c", DAEMON]).proxy(&proxy).run().success().stdout_is("started\n").stderr_is("");
    assert!(!ours(&lab).is_empty(), "the broker must outlive the front while the daemon runs");
    fs::write(lab.directory().join("go"), "go\n").unwrap();
    let fetched = lab.directory().join("fetched");
    patience::wait_until("the daemon to fetch the page", || fetched.exists());
    assert_eq!(fs::read_to_string(fetched).unwrap(), http::HELLO);
    patience::wait_until("the broker to end with the daemon", || ours(&lab).is_empty());
    lab.assert_no_leak();
}

#[test]
fn command_substitution_and_pipelines_end_while_a_daemon_lives() {
    if missing(&["setsid", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    let daemon = "(setsid sleep 4321 < /dev/null > /dev/null 2>&1 &); echo text";
    let wrapped = format!("{} -p {} sh -c '{daemon}'", binary::presocks().display(), proxy.url());
    let script =
        format!("echo \"substituted: $({wrapped})\"; {wrapped} | cat; {wrapped} 2>&1 | sed s/^/piped:/");
    lab.bare(["sh", "-c", &script])
        .run()
        .success()
        .stdout_is("substituted: text\ntext\npiped:text\n")
        .stderr_is("");
    patience::wait_until("three living daemons", || lab.client.processes("sleep 4321").len() == 3);
}

#[test]
fn nothing_of_ours_stays_when_the_command_ends() {
    if missing(&["curl", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    lab.presocks(["curl", "-sS", "http://origin.test/hello"]).proxy(&proxy).run().success();
    patience::wait_until("the broker to end", || ours(&lab).is_empty());
}

#[test]
fn a_reader_that_goes_away_ends_the_writer_as_ever() {
    if missing(&["yes", "head", "bash"]) {
        return;
    }
    let lab = Lab::new();
    let script = format!(
        "{} -p socks5://127.0.0.1:1 yes | head -n 2; echo ${{PIPESTATUS[0]}}",
        binary::presocks().display()
    );
    lab.bare(["bash", "-c", &script]).run().success().stdout_is("y\ny\n141\n").stderr_is("");
}

#[test]
fn an_output_that_the_command_closes_is_closed() {
    if missing(&["cat", "mkfifo"]) {
        return;
    }
    let lab = Lab::new();
    // The command ends only after cat has seen the end of its output.
    let script = format!(
        "mkfifo go; {} -p socks5://127.0.0.1:1 sh -c 'echo text; exec >&-; read line < go' | {{ cat; echo go > go; }}",
        binary::presocks().display()
    );
    lab.bare(["sh", "-c", &script]).run().success().stdout_is("text\n").stderr_is("");
}

#[test]
fn the_broker_keeps_no_file_system_busy() {
    if missing(&["readlink"]) {
        return;
    }
    let lab = Lab::new();
    let where_it_is = "until [ \"$(readlink /proc/$PPID/cwd)\" = / ]; do :; done";
    lab.presocks(["sh", "-c", where_it_is]).proxy("socks5://127.0.0.1:1").run().success();
}
