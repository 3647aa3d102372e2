//! Parallel non-blocking connects through a proxy that takes its time: does an event loop stay one?
//!
//! Python's asyncio under presocks against asyncio that speaks SOCKS itself. proxychains-ng connects one after the other, so it
//! gets fewer to do.

use std::net::SocketAddr;
use std::time::Duration;

use crate::stage::{FAR, Stage, Wrapping, find};
use crate::table::{Budget, Row};
use crate::worker::{Worker, take_turns};
use crate::{Outcome, proxy};

const SCRIPT: &str = include_str!("parallel.py");
const DELAY: Duration = Duration::from_millis(200);
const CONNECTS: usize = 200;
const CONNECTS_OF_PROXYCHAINS: usize = 20;

/// A row for each reference.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let proxy = proxy::scripted(DELAY)?;
    let start = |name: &str, wrapping, is_native: bool| {
        let python = find("python3").ok_or("no python3 here")?;
        let mut command = stage.command(wrapping, &python)?;
        command.args(["-c", SCRIPT]);
        // Nothing listens there: the proxy is its own far end.
        let far = SocketAddr::from((FAR, 80));
        for address in [far, proxy].iter().take(if is_native { 2 } else { 1 }) {
            command.args([address.ip().to_string(), address.port().to_string()]);
        }
        Worker::spawn(name, &mut command)
    };
    let mut workers = [
        start("presocks", Wrapping::Presocks(proxy), false)?,
        start("asyncio that speaks SOCKS", Wrapping::Bare, true)?,
    ];
    take_turns(&mut workers, stage.amount(15, 3), CONNECTS)?;
    let [ours, native] = workers;
    let what = format!("{CONNECTS} connects at once, the proxy answers after 200 ms");
    let mut rows = vec![Row {
        what: what.clone(),
        presocks: ours.result().1,
        reference: Some(native.result()),
        budget: Some(Budget::Ratio(1.1)),
    }];
    if stage.has_proxychains() {
        let name = format!("proxychains-ng, {CONNECTS_OF_PROXYCHAINS} connects only");
        let mut serial = start(&name, Wrapping::Proxychains(proxy), false)?;
        serial.work(CONNECTS_OF_PROXYCHAINS)?;
        rows.push(Row { what, presocks: ours.result().1, reference: Some(serial.result()), budget: None });
    }
    Ok(rows)
}
