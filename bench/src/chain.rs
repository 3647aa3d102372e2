//! Connects through three proxies, one after the other: presocks against proxychains-ng, and against one proxy alone.

use crate::proxy::Real;
use crate::stage::{FAR, HOPS, Stage, Wrapping};
use crate::table::{Budget, Row};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, origin, words};

const CONNECTS: usize = 600;
/// Connects per turn.
const TURN: usize = 20;

/// A row for each reference.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxies: [Real; HOPS] = Real::start_many(stage)?;
    let addresses = proxies.each_ref().map(|proxy| proxy.address);
    let [first, ..] = addresses;
    let far = origin::silent(FAR)?.to_string();
    let words: &[&str] = &[words::CONNECTS, &far];
    let mut workers = vec![
        Worker::start(stage, "presocks", Wrapping::PresocksChain(addresses), words)?,
        Worker::start(stage, "presocks, one proxy", Wrapping::Presocks(first), words)?,
    ];
    if stage.has_proxychains() {
        let proxychains = Wrapping::ProxychainsChain(addresses);
        workers.insert(1, Worker::start(stage, "proxychains-ng, strict_chain", proxychains, words)?);
    }
    let connects = stage.amount(CONNECTS, CONNECTS / 5);
    take_turns(&mut workers, connects / TURN, TURN)?;
    let Some((ours, references)) = workers.split_first() else {
        return Ok(Vec::new());
    };
    let row = |reference: &Worker| {
        let reference = reference.result();
        Row {
            what: format!("a connect through {HOPS} proxies ({connects} in sequence)"),
            presocks: ours.result().1,
            budget: reference.0.starts_with("proxychains").then_some(Budget::Ratio(1.3)),
            reference: Some(reference),
        }
    };
    Ok(references.iter().map(row).collect())
}
