//! Names in programs that the shim does not reach: whichever name server they ask, presocks answers, with stand-ins.
//! Services of this machine that would ask the network in their stead are not asked at all.

use std::path::Path;

use presocks_tests::origin::{HttpServer, Service, http};
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Build, Lab, Running, missing, patience};

use super::{same_bare_and_wrapped, stage_for, wrapped};

#[track_caller]
fn asks_and_is_answered(build: Build) {
    let Some(stage) = stage_for(&[build]) else { return };
    let program = build.of(&stage.lab, "lookups", &[]);
    wrapped(&stage, &[&program]).run().success();
    wrapped(&stage, &[&program]).ordinary_user().run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn a_program_with_a_resolver_of_its_own_is_answered_by_udp_and_tcp() {
    asks_and_is_answered(Build::Static);
}

#[test]
fn a_32_bit_program_with_a_resolver_of_its_own_is_answered() {
    if cfg!(target_arch = "x86_64") {
        asks_and_is_answered(Build::Narrow);
    }
}

#[test]
fn a_lasting_socket_is_answered_however_many_others_and_other_servers_there_were() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "resolvers", &[]);
    wrapped(&stage, &[&program]).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn a_receive_that_waits_for_an_answer_ends_when_its_socket_is_shut() {
    let Some(stage) = stage_for(&[Build::Static]) else { return };
    let program = Build::Static.of(&stage.lab, "awaiting", &[]);
    same_bare_and_wrapped(&stage, &[&program]);
}

#[test]
fn libc_without_preload_finds_names_as_with_it() {
    let Some(stage) = stage_for(&[Build::Shared]) else { return };
    let program = Build::Shared.of(&stage.lab, "names", &[]);
    wrapped(&stage, &[Path::new("env"), Path::new("-i"), &program]).run().success();
    stage.lab.assert_no_leak();
}

#[test]
fn nslookup_shows_stand_ins() {
    if missing(&["busybox", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let proxy = Microsocks::open(&lab);
    for server in [&[][..], &["192.0.2.1"], &["127.0.0.53"], &["::1"]] {
        let words = ["busybox", "nslookup", "origin.test"].iter().chain(server);
        let outcome = lab.presocks(words).proxy(&proxy).run();
        outcome.success().stdout_has("\nAddress: 198.1").stdout_has("\nAddress: fd70:7265:736f:636b:7300:");
    }
    lab.assert_no_leak();
}

#[test]
fn a_stand_in_means_the_same_name_with_and_without_the_shim() {
    if missing(&["curl", "getent", "microsocks"]) {
        return;
    }
    let lab = Lab::new();
    let _web = HttpServer::start(&lab);
    let proxy = Microsocks::open(&lab);
    let script = "
set -e
hooked=$(getent ahostsv4 origin.test | sed 's/ .*//;q')
caught=$(env -i getent ahostsv4 origin.test | sed 's/ .*//;q')
test \"$hooked\" = \"$caught\"
env -i curl -sS http://$hooked/hello
curl -sS http://$caught/hello";
    lab.presocks(["sh", "-c", script]).proxy(&proxy).run().success().stdout_is(http::HELLO.repeat(2));
    lab.assert_no_leak();
}

/// A daemon that caches names, with a socket at which libc asks it before anything else.
const NSCD: &str = "
mkdir -p /run/nscd
exec nscd --foreground --config-file $1";

const NSCD_CONFIGURATION: &str =
    "server-user root\nenable-cache hosts yes\npositive-time-to-live hosts 600\n";

/// What nscd says of its cache of hosts: how often it was asked is among it.
fn asked(lab: &Lab, configuration: &Path) -> String {
    let run = lab
        .bare(["nscd".as_ref(), "--config-file".as_ref(), configuration.as_os_str(), "--statistics".as_ref()])
        .run();
    let (_, hosts) =
        run.success().stdout().split_once("hosts cache:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let hosts = hosts.split("services cache:").next().unwrap().to_owned();
    hosts.lines().filter(|line| line.contains("cache hits") || line.contains("cache misses")).collect()
}

fn nscd(lab: &Lab, configuration: &Path) -> Running {
    let words = ["sh".as_ref(), "-c".as_ref(), NSCD.as_ref(), "nscd".as_ref(), configuration.as_os_str()];
    let daemon = lab.bare(words).start();
    let socket = format!("/proc/{}/root/run/nscd/socket", lab.client.number());
    patience::wait_until("nscd's socket", || Path::new(&socket).exists());
    daemon
}

#[test]
fn a_name_service_cache_is_not_asked() {
    if missing(&["nscd", "getent", "microsocks"]) || missing(Build::Static.needs()) {
        return;
    }
    let lab = Lab::new();
    let _echo = Service::echo(&lab, 7000);
    let proxy = Microsocks::open(&lab);
    let configuration = lab.file("nscd.conf", NSCD_CONFIGURATION);
    let _nscd = nscd(&lab, &configuration);
    let before = asked(&lab, &configuration);
    lab.bare(["getent", "hosts", "localhost"]).run().success();
    let after = asked(&lab, &configuration);
    assert_ne!(before, after, "nscd is asked as a rule");

    for build in [Build::Static, Build::Shared] {
        let probe = build.of(&lab, "probe", &[]);
        for name in ["origin.test", "both.test"] {
            let to = format!("to={name}:7000");
            for before in [&[][..], &["env", "-i"]] {
                let words = before.iter().copied().chain([probe.to_str().unwrap(), &to]);
                let run = lab.presocks(words).proxy(&proxy).run();
                run.success().stdout_is("connect: ok\npeer: the one asked for\n").stderr_is("");
            }
        }
    }
    assert_eq!(asked(&lab, &configuration), after);
    lab.assert_no_leak();
}

/// Takes connections at the sockets of resolvers, and says so.
const RESOLVERS: &str = "
import os, socket, sys
for path in sys.argv[1:]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o777)
    listener.listen()
    if not os.fork():
        while True:
            listener.accept()
            print('asked', path, flush=True)
print('ready', flush=True)
sys.stdin.read()";

const ASK: &str = "
import errno, socket, sys
for path in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    print(errno.errorcode.get(s.connect_ex(path), 'connected'))";

#[test]
fn the_sockets_of_resolvers_on_this_machine_are_refused() {
    if missing(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let resolvers = ["/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket"];
    let mut server = lab
        .bare(["python3", "-c", RESOLVERS].into_iter().chain(resolvers).chain(["/run/other/socket"]))
        .start();
    assert_eq!(server.line(), "ready");
    let paths = resolvers.iter().copied().chain(["/var/run/avahi-daemon/socket", "/run/other/socket"]);
    let ask = || ["python3", "-c", ASK].into_iter().chain(paths.clone());
    lab.bare(ask()).run().success().stdout_is("connected\n".repeat(4));
    for _ in 0..4 {
        assert!(server.line().starts_with("asked "));
    }
    let proxy = "socks5://127.0.0.1:1";
    let words = ["env", "-i"].into_iter().chain(ask());
    let run = || lab.presocks(words.clone()).proxy(&proxy);
    for outcome in [run().run(), run().ordinary_user().run()] {
        outcome.success();
        let said = outcome.stdout();
        let answers: Vec<_> = said.lines().collect();
        assert!(answers[..3].iter().all(|answer| *answer != "connected"), "{}", outcome.report());
        assert_eq!(answers[3], "connected");
        assert_eq!(server.line(), "asked /run/other/socket");
    }
}
