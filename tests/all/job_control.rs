//! presocks in an interactive shell: Ctrl-C, Ctrl-\, Ctrl-Z, fg, bg, and reading from the terminal.

use presocks_tests::patience;
use presocks_tests::terminal::{CTRL_BACKSLASH, CTRL_C, CTRL_Z, PROMPT, Terminal};
use presocks_tests::{Lab, binary, missing};
use rustix::process::{Pid, Signal, kill_process};

/// The command line that wraps `command`, short enough for a line of the terminal.
fn wrapped(lab: &Lab, command: &str) -> String {
    let link = lab.directory().join("p");
    if !link.exists() {
        std::os::unix::fs::symlink(binary::presocks(), &link).unwrap();
    }
    format!("./p -p socks5://127.0.0.1:1 {command}")
}

fn nothing_is_left(lab: &Lab) {
    patience::wait_until("everything of presocks to end", || lab.client.processes("./p -p").is_empty());
}

#[test]
fn ctrl_c_ends_the_command_and_the_shell_learns_why() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    let mut terminal = Terminal::open(&lab);
    terminal.enter(&wrapped(&lab, "sh -c 'echo ready; exec sleep 5432'"));
    terminal.wait_for("ready\r\n");
    terminal.press(CTRL_C);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.command("echo $?"), "130\n");
    assert!(lab.client.processes("sleep 5432").is_empty());
    nothing_is_left(&lab);
}

#[test]
fn ctrl_c_is_the_commands_to_handle() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let program = "
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print('ready', flush=True)
for count in range(1, 4):
    signal.sigwait({signal.SIGINT})
    print('caught', count, flush=True)
sys.exit(7)";
    lab.file("catch.py", program);
    let mut terminal = Terminal::open(&lab);
    terminal.enter(&wrapped(&lab, "python3 catch.py"));
    terminal.wait_for("ready\r\n");
    for count in 1..=3 {
        terminal.press(CTRL_C);
        // Exactly once each: the terminal signals the whole group, presocks must not add its own.
        assert_eq!(terminal.wait_for(&format!("caught {count}\r\n")), "^C");
    }
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.command("echo $?"), "7\n");
    nothing_is_left(&lab);
}

#[test]
fn ctrl_backslash_quits() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    let mut terminal = Terminal::open(&lab);
    terminal.command("ulimit -c 0");
    terminal.enter(&wrapped(&lab, "sh -c 'echo ready; exec sleep 5432'"));
    terminal.wait_for("ready\r\n");
    terminal.press(CTRL_BACKSLASH);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.command("echo $?"), "131\n");
    nothing_is_left(&lab);
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    if missing(&["cat"]) {
        return;
    }
    let lab = Lab::new();
    let mut terminal = Terminal::open(&lab);
    terminal.enter(&wrapped(&lab, "sh -c 'echo ready; exec cat'"));
    terminal.wait_for("ready\r\n");
    for round in ["first", "second"] {
        terminal.press(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        let jobs = terminal.command("jobs");
        assert!(jobs.contains("Stopped"), "{jobs}");
        terminal.enter("fg");
        terminal.wait_for("exec cat'\r\n");
        terminal.press(&format!("{round} line\n"));
        // Once as the terminal's echo, once from cat.
        terminal.wait_for(&format!("{round} line\r\n"));
        terminal.wait_for(&format!("{round} line\r\n"));
    }
    terminal.press("\x04");
    // Nothing else may appear: were the job stopped once more, the shell would say so.
    assert_eq!(terminal.wait_for(PROMPT), "");
    assert_eq!(terminal.command("echo $?"), "0\n");
    nothing_is_left(&lab);
}

#[test]
fn a_stopped_job_can_go_on_in_the_background() {
    if missing(&["sh"]) {
        return;
    }
    let lab = Lab::new();
    let mut terminal = Terminal::open(&lab);
    terminal.command("mkfifo go");
    terminal.enter(&wrapped(&lab, "sh -c 'echo ready; read word < go; echo got $word; exit 5'"));
    terminal.wait_for("ready\r\n");
    terminal.press(CTRL_Z);
    terminal.wait_for("Stopped");
    terminal.wait_for(PROMPT);
    terminal.command("bg");
    terminal.enter("echo something > go; wait %1; echo status $?");
    terminal.wait_for("got something\r\n");
    terminal.wait_for("status 5\r\n");
    nothing_is_left(&lab);
}

#[test]
fn hanging_up_the_terminal_ends_the_job() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    let mut terminal = Terminal::open(&lab);
    terminal.enter(&wrapped(&lab, "sh -c 'echo ready; exec sleep 5432'"));
    terminal.wait_for("ready\r\n");
    drop(terminal);
    patience::wait_until("the command to end", || lab.client.processes("sleep 5432").is_empty());
    nothing_is_left(&lab);
}

/// The state letter of a process, from /proc/PID/stat (proc(5)).
fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn a_command_that_is_stopped_and_continued_alone_takes_presocks_along() {
    if missing(&["sh"]) {
        return;
    }
    let lab = Lab::new();
    let mut running =
        lab.presocks(["sh", "-c", "echo ready; read line; exit 4"]).proxy("socks5://127.0.0.1:1").start();
    assert_eq!(running.line(), "ready");
    let [command] = lab.client.processes("sh -c echo ready")[..] else { panic!("one command") };
    let command = Pid::from_raw(command.try_into().unwrap()).unwrap();
    for _ in 0..3 {
        kill_process(command, Signal::STOP).unwrap();
        patience::wait_until("presocks to stop", || state(running.number()) == Some('T'));
        kill_process(command, Signal::CONT).unwrap();
        patience::wait_until("presocks to go on", || state(running.number()) == Some('S'));
    }
    running.write("go\n");
    let _ = running.finish().code(4);
}
