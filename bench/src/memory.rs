//! Memory: of the broker after much work, and of each wrapped process.
//!
//! Private memory is measured while a second process like it runs, so that the pages of the library's file, which all wrapped
//! processes share, do not count as those of one.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping, find};
use crate::table::{Amount, Budget, Row};
use crate::worker::Worker;
use crate::{Outcome, origin, process, system, words};

const CONNECTS: usize = 1000;
const BROKER_MOST: f64 = 6.0 * 1024.0 * 1024.0;
const PROCESS_MOST: f64 = 200.0 * 1024.0;

/// Rows for wrapped processes, then for the broker.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let mut rows = vec![idle(stage)?];
    rows.push(busy(stage)?);
    rows.extend(broker(stage)?);
    Ok(rows)
}

fn broker(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = Real::start(stage)?;
    let far = origin::silent(FAR)?.to_string();
    let wrapping = Wrapping::Presocks(proxy.address);
    let mut worker = Worker::start(stage, "names", wrapping, &[words::NAMES, &far])?;
    // It is at work once it answers.
    worker.ask(1)?;
    let broker = process::child_named(worker.pid(), process::BROKER)?;
    let rows = |when: &str| -> Outcome<Vec<Row>> {
        ["VmRSS", "RssAnon"]
            .into_iter()
            .map(|key| {
                Ok(Row {
                    what: format!("broker's {key}, {when}"),
                    presocks: Amount::Memory(process::status(broker, key)?),
                    reference: None,
                    budget: (key == "VmRSS").then_some(Budget::Most(Amount::Memory(BROKER_MOST))),
                })
            })
            .collect()
    };
    let mut all = rows("at first")?;
    worker.ask(CONNECTS)?;
    let names = CONNECTS * words::NAMES_PER_CONNECT;
    all.extend(rows(&format!("after {CONNECTS} connects, {names} names"))?);
    Ok(all)
}

/// `sleep`, whose own memory is next to nothing.
fn idle(stage: &Stage) -> Outcome<Row> {
    // Nobody connects, so nobody need listen.
    let presocks = Wrapping::Presocks(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let memory = |wrapping| -> Outcome<Amount> {
        let _twin = Sleeper::start(stage, wrapping)?;
        let measured = Sleeper::start(stage, wrapping)?;
        // Until both sleep.
        thread::sleep(Duration::from_millis(200));
        Ok(Amount::Memory(process::private_memory(measured.pid)?))
    };
    Ok(Row {
        what: "private memory of sleep".into(),
        presocks: memory(presocks)?,
        reference: Some(("bare".into(), memory(Wrapping::Bare)?)),
        budget: Some(Budget::More(Amount::Memory(PROCESS_MOST))),
    })
}

/// A process that has connected often.
fn busy(stage: &Stage) -> Outcome<Row> {
    let proxy = Real::start(stage)?;
    let far = origin::silent(FAR)?.to_string();
    let near = proxy.address.to_string();
    let memory = |wrapping, task: &[&str]| -> Outcome<Amount> {
        let mut twins = [
            Worker::start(stage, "connects", wrapping, task)?,
            Worker::start(stage, "connects", wrapping, task)?,
        ];
        for twin in &mut twins {
            twin.ask(CONNECTS)?;
        }
        let [_, measured] = &twins;
        let name = stage.this().file_name().unwrap_or_default().to_string_lossy();
        let pid = wrapped(measured.pid(), wrapping, &name)?;
        Ok(Amount::Memory(process::private_memory(pid)?))
    };
    let presocks = Wrapping::Presocks(proxy.address);
    let ours = memory(presocks, &[words::CONNECTS, &far])?;
    let native = memory(Wrapping::Bare, &[words::CONNECTS, &far, &near])?;
    Ok(Row {
        what: format!("private memory after {CONNECTS} connects"),
        presocks: ours,
        reference: Some(("native SOCKS client".into(), native)),
        budget: Some(Budget::More(Amount::Memory(PROCESS_MOST))),
    })
}

/// The wrapped process itself, below the one that was started.
fn wrapped(started: u32, wrapping: Wrapping, name: &str) -> Outcome<u32> {
    match wrapping {
        Wrapping::Presocks(_) | Wrapping::WithoutBackstop(_) | Wrapping::PresocksChain(_) => {
            process::child_named(process::child_named(started, process::BROKER)?, name)
        }
        Wrapping::Bare | Wrapping::Proxychains(_) | Wrapping::ProxychainsChain(_) => Ok(started),
    }
}

/// A `sleep` that ends when dropped.
struct Sleeper {
    child: Child,
    /// Of `sleep` itself.
    pid: u32,
}

impl Sleeper {
    fn start(stage: &Stage, wrapping: Wrapping) -> Outcome<Self> {
        let sleep = find("sleep").ok_or("no sleep here")?;
        let mut child = stage.command(wrapping, &sleep)?.arg("30").stdin(Stdio::null()).spawn()?;
        match wrapped(child.id(), wrapping, "sleep") {
            Ok(pid) => Ok(Self { child, pid }),
            Err(error) => {
                child.kill()?;
                process::end(&mut child);
                Err(error)
            }
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // The front ends as its command does.
        let _ = system::kill(self.pid);
        process::end(&mut self.child);
    }
}
