//! Datagrams: presocks against none, and against a program that speaks SOCKS itself, through the same proxy, which is ours.
//!
//! The work of the contestants is in `datagrams`.

use std::net::SocketAddrV4;

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping};
use crate::system::Pinned;
use crate::table::{Amount, Row, median};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, origin, process, words};

const ROUND_TRIPS: usize = 40_000;
/// Round trips per turn.
const TURN: usize = 500;
/// Pairs of workers, one after the other: see `established`.
const PAIRS: usize = 4;

const SOCKETS: usize = 200;
/// New sockets per turn.
const SOCKETS_PER_TURN: usize = 10;

/// Ports of the far end; each has all addresses of its network, so there are this many times 250 destinations.
const PORTS: usize = 16;
pub(crate) const DESTINATIONS: usize = 4000;

/// What is done with datagrams, the contestants' word for it, and how many of them there can be.
const WAYS: [(&str, &str, usize); 5] = [
    ("a datagram there and back: send, recv", words::PEER, ROUND_TRIPS),
    ("a datagram there and back: sendto, recvfrom", words::ANYBODY, ROUND_TRIPS),
    ("a datagram of 32 in flight", words::FLIGHT, ROUND_TRIPS),
    ("one of 32, to 4000 destinations by one socket", words::MANY, ROUND_TRIPS),
    ("one of 32, each to a new destination", words::NEW, DESTINATIONS),
];

/// Rows for datagrams, for new sockets, and for the broker's memory.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = Real::ours(stage)?;
    let far = origin::datagrams(PORTS)?.to_string();
    let near = proxy.address.to_string();
    let presocks = Wrapping::Presocks(proxy.address);
    let mut rows = Vec::new();
    for (what, way, most) in WAYS {
        let contestants: [(&str, Wrapping, &[&str]); 3] = [
            ("presocks", presocks, &[words::DATAGRAMS, way, &far]),
            ("native SOCKS client", Wrapping::Bare, &[words::DATAGRAMS, way, &far, &near]),
            ("no proxy", Wrapping::Bare, &[words::DATAGRAMS, way, &far]),
        ];
        // Where the kernel puts four processes makes more of a difference than what they do.
        let pinned = Pinned::to_one_processor()?;
        let round_trips = stage.amount(ROUND_TRIPS, ROUND_TRIPS / 10).min(most);
        let mut samples = contestants.map(|_| Vec::new());
        for _ in 0..PAIRS {
            let mut workers = Vec::new();
            for (name, wrapping, words) in contestants {
                workers.push(Worker::start(stage, name, wrapping, words)?);
            }
            take_turns(&mut workers, round_trips / TURN / PAIRS, TURN)?;
            for (kept, worker) in samples.iter_mut().zip(&workers) {
                kept.extend_from_slice(worker.samples());
            }
        }
        drop(pinned);
        let [ours, native, none] = samples.map(|samples| Amount::Time(median(&samples)));
        for (name, amount) in [("native SOCKS client", native), ("no proxy", none)] {
            rows.push(Row {
                what: what.to_owned(),
                presocks: ours,
                reference: Some((name.to_owned(), amount)),
                budget: None,
            });
        }
    }
    rows.push(sockets(stage, presocks, &far, &near)?);
    rows.extend(memory(stage, presocks, &far)?);
    Ok(rows)
}

/// The first datagram of a socket, there and back.
fn sockets(stage: &Stage, presocks: Wrapping, far: &str, near: &str) -> Outcome<Row> {
    let mut workers = [
        Worker::start(stage, "presocks", presocks, &[words::DATAGRAMS, words::SOCKETS, far])?,
        Worker::start(
            stage,
            "native SOCKS client",
            Wrapping::Bare,
            &[words::DATAGRAMS, words::SOCKETS, far, near],
        )?,
    ];
    let sockets = stage.amount(SOCKETS, SOCKETS / 5);
    take_turns(&mut workers, sockets / SOCKETS_PER_TURN, SOCKETS_PER_TURN)?;
    let [ours, native] = workers;
    Ok(Row {
        what: format!("a new socket's first datagram ({sockets} in sequence)"),
        presocks: ours.result().1,
        reference: Some(native.result()),
        budget: None,
    })
}

/// What the broker keeps for a destination, and for a socket.
fn memory(stage: &Stage, presocks: Wrapping, far: &str) -> Outcome<Vec<Row>> {
    let per = |what: &str, way: &str, first: usize, count: usize| -> Outcome<Row> {
        let mut worker = Worker::start(stage, "flows", presocks, &[words::DATAGRAMS, way, far])?;
        worker.ask(first)?;
        let broker = process::child_named(worker.pid(), process::BROKER)?;
        let before = process::status(broker, "RssAnon")?;
        worker.ask(count)?;
        let more = process::status(broker, "RssAnon")? - before;
        Ok(Row {
            what: format!("broker's memory for each of {count} {what}"),
            presocks: Amount::Memory(more / count as f64),
            reference: None,
            budget: None,
        })
    };
    Ok(vec![
        per("destinations of one socket", words::NEW, 1, DESTINATIONS)?,
        per("sockets with one destination", words::KEPT_SOCKETS, 10, SOCKETS)?,
    ])
}

/// The destinations that a far end has which begins at `FAR` and this port: the addresses of its network, on each port.
pub(crate) fn destination(first: SocketAddrV4, number: usize) -> SocketAddrV4 {
    const ADDRESSES: usize = DESTINATIONS / PORTS;
    let [a, b, c, _] = FAR.octets();
    let last = u8::try_from(number % ADDRESSES + 1).unwrap_or(1);
    let port = u16::try_from(number / ADDRESSES % PORTS).unwrap_or_default();
    SocketAddrV4::new([a, b, c, last].into(), first.port().saturating_add(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_as_many_destinations_as_said() {
        let first = SocketAddrV4::new(FAR, 1000);
        let all: BTreeSet<_> = (0..2 * DESTINATIONS).map(|number| destination(first, number)).collect();
        assert_eq!(all.len(), DESTINATIONS);
        assert!(all.iter().all(|place| (1000..1016).contains(&place.port()) && place.ip().octets()[3] != 0));
    }
}
