//! The stage on which the C programs of `tests/programs` play: a lab with an echo service, a service that speaks first,
//! and an address whose connections can be held back.
//!
//! Holding back needs no timer and no hostile proxy: the origin answers no ARP for that address, so while the proxy
//! host's neighbour entry is missing a SYN waits in the kernel's queue, and putting the entry back sends it at once.
//! Programs ask for it over a Unix socket ("hold", "release"), bare on the proxy host and wrapped on the client alike.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use presocks_tests::host::Door;
use presocks_tests::lab::{ORIGIN, ORIGIN6, REFUSED_PORT};
use presocks_tests::origin::Service;
use presocks_tests::proxy::Microsocks;
use presocks_tests::{Invocation, Lab, missing};

use super::program::command;

/// Where the echo service listens.
pub(crate) const ECHO_PORT: u16 = 7000;

/// An address of the origin that is reachable only while nobody holds it.
const HELD: &str = "10.88.0.3";
const ORIGIN_HARDWARE: &str = "02:00:00:00:88:02";

/// What a service that speaks first says.
const BANNER: &[u8] = b"220 hello\r\n";

/// A name that only the far side knows, with an address of either family, and first of those addresses' names there.
const FAR_NAME: &str = "far.test";

/// A name that every host's /etc/hosts has.
const LOCAL_NAME: &str = "printer.lan";
const LOCAL_ADDRESS: &str = "192.0.2.77";

/// A lab made ready for the programs.
///
/// Its fields end in this order: the proxy must go before its host does.
pub(crate) struct Stage {
    pub(crate) proxy: Microsocks,
    _echo: Service,
    banner: Service,
    pub(crate) lab: Lab,
}

impl Stage {
    /// Sets the stage, or says why it cannot be.
    pub(crate) fn set() -> Option<Self> {
        if missing(&["cc", "python3", "microsocks"]) {
            return None;
        }
        let lab = Lab::new();
        let stage = Self {
            proxy: Microsocks::open(&lab),
            _echo: Service::echo(&lab, ECHO_PORT),
            banner: Service::banner_first(&lab, 0, BANNER),
            lab,
        };
        stage.add_names();
        stage.add_held_address();
        stage.serve_control_socket();
        Some(stage)
    }

    /// The program on the proxy host, next to the origin, without presocks.
    pub(crate) fn run_bare(&self, name: &str, more: &[&str]) -> Output {
        let words = command(&self.lab, name);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(self.arguments())
            .args(more)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.lab.proxy.spawn(&mut command);
        child.wait_with_output().expect("wait for a program")
    }

    /// The program on the client, under presocks, not yet started.
    pub(crate) fn wrapped(&self, name: &str, proxy: &str, more: &[&str]) -> Invocation<'_> {
        let words = command(&self.lab, name)
            .into_iter()
            .chain(self.arguments())
            .chain(more.iter().map(OsString::from));
        self.lab.presocks(words).proxy(&proxy)
    }

    /// What every program is told.
    fn arguments(&self) -> Vec<OsString> {
        let refused = REFUSED_PORT;
        let mut arguments: Vec<OsString> = [
            format!("open={ORIGIN}:{ECHO_PORT}"),
            format!("open6=[{ORIGIN6}]:{ECHO_PORT}"),
            format!("refused={ORIGIN}:{refused}"),
            format!("refused6=[{ORIGIN6}]:{refused}"),
            format!("banner={ORIGIN}:{}", self.banner.port()),
            format!("held={HELD}:{ECHO_PORT}"),
            format!("heldrefused={HELD}:{refused}"),
            format!("name={FAR_NAME}"),
            format!("local={LOCAL_NAME}"),
            format!("localaddress={LOCAL_ADDRESS}"),
        ]
        .map(OsString::from)
        .into();
        let mut control = OsString::from("control=");
        control.push(self.control_path());
        arguments.push(control);
        arguments
    }

    fn control_path(&self) -> PathBuf {
        self.lab.directory().join("control")
    }

    /// Writes into the files that the hosts have bound to /etc/hosts: far names first, the local one everywhere.
    fn add_names(&self) {
        let far = format!("{ORIGIN} {FAR_NAME}\n{ORIGIN6} {FAR_NAME}\n");
        for (host, more) in [("client", ""), ("proxy", far.as_str())] {
            let path = self.lab.directory().join(format!("etc-{host}/hosts"));
            let known = fs::read_to_string(&path).expect("read a host's names");
            fs::write(&path, format!("{more}{known}{LOCAL_ADDRESS} {LOCAL_NAME}\n"))
                .expect("write a host's names");
        }
    }

    fn add_held_address(&self) {
        self.lab.origin.setup(
            &["sh", "-e"],
            &format!(
                "echo 8 > /proc/sys/net/ipv4/conf/cable/arp_ignore
                 ip address add {HELD}/24 dev cable
                "
            ),
        );
        self.lab
            .proxy
            .setup(&["sh", "-e"], "echo 100000 > /proc/sys/net/ipv4/neigh/to-origin/mcast_solicit\n");
        release(&self.lab.proxy.door());
    }

    fn serve_control_socket(&self) {
        let listener = UnixListener::bind(self.control_path()).expect("a control socket");
        let door = self.lab.proxy.door();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut command = String::new();
                let answer = match client.read_to_string(&mut command).map(|_| command.as_str()) {
                    Ok("hold") => hold(&door),
                    Ok("release") => release(&door),
                    _ => "unknown",
                };
                // A program that has gone meanwhile misses no answer.
                drop(client.write_all(answer.as_bytes()));
            }
        });
    }
}

fn hold(door: &Door) -> &'static str {
    // Fails when it is held already, which is what was wanted.
    neighbour(door, &["del", HELD, "dev", "to-origin"]);
    "ok"
}

fn release(door: &Door) -> &'static str {
    let entry = ["replace", HELD, "lladdr", ORIGIN_HARDWARE, "dev", "to-origin", "nud", "permanent"];
    if neighbour(door, &entry) { "ok" } else { "failed" }
}

fn neighbour(door: &Door, words: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.arg("neighbour").args(words).stderr(Stdio::null());
    door.inside(|| command.status()).is_ok_and(|status| status.success())
}
