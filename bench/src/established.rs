//! One byte there and back on a connection that has long been made: is anything of presocks on the path?
//!
//! The far end is the scripted proxy itself, for all contestants, so all talk to the same thread over the same kind of socket. All of it
//! happens on one processor: where the kernel puts a process makes more of a difference than what is measured.

use std::net::SocketAddr;
use std::time::Duration;

use crate::stage::{FAR, Stage, Wrapping};
use crate::system::Pinned;
use crate::table::{Amount, Budget, Row, median};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, proxy, words};

const ROUND_TRIPS: usize = 200_000;
/// Round trips per turn.
const TURN: usize = 1000;
/// Pairs of workers, one after the other: what one has in which cache makes a difference, too.
const PAIRS: usize = 5;
const WAYS: [(&str, &str); 3] =
    [("plain", "send, recv"), ("poll", "send, poll, recv"), ("epoll", "send, epoll_wait, recv")];

/// A row for each way to wait, with the seccomp filter and without.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let _pinned = Pinned::to_one_processor()?;
    let proxy = proxy::scripted(Duration::ZERO)?;
    let far = SocketAddr::from((FAR, 80)).to_string();
    let near = proxy.to_string();
    let round_trips = stage.amount(ROUND_TRIPS, ROUND_TRIPS / 10);
    let mut rows = Vec::new();
    for (way, calls) in WAYS {
        let plain: &[&str] = &[words::PING, way, &far];
        let socks: &[&str] = &[words::PING, way, &far, &near];
        let (mut caught, mut ours, mut native) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            let mut workers = [
                Worker::start(stage, "presocks", Wrapping::Presocks(proxy), plain)?,
                Worker::start(stage, "without the backstop", Wrapping::WithoutBackstop(proxy), plain)?,
                Worker::start(stage, "bare", Wrapping::Bare, socks)?,
            ];
            take_turns(&mut workers, round_trips / TURN / PAIRS, TURN)?;
            let [backstop, wrapped, bare] = workers;
            caught.extend_from_slice(backstop.samples());
            ours.extend_from_slice(wrapped.samples());
            native.extend_from_slice(bare.samples());
        }
        for (how, samples, budget) in [("", caught, 1.05), (", no backstop", ours, 1.02)] {
            rows.push(Row {
                what: format!("a round trip: {calls}{how}"),
                presocks: Amount::Time(median(&samples)),
                reference: Some(("bare".into(), Amount::Time(median(&native)))),
                budget: Some(Budget::Ratio(budget)),
            });
        }
    }
    Ok(rows)
}
