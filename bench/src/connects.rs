//! Sequential blocking connects: presocks against a native SOCKS client, proxychains-ng and no proxy at all.

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping};
use crate::table::{Budget, Row};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, origin, words};

const CONNECTS: usize = 1000;
/// Connects per turn.
const TURN: usize = 25;

/// A row for each reference.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = Real::start(stage)?;
    let far = origin::silent(FAR)?.to_string();
    let near = proxy.address.to_string();
    let plain: &[&str] = &[words::CONNECTS, &far];
    let socks: &[&str] = &[words::CONNECTS, &far, &near];
    let presocks = Wrapping::Presocks(proxy.address);
    let mut workers = vec![
        Worker::start(stage, "presocks", presocks, plain)?,
        Worker::start(stage, "native SOCKS client", Wrapping::Bare, socks)?,
        Worker::start(stage, "no proxy", Wrapping::Bare, plain)?,
    ];
    if stage.has_proxychains() {
        let proxychains = Wrapping::Proxychains(proxy.address);
        workers.insert(1, Worker::start(stage, "proxychains-ng", proxychains, plain)?);
    }
    let connects = stage.amount(CONNECTS, CONNECTS / 5);
    take_turns(&mut workers, connects / TURN, TURN)?;
    let Some((ours, references)) = workers.split_first() else {
        return Ok(Vec::new());
    };
    Ok(references
        .iter()
        .map(|reference| {
            let reference = reference.result();
            Row {
                what: format!("a connect ({connects} in sequence)"),
                presocks: ours.result().1,
                budget: (reference.0 == "proxychains-ng").then_some(Budget::Ratio(1.3)),
                reference: Some(reference),
            }
        })
        .collect())
}
