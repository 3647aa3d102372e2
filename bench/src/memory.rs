//! Memory: of the broker after much work, and of each wrapped process.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping, find};
use crate::table::{Amount, Budget, Row};
use crate::worker::Worker;
use crate::{Outcome, origin, process, system, task};

const CONNECTS: usize = 1000;
const BROKER_MOST: f64 = 6.0 * 1024.0 * 1024.0;
const PROCESS_MOST: f64 = 200.0 * 1024.0;

/// Two rows for the broker, one for a wrapped process.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let mut rows = vec![wrapped_process(stage)?];
    rows.extend(broker(stage)?);
    Ok(rows)
}

fn broker(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = Real::start(stage)?;
    let far = origin::silent(FAR)?.to_string();
    let wrapping = Wrapping::Presocks(proxy.address);
    let mut worker = Worker::start(stage, "names", wrapping, &[task::NAMES, &far])?;
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
    let names = CONNECTS * task::NAMES_PER_CONNECT;
    all.extend(rows(&format!("after {CONNECTS} connects, {names} names"))?);
    Ok(all)
}

/// `sleep`, whose own memory is next to nothing.
fn wrapped_process(stage: &Stage) -> Outcome<Row> {
    // Nobody connects, so nobody need listen.
    let presocks = Wrapping::Presocks(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    Ok(Row {
        what: "private memory of sleep".into(),
        presocks: Amount::Memory(memory_of_sleep(stage, presocks)?),
        reference: Some((
            "bare".into(),
            Amount::Memory(memory_of_sleep(stage, Wrapping::Bare)?),
        )),
        budget: Some(Budget::More(Amount::Memory(PROCESS_MOST))),
    })
}

fn memory_of_sleep(stage: &Stage, wrapping: Wrapping) -> Outcome<f64> {
    let sleep = find("sleep").ok_or("no sleep here")?;
    let mut child = stage
        .command(wrapping, &sleep)?
        .arg("30")
        .stdin(Stdio::null())
        .spawn()?;
    let pid = match wrapping {
        Wrapping::Presocks(_) => process::child_named(child.id(), process::BROKER)
            .and_then(|broker| process::child_named(broker, "sleep")),
        Wrapping::Bare | Wrapping::Proxychains(_) => Ok(child.id()),
    };
    // Until it sleeps.
    thread::sleep(Duration::from_millis(200));
    let memory = pid.as_ref().map_or(Err("no sleep was started".into()), |&pid| {
        process::private_memory(pid)
    });
    match pid {
        // The front ends as its command does.
        Ok(pid) => system::kill(pid)?,
        Err(_) => child.kill()?,
    }
    process::end(&mut child);
    memory
}
