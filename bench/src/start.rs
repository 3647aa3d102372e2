//! Starting a program: with presocks before it each time, and within a session, where only the shim is loaded.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use crate::stage::{Stage, Wrapping};
use crate::table::{Amount, Budget, Row, median};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, process, words};

const PROGRAM: &str = "/bin/true";
/// Nobody connects, so nobody need listen.
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const PRESOCKS: Wrapping = Wrapping::Presocks(PROXY);
const PROXYCHAINS: Wrapping = Wrapping::Proxychains(PROXY);
/// Starts per turn.
const TURN: usize = 10;

/// A row for each reference, first with the wrapper's own start, then without.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let mut rows = whole(stage)?;
    rows.extend(within(stage)?);
    Ok(rows)
}

/// The wrapper and the program.
fn whole(stage: &Stage) -> Outcome<Vec<Row>> {
    let mut contestants = vec![("presocks", PRESOCKS, Vec::new()), ("bare", Wrapping::Bare, Vec::new())];
    if stage.has_proxychains() {
        contestants.push(("proxychains-ng", PROXYCHAINS, Vec::new()));
    }
    for _ in 0..stage.amount(200, 30) {
        for (_, wrapping, samples) in &mut contestants {
            let mut command = stage.command(*wrapping, Path::new(PROGRAM))?;
            command.stdin(Stdio::null());
            let started = Instant::now();
            let status = command.status()?;
            samples.push(started.elapsed().as_secs_f64());
            process::reap_brokers();
            if !status.success() {
                return Err(format!("{PROGRAM}: {status}").into());
            }
        }
    }
    let amounts: Vec<_> = contestants
        .iter()
        .map(|(name, _, samples)| ((*name).to_owned(), Amount::Time(median(samples))))
        .collect();
    Ok(against("start of presocks and true", &amounts, Amount::Time(0.005)))
}

/// The program alone, from a worker that has been wrapped: what the preloaded library adds.
fn within(stage: &Stage) -> Outcome<Vec<Row>> {
    let task: &[&str] = &[words::START, PROGRAM];
    let mut workers = vec![
        Worker::start(stage, "presocks", PRESOCKS, task)?,
        Worker::start(stage, "bare", Wrapping::Bare, task)?,
    ];
    if stage.has_proxychains() {
        workers.push(Worker::start(stage, "proxychains-ng", PROXYCHAINS, task)?);
    }
    take_turns(&mut workers, stage.amount(60, 10), TURN)?;
    let amounts: Vec<_> = workers.iter().map(Worker::result).collect();
    Ok(against("start of true within a session", &amounts, Amount::Time(0.001)))
}

fn against(what: &str, amounts: &[(String, Amount)], budget_over_bare: Amount) -> Vec<Row> {
    let Some(((_, ours), references)) = amounts.split_first() else {
        return Vec::new();
    };
    references
        .iter()
        .map(|reference| Row {
            what: what.to_owned(),
            presocks: *ours,
            reference: Some(reference.clone()),
            budget: (reference.0 == "bare").then_some(Budget::More(budget_over_bare)),
        })
        .collect()
}
