//! How presocks ends: as its command did, or with 125, 126 and 127 as env(1) does.

use presocks_tests::{Lab, Outcome, missing};
use rustix::process::Signal;

/// These commands connect to nothing, so no proxy has to be there.
const NO_PROXY_NEEDED: &str = "socks5://127.0.0.1:1";

fn run(lab: &Lab, command: &[&str]) -> Outcome {
    lab.presocks(command).proxy(NO_PROXY_NEEDED).run()
}

#[test]
fn the_exit_status_is_the_commands() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    run(&lab, &["true"]).code(0).stdout_is("").stderr_is("");
    run(&lab, &["false"]).code(1).stdout_is("").stderr_is("");
    for status in [2, 7, 124, 125, 126, 127, 128, 255] {
        run(&lab, &["sh", "-c", &format!("exit {status}")]).code(status).stderr_is("");
    }
}

#[test]
fn a_fatal_signal_is_the_commands() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    for signal in [
        Signal::TERM,
        Signal::KILL,
        Signal::INT,
        Signal::QUIT,
        Signal::HUP,
        Signal::USR1,
        Signal::SEGV,
        Signal::ABORT,
    ] {
        let suicide = format!("ulimit -c 0; kill -{} $$", signal.as_raw());
        run(&lab, &["sh", "-c", &suicide]).signal(signal).stdout_is("");
    }
}

#[test]
fn a_signal_to_presocks_alone_reaches_the_command() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let program = "
import signal, sys
awaited = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print('ready', flush=True)
while (number := signal.sigwait(awaited)) != signal.SIGTERM: print('caught', number.value, flush=True)
print('caught', number.value, flush=True)
sys.exit(9)";
    let mut running = lab.presocks(["python3", "-c", program]).proxy(NO_PROXY_NEEDED).start();
    assert_eq!(running.line(), "ready");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::TERM] {
        running.signal(signal);
        assert_eq!(running.line(), format!("caught {}", signal.as_raw()));
    }
    let _ = running.finish().code(9);
}

#[test]
fn a_signal_reaches_presocks_or_the_command_however_early_it_comes() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    for step in 0..60 {
        let running = lab.presocks(["sleep", "5432"]).proxy(NO_PROXY_NEEDED).start();
        std::thread::sleep(std::time::Duration::from_micros(step * 100));
        running.signal(Signal::TERM);
        let _ = running.finish().signal(Signal::TERM);
    }
}

#[test]
fn an_ignored_sigchld_costs_no_status_and_is_passed_on() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let program =
        "import signal, sys; sys.exit(7 if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN else 8)";
    let script = format!(
        "exec env --ignore-signal=CHLD {} -p {NO_PROXY_NEEDED} python3 -S -E -c '{program}'",
        presocks_tests::binary::presocks().display()
    );
    lab.bare(["sh", "-c", &script]).run().code(7).stderr_is("");
}

#[test]
fn presocks_within_presocks_serves_by_the_outer_one_and_says_so() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    let inner = format!("{} -p {NO_PROXY_NEEDED} true", presocks_tests::binary::presocks().display());
    let outcome = run(&lab, &["sh", "-c", &inner]);
    outcome.success().stderr_has("the outer one's proxy and options serve the command");
    assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
    let missing = inner.replace("true", "no-such-command");
    run(&lab, &["sh", "-c", &missing]).code(127).stderr_has("no-such-command");
    let freed = format!("env -u PRESOCKS_SESSION -u LD_PRELOAD {inner}");
    run(&lab, &["sh", "-c", &freed]).success().stderr_has("another supervisor");
}

#[test]
fn a_command_that_is_not_there_gives_127() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    for command in ["no-such-command", "/no/such/command", "./no-such-command", ""] {
        let outcome = run(&lab, &[command]);
        outcome.code(127).stdout_is("");
        assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
        assert!(outcome.stderr().starts_with("presocks: "), "{}", outcome.report());
    }
}

#[test]
fn a_command_that_cannot_be_executed_gives_126() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    lab.file("not-executable", "#!/bin/sh\n");
    for command in ["./not-executable", "/"] {
        let outcome = run(&lab, &[command]);
        outcome.code(126).stdout_is("");
        assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.report());
    }
}

#[test]
fn a_wrong_command_line_gives_125() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    for options in [
        &["--no-such-option"][..],
        &["--timeout", "x"],
        &["--direct", "10.0.0.0/33"],
        &["--connect-timeout", "0"],
    ] {
        lab.presocks(["true"]).options(options).proxy(NO_PROXY_NEEDED).run().code(125).stdout_is("");
    }
    lab.presocks([] as [&str; 0]).proxy(NO_PROXY_NEEDED).run().code(125).stdout_is("");
}

#[test]
fn every_word_after_the_options_is_the_commands() {
    if missing(&["printf"]) {
        return;
    }
    let lab = Lab::new();
    let outcome = run(&lab, &["printf", "<%s>", "-p", "--help", "", "two words", "--", "-q", "é\u{1b}"]);
    outcome.success().stdout_is("<-p><--help><><two words><--><-q><é\u{1b}>");
}

#[test]
fn help_and_version_are_told_without_a_proxy() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    let help = lab.presocks(["--help"]).run();
    help.success().stdout_has("--proxy").stdout_has("--direct").stderr_is("");
    let version = lab.presocks(["--version"]).run();
    version.success().stdout_is(format!("presocks {}\n", env!("CARGO_PKG_VERSION"))).stderr_is("");
}
