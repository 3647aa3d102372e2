//! The command's standard streams, descriptors, directory and environment are those that presocks was given.

use presocks_tests::origin::{Service, http};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Lab, binary, missing};

const NO_PROXY_NEEDED: &str = "socks5://127.0.0.1:1";

#[test]
fn input_and_output_pass_unharmed() {
    if missing(&["cat"]) {
        return;
    }
    let lab = Lab::new();
    let copy = lab.presocks(["cat"]).proxy(NO_PROXY_NEEDED).stdin(http::large());
    copy.run().success().stdout_is(http::large()).stderr_is("");
    let split = lab.presocks(["sh", "-c", "cat >&2; echo out"]).proxy(NO_PROXY_NEEDED).stdin("err\n");
    split.run().success().stdout_is("out\n").stderr_is("err\n");
}

#[test]
fn the_command_has_the_descriptors_that_presocks_was_given() {
    if missing(&["ls"]) {
        return;
    }
    let lab = Lab::new();
    // What the descriptors point to, less the one that ls itself has open on the directory.
    let list = "for fd in /proc/self/fd/*; do echo \"${fd##*/}\"; done | grep -vx 3; ls -l /proc/$$/fd | grep -c ' 9 -> /dev/null'";
    let list = format!("exec 9> /dev/null; $WRAPPER sh -c '{}'", list.replace('\'', "'\\''"));
    let wrapper = format!("{} -p {NO_PROXY_NEEDED}", binary::presocks().display());
    let plain = lab.bare(["sh", "-c", &list]).env("WRAPPER", "env").run();
    let wrapped = lab.bare(["sh", "-c", &list]).env("WRAPPER", wrapper).run();
    wrapped.success().stdout_is(plain.success().stdout_bytes());
}

#[test]
fn closed_standard_descriptors_stay_closed_and_nothing_of_ours_lands_there() {
    if missing(&["python3", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7);
    let proxy = Microsocks::open(&lab);
    let program = "
import os, socket, sys
open_at_start = [fd for fd in range(3) if os.path.exists(f'/proc/self/fd/{fd}')]
with open(sys.argv[1], 'w') as out:
    print(open_at_start, file=out)
    if sys.argv[1] == 'wrapped':
        with socket.create_connection(('origin.test', 7)) as s:
            s.sendall(b'hello'); print(s.recv(100).decode(), file=out)
";
    let program = lab.file("closed.py", program);
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-", ">&- 2>&-"] {
        let run = |wrapper: &str, report: &str| {
            // -S -E keep Python from opening more than it must; a shell starts it so that all three can be closed.
            let script = format!("exec {wrapper} python3 -S -E {} {report} {closed}", program.display());
            let _ = lab.bare(["sh", "-c", &script]).run();
            std::fs::read_to_string(lab.directory().join(report)).unwrap_or_default()
        };
        let wrapper =
            format!("{} -p {}", binary::presocks().display(), presocks_tests::proxy::Upstream::url(&proxy));
        let wrapped = run(&wrapper, "wrapped");
        let plain = run("env", "plain");
        assert_eq!(wrapped.lines().next(), plain.lines().next(), "closed {closed}");
        assert_eq!(wrapped.lines().nth(1), Some("hello"), "closed {closed}");
        std::fs::remove_file(lab.directory().join("wrapped")).unwrap();
    }
    lab.assert_no_leak();
}

#[test]
fn directory_environment_limits_and_mask_are_untouched() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let program = "
import os, resource, signal
print(os.getcwd(), os.umask(0), os.getpriority(os.PRIO_PROCESS, 0), os.getpgid(0) == os.getpgid(os.getppid()))
print(resource.getrlimit(resource.RLIMIT_NOFILE), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
print([n for n in range(1, 32) if n not in (9, 19) and signal.getsignal(n) == signal.SIG_IGN and n not in (13, 25)])
print({k: v for k, v in os.environ.items() if not k.startswith('PRESOCKS') and k not in ('LD_PRELOAD', 'ASAN_OPTIONS', '_', 'PROGRAM', 'WRAPPER')})
";
    let script = "umask 027; ulimit -n 300; trap '' USR2; cd /usr/lib; exec $WRAPPER python3 -c \"$PROGRAM\"";
    let wrapper = format!("{} -p {NO_PROXY_NEEDED}", binary::presocks().display());
    // The parent of the bare run is the harness, in another process group: that word is made the same.
    let run = |wrapper: &str| {
        let run = lab.bare(["sh", "-c", script]).env("PROGRAM", program).env("WRAPPER", wrapper).run();
        run.success().stdout().replacen(" True\n", " False\n", 1)
    };
    assert_eq!(run(&wrapper), run("env"));
}

#[test]
fn a_preload_of_the_users_is_kept() {
    if missing(&["sh"]) {
        return;
    }
    let lab = Lab::new();
    let run = lab
        .presocks(["sh", "-c", "echo \"$LD_PRELOAD\""])
        .proxy(NO_PROXY_NEEDED)
        .env("LD_PRELOAD", "libm.so.6");
    let outcome = run.run();
    let preload = outcome.success().stdout();
    assert!(
        preload.trim_end().ends_with(":libm.so.6") || preload.trim_end().ends_with(" libm.so.6"),
        "{preload}"
    );
}
