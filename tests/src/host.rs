//! One host: network, mount, process-number and host-name namespaces, alive as long as its first process.
//!
//! The first process is a shell that waits for its standard input to end. That is the whole clean-up: when the test
//! drops the host, fails or is killed, the pipe closes, the shell ends, the kernel kills every process of the host
//! and removes its interfaces. Nothing is named in any place that others share.

use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::namespaces::Namespaces;
use crate::requirement::PATH;

/// Files of `$1` replace those in /etc, /run and /dev/shm are empty, loopback is up; then the shell tells its number and waits.
///
/// It is bash because bash, as the first process, reaps the orphans that the host's programs leave.
const BOOT: &str = r#"
set -e
read -r pid _ < /proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/sshd /run/vsftpd/empty /run/lock
for file in "$1"/*; do
    place=$(readlink -m "/etc/${file##*/}")
    [ -e "$place" ] || { mkdir -p "${place%/*}"; : > "$place"; }
    mount --bind "$file" "$place"
done
hostname "$2"
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits
echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitations
echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra
echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode
ip link set lo up
echo "$pid"
while read -r _; do :; done
"#;

/// A host of the lab; everything in it dies when this is dropped.
#[derive(Debug)]
pub struct Host {
    name: &'static str,
    first_process: Option<Child>,
    number: Pid,
    namespaces: Namespaces,
    _boot_output: BufReader<ChildStdout>,
}

impl Host {
    /// Boots a host whose /etc has the files of the directory `etc` in place of the machine's.
    #[must_use]
    pub(crate) fn boot(name: &'static str, etc: &Path) -> Self {
        let mut messages = tempfile::tempfile().expect("a temporary file");
        let mut first_process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--uts",
                "--fork",
                "--kill-child",
            ])
            .args(["bash", "-c", BOOT, "boot"])
            .arg(etc)
            .arg(name)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(messages.try_clone().expect("share a temporary file"))
            .spawn()
            .expect("start unshare");
        let mut output = BufReader::new(first_process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("read from a booting host");
        let number = line.trim().parse().ok().and_then(Pid::from_raw);
        let number = number.unwrap_or_else(|| {
            let mut said = String::new();
            messages
                .rewind()
                .and_then(|()| messages.read_to_string(&mut said))
                .expect("read a temporary file");
            panic!("host {name} did not boot:\n{said}")
        });
        Self {
            name,
            first_process: Some(first_process),
            number,
            namespaces: Namespaces::of(number),
            _boot_output: output,
        }
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The process number, as seen from outside, of the host's first process.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number.as_raw_nonzero().get().unsigned_abs()
    }

    /// Runs `work` on a thread inside the host's network: sockets made there belong to the host for good.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespaces.run_inside(work)
    }

    /// A way into the host's network that threads can keep; it does not keep the host alive.
    #[must_use]
    pub fn door(&self) -> Door {
        Door(self.namespaces.clone())
    }

    /// Starts a command on this host.
    pub fn spawn(&self, command: &mut Command) -> Child {
        self.namespaces.spawn(command, false)
    }

    /// Starts a command on this host with its standard input as its controlling terminal.
    pub fn spawn_on_terminal(&self, command: &mut Command) -> Child {
        self.namespaces.spawn(command, true)
    }

    /// Runs a setup command to its end, feeding it `input`, and returns what it printed; panics when it fails.
    ///
    /// It is in the host's network only: it sees the machine's files and process numbers.
    pub fn setup(&self, argv: &[&str], input: &str) -> String {
        let mut script = tempfile::tempfile().expect("a temporary file");
        script.write_all(input.as_bytes()).expect("write a temporary file");
        script.rewind().expect("rewind a temporary file");
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).env_clear().env("PATH", PATH).stdin(script);
        let output = self.inside(|| command.output()).expect("run a setup command");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{argv:?} on {}: {}\n{stdout}{stderr}\ninput was:\n{input}",
            self.name,
            output.status
        );
        stdout.into_owned()
    }

    /// The processes of this host whose command line begins with `words`, by their numbers as seen from outside.
    #[must_use]
    pub fn processes(&self, words: &str) -> Vec<u32> {
        let here = std::fs::read_link(format!("/proc/{}/ns/pid", self.number())).expect("the host lives");
        let numbers = std::fs::read_dir("/proc").expect("read /proc").filter_map(|entry| {
            let number: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let namespace = std::fs::read_link(format!("/proc/{number}/ns/pid")).ok()?;
            let command_line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&command_line).replace('\0', " ");
            (namespace == here && line.starts_with(words)).then_some(number)
        });
        numbers.collect()
    }
}

/// A way into a host's network, see [`Host::door`].
#[derive(Clone, Debug)]
pub struct Door(Namespaces);

impl Door {
    /// See [`Host::inside`].
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.run_inside(work)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(mut first_process) = self.first_process.take() else {
            return;
        };
        drop(first_process.stdin.take());
        let _ = kill_process(self.number, Signal::KILL);
        // Everything in the host is dead now, but the kernel lets the first process go only when every child that
        // the test started has been waited for, which may come later: an owner dropped after the lab.
        let begun = Instant::now();
        while matches!(first_process.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(1) {
                thread::spawn(move || first_process.wait());
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
