//! What the seccomp filter costs: calls that it lets pass, calls that go by the broker, and a connect that only the filter sees.

use std::path::Path;

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping, find};
use crate::table::{Amount, Row, median};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, origin, words};

const CALLS: usize = 400_000;
/// Of those that go by the broker.
const CAUGHT_CALLS: usize = 20_000;
/// Pairs of workers: see `established`.
const PAIRS: usize = 5;
const TURNS: usize = 8;

const CONNECTS: usize = 1000;
/// Connects per turn.
const TURN: usize = 25;

/// A row for each kind of call.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = Real::start(stage)?;
    let presocks = Wrapping::Presocks(proxy.address);
    let mut rows = Vec::new();
    for (what, call, count) in [
        ("a call that the filter lets pass (getppid)", words::FREE, CALLS),
        ("a caught call that goes on (connect, Unix)", words::CAUGHT, CAUGHT_CALLS),
    ] {
        let words: &[&str] = &[words::CALLS, call];
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            let mut workers = [
                Worker::start(stage, "presocks", presocks, words)?,
                Worker::start(stage, "bare", Wrapping::Bare, words)?,
            ];
            take_turns(&mut workers, TURNS, stage.amount(count, count / 10) / PAIRS / TURNS)?;
            let [wrapped, alone] = workers;
            ours.extend_from_slice(wrapped.samples());
            bare.extend_from_slice(alone.samples());
        }
        rows.push(Row {
            what: what.to_owned(),
            presocks: Amount::Time(median(&ours)),
            reference: Some(("bare".into(), Amount::Time(median(&bare)))),
            budget: None,
        });
    }
    rows.push(connects(stage, presocks)?);
    Ok(rows)
}

/// Without LD_PRELOAD the filter alone sees the connect.
fn connects(stage: &Stage, presocks: Wrapping) -> Outcome<Row> {
    let far = origin::silent(FAR)?.to_string();
    let words: &[&str] = &[words::CONNECTS, &far];
    let env = find("env").ok_or("no env here")?;
    let mut unseen = stage.command(presocks, Path::new(&env))?;
    unseen.args(["-u", "LD_PRELOAD"]).arg(stage.this()).arg(words::FLAG).args(words);
    let mut workers =
        [Worker::spawn("caught", &mut unseen)?, Worker::start(stage, "seen by the shim", presocks, words)?];
    let connects = stage.amount(CONNECTS, CONNECTS / 5);
    take_turns(&mut workers, connects / TURN, TURN)?;
    let [caught, hooked] = workers;
    Ok(Row {
        what: format!("a connect that the shim does not see ({connects})"),
        presocks: caught.result().1,
        reference: Some(hooked.result()),
        budget: None,
    })
}
