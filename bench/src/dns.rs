//! The broker's own name server: how long a wrapped program waits for an answer, and how many it gets in a second.
//!
//! No name server is anywhere, and no proxy is asked: all that the worker in `queries` gets is made in the broker. The base line is
//! the same datagrams sent back by a thread of the bench, to a worker that is not wrapped. All of it happens on one processor, as in
//! `established`, so a broker that has another to itself gives more answers than this.

use std::time::Duration;

use crate::stage::{Stage, Wrapping};
use crate::system::Pinned;
use crate::table::{Amount, Row, median};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, origin, proxy, words};

/// Queries per turn: whole flights.
const TURN: usize = 512;
const TURNS: usize = 80;
/// Sets of workers, one after the other: see `established`. Each asks for new names only, of which its broker has room for some
/// 130,000.
const SETS: usize = 4;

/// Nobody is there, but any server will do.
const SERVER: &str = "192.0.2.53:53";

/// For each way to ask two rows: the time that an answer takes, and answers per second.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let _pinned = Pinned::to_one_processor()?;
    let presocks = Wrapping::Presocks(proxy::scripted(Duration::ZERO)?);
    let echo = origin::echo()?.to_string();
    let contestants: [(&str, Wrapping, &[&str]); 6] = [
        ("queries over UDP", presocks, &[words::QUERIES, words::ALONE, SERVER]),
        ("queries in flight over UDP", presocks, &[words::QUERIES, words::FLIGHT, SERVER]),
        ("queries in flight over TCP", presocks, &[words::QUERIES, words::STREAM, SERVER]),
        ("getaddrinfo", presocks, &[words::LOOK_UPS]),
        ("a bare echo", Wrapping::Bare, &[words::QUERIES, words::ALONE, &echo, words::ECHO]),
        ("a bare echo in flight", Wrapping::Bare, &[words::QUERIES, words::FLIGHT, &echo, words::ECHO]),
    ];
    let mut samples = contestants.map(|_| Vec::new());
    for _ in 0..SETS {
        let mut workers = Vec::new();
        for (name, wrapping, words) in contestants {
            workers.push(Worker::start(stage, name, wrapping, words)?);
        }
        take_turns(&mut workers, stage.amount(TURNS, TURNS / 10) / SETS, TURN)?;
        for (kept, worker) in samples.iter_mut().zip(&workers) {
            kept.extend_from_slice(worker.samples());
        }
    }
    let [alone, flight, stream, look_ups, echo, echoes] = samples.map(|samples| median(&samples));
    let ways = [
        ("a DNS query there and back: sendto, recvfrom", alone, "a bare echo", echo),
        ("one of 32 DNS queries in flight over UDP", flight, "a bare echo, 32 in flight", echoes),
        ("one of 32 DNS queries in flight over TCP", stream, "presocks, over UDP", flight),
        ("a name by getaddrinfo", look_ups, "presocks, by sendto, recvfrom", alone),
    ];
    Ok(ways.into_iter().flat_map(|(what, ours, name, theirs)| way(what, ours, name, theirs)).collect())
}

fn way(what: &str, ours: f64, name: &str, theirs: f64) -> [Row; 2] {
    let row = |presocks, reference| Row {
        what: what.to_owned(),
        presocks,
        reference: Some(reference),
        budget: None,
    };
    [
        row(Amount::Time(ours), (name.to_owned(), Amount::Time(theirs))),
        row(Amount::Rate(ours.recip()), (name.to_owned(), Amount::Rate(theirs.recip()))),
    ]
}
