//! Calls that stay on this machine: Unix datagrams, syslog(3), what is asked of the kernel by netlink, local names. None of them is
//! the broker's business, though the seccomp filter sees most of them.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::measure::{answer, mean};
use crate::proxy::Real;
use crate::stage::{Stage, Wrapping};
use crate::system;
use crate::table::{Amount, Budget, Row, median};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, words};

const CALLS: usize = 20_000;
/// Pairs of workers: see `established`.
const PAIRS: usize = 5;
const TURNS: usize = 8;
/// Of calls that do not go by the broker.
const MOST: f64 = 1.3;

const DATAGRAM: &str = "datagram";
const SYSLOG: &str = "syslog";
const NETLINK: &str = "netlink";
const ADDRESSES: &str = "addresses";
const NAMES: &str = "names";
const NUMERIC: &str = "numeric";
const LOCALHOST: &str = "localhost";
const NOBODY: &str = "nobody";

const CALLS_BY_NAME: [(&str, &str); 8] = [
    (DATAGRAM, "a datagram to a Unix socket, as sd_notify(3) sends it"),
    (SYSLOG, "syslog(3)"),
    (NETLINK, "a question by netlink: sendto, recvmsg"),
    (ADDRESSES, "getifaddrs(3)"),
    (NAMES, "if_nameindex(3)"),
    (NUMERIC, "getaddrinfo(3) of 192.0.2.1, without hints"),
    (LOCALHOST, "getaddrinfo(3) of localhost, without hints"),
    (NOBODY, "getaddrinfo(3) without a node, without hints"),
];

/// A row for each call.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = Real::start(stage)?;
    let mut rows = Vec::new();
    for (call, what) in CALLS_BY_NAME {
        let directory = stage.directory().to_string_lossy();
        let words: &[&str] = &[words::LOCAL, call, &directory];
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            let mut workers = [
                Worker::start(stage, "presocks", Wrapping::Presocks(proxy.address), words)?,
                Worker::start(stage, "bare", Wrapping::Bare, words)?,
            ];
            take_turns(&mut workers, TURNS, stage.amount(CALLS, CALLS / 10) / PAIRS / TURNS)?;
            let [wrapped, alone] = workers;
            ours.extend_from_slice(wrapped.samples());
            bare.extend_from_slice(alone.samples());
        }
        rows.push(Row {
            what: what.to_owned(),
            presocks: Amount::Time(median(&ours)),
            reference: Some(("bare".into(), Amount::Time(median(&bare)))),
            budget: Some(Budget::Ratio(MOST)),
        });
    }
    Ok(rows)
}

/// The worker's side: [`words::LOCAL`].
///
/// # Errors
/// The first failure.
pub(crate) fn run(call: &str, directory: &str) -> Outcome<()> {
    match call {
        DATAGRAM => {
            let path = Path::new(directory).join(format!("datagrams-{}", std::process::id()));
            let service = UnixDatagram::bind(&path)?;
            answer(mean(|| {
                UnixDatagram::unbound()?.send_to(b"READY=1", &path)?;
                service.recv(&mut [0; 16]).map(drop)
            }))
        }
        SYSLOG => {
            system::own_devices()?;
            let service = UnixDatagram::bind("/dev/log")?;
            answer(mean(|| {
                system::log();
                service.recv(&mut [0; 256]).map(drop)
            }))
        }
        NETLINK => {
            let socket = system::netlink()?;
            answer(mean(|| system::ask_about_loopback(&socket)))
        }
        ADDRESSES => answer(mean(system::addresses)),
        NAMES => answer(mean(system::names)),
        NUMERIC => answer(mean(|| system::look_up(Some(c"192.0.2.1")))),
        LOCALHOST => answer(mean(|| system::look_up(Some(c"localhost")))),
        NOBODY => answer(mean(|| system::look_up(None))),
        _ => Err("not a call".into()),
    }
}
