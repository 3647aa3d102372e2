//! A broker that does not answer, or dies before the command runs: presocks ends as its command does, or says why there is none.

use std::fs;
use std::io::{PipeReader, Read as _, Write as _, pipe};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};

use presocks_tests::proxy::scripted::{Gate, Script};
use presocks_tests::{Invocation, Lab, binary, missing, patience};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process};

const NO_PROXY_NEEDED: &str = "socks5://127.0.0.1:1";
const UNANSWERED: &str = "the broker does not answer";

fn sh<'lab>(lab: &'lab Lab, script: &str) -> Invocation<'lab> {
    lab.presocks(["sh", "-c", script]).proxy(NO_PROXY_NEEDED)
}

fn ours(lab: &Lab) -> Vec<u32> {
    lab.client.processes(&binary::presocks().to_string_lossy())
}

#[track_caller]
fn nothing_is_left(lab: &Lab) {
    patience::wait_until("everything of presocks to end", || ours(lab).is_empty());
}

fn send(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// The children of a process among these (proc(5): the fourth field of stat, the second after the name).
fn children(of: u32, among: &[u32]) -> Vec<u32> {
    let parent = |process: &u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
    };
    among.iter().copied().filter(|process| parent(process) == Some(of)).collect()
}

#[test]
fn a_stopped_broker_does_not_keep_presocks_from_ending_as_its_command_does() {
    if missing(&[]) {
        return;
    }
    let lab = Lab::new();
    let exited = sh(&lab, "kill -STOP $PPID; exit 7").run();
    exited.code(7).stderr_has(UNANSWERED);
    assert_eq!(exited.stderr().lines().count(), 1, "{}", exited.report());
    sh(&lab, "kill -STOP $PPID; kill -KILL $$").run().signal(Signal::KILL).stderr_has(UNANSWERED);
    nothing_is_left(&lab);
}

#[test]
fn a_request_to_end_reaches_a_command_whose_broker_is_stopped() {
    if missing(&["sleep"]) {
        return;
    }
    let lab = Lab::new();
    let mut running = sh(&lab, "kill -STOP $PPID; echo ready; exec sleep 5432").start();
    assert_eq!(running.line(), "ready");
    running.signal(Signal::TERM);
    running.finish().signal(Signal::TERM).stderr_has(UNANSWERED);
    nothing_is_left(&lab);
}

/// Waits in a connect that only the backstop sees, and has something to do before it ends.
const HANDLER: &str = "
import signal, socket, sys
def end(number, frame): print('cleaned up', flush=True); sys.exit(3)
signal.signal(signal.SIGTERM, end)
try: socket.create_connection(('10.88.0.2', 7000))
except OSError as error: print('failed:', error.strerror, flush=True); signal.pause()";

#[test]
fn a_request_to_end_reaches_a_command_in_a_call_that_a_stopped_broker_holds() {
    if missing(&["python3", "env"]) {
        return;
    }
    let lab = Lab::new();
    let gate = Gate::closed();
    let proxy = Script::until_request().pass(&gate).start(&lab);
    let running = lab.presocks(["env", "-i", "python3", "-S", "-E", "-c", HANDLER]).proxy(&proxy).start();
    gate.wait_for_arrivals(1);
    let [broker] = children(running.number(), &ours(&lab))[..] else { panic!("one broker") };
    send(broker, Signal::STOP);
    running.signal(Signal::TERM);
    let outcome = running.finish();
    outcome.code(3).stdout_has("cleaned up").stderr_has(UNANSWERED);
    gate.open();
    nothing_is_left(&lab);
    lab.assert_no_leak();
}

#[test]
fn a_broker_that_answers_is_left_alone_whatever_signals_come() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let program = "
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
broker = os.getppid()
print('ready', flush=True)
for _ in range(3): signal.sigwait({signal.SIGTERM}); print('caught', flush=True)
signal.sigtimedwait([signal.SIGTERM], 8)
print(os.getppid() == broker)";
    let mut running = lab.presocks(["python3", "-c", program]).proxy(NO_PROXY_NEEDED).start();
    assert_eq!(running.line(), "ready");
    for _ in 0..3 {
        running.signal(Signal::TERM);
        assert_eq!(running.line(), "caught");
    }
    running.finish().success().stdout_has("True").stderr_is("");
}

/// presocks with a stderr that takes no byte more: with `-v` the broker waits for it before it lets the command run.
struct Waiting {
    front: Child,
    broker: u32,
    stderr: PipeReader,
}

impl Waiting {
    fn start(lab: &Lab) -> Self {
        let (stderr, mut full) = pipe().unwrap();
        ioctl_fionbio(&full, true).unwrap();
        while full.write(&[b'#'; 4096]).is_ok() {}
        while full.write(b"#").is_ok() {}
        ioctl_fionbio(&full, false).unwrap();
        let mut command = lab.presocks(["echo", "it ran"]).proxy(NO_PROXY_NEEDED).options(["-v"]).command();
        let front = lab.client.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(full));
        let broker = patience::wait_for("the process that is to be the command", || {
            let ours = ours(lab);
            let [broker] = children(front.id(), &ours)[..] else { return None };
            (children(broker, &ours).len() == 1).then_some(broker)
        });
        Self { front, broker, stderr }
    }

    /// How presocks ends, and what stdout and stderr were given; stderr after it was full.
    fn finish(mut self) -> (ExitStatus, String, String) {
        let (mut said, mut printed) = (String::new(), String::new());
        self.stderr.read_to_string(&mut said).unwrap();
        self.front.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.front.wait().unwrap(), printed, said.trim_start_matches('#').to_owned())
    }
}

#[test]
fn a_request_to_end_ends_presocks_before_its_command_has_started() {
    if missing(&["echo"]) {
        return;
    }
    let lab = Lab::new();
    let mut waiting = Waiting::start(&lab);
    send(waiting.front.id(), Signal::TERM);
    patience::wait_until("presocks to end", || waiting.front.try_wait().unwrap().is_some());
    nothing_is_left(&lab);
    let (status, printed, said) = waiting.finish();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    assert_eq!(printed, "");
    // There was no room for a line, and nobody waited for some.
    assert_eq!(said, "");
}

#[test]
fn a_broker_that_is_killed_before_the_command_has_started_is_an_error_of_presocks() {
    if missing(&["echo"]) {
        return;
    }
    let lab = Lab::new();
    let waiting = Waiting::start(&lab);
    send(waiting.broker, Signal::KILL);
    patience::wait_until("the broker to be gone", || !ours(&lab).contains(&waiting.broker));
    let (status, printed, said) = waiting.finish();
    assert_eq!(status.code(), Some(125), "{status}\n{said}");
    assert_eq!(printed, "");
    assert_eq!(said, "presocks: the broker ended before the command was started\n");
}
