//! Many bytes through the proxy: curl under presocks against curl's own SOCKS client.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping, find};
use crate::table::{Amount, Budget, Row, median};
use crate::{Outcome, origin, process, system};

const SIZE: u64 = 1 << 30;
/// A download, so that the contestants can take turns.
const PIECE: u64 = SIZE / 8;
/// What is left of noise in a median of a few runs.
const NOISE: f64 = 1.05;

/// One row for the time, one for the processor time.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    let curl = find("curl").ok_or("no curl here")?;
    let proxy = Real::start(stage)?;
    let pieces = stage.amount(SIZE / PIECE, 3);
    let url = format!("http://{}/", origin::download(FAR, PIECE)?);
    let socks = proxy.address.to_string();
    let mut ours = Runs::default();
    let mut native = Runs::default();
    let wrapping = Wrapping::Presocks(proxy.address);
    let arguments = ["--socks5-hostname", &socks, &url];
    for piece in 0..pieces {
        let mut run_ours = || ours.run(&proxy, command(stage, wrapping, &curl, &[&url])?);
        if piece % 2 == 0 {
            run_ours()?;
        }
        native.run(&proxy, command(stage, Wrapping::Bare, &curl, &arguments)?)?;
        if piece % 2 == 1 {
            run_ours()?;
        }
    }
    let row = |what: &str, ours: &[f64], native: &[f64]| Row {
        what: format!("{} MiB by curl ({pieces} times), {what}", PIECE >> 20),
        presocks: Amount::Time(median(ours)),
        reference: Some(("curl --socks5-hostname".into(), Amount::Time(median(native)))),
        budget: Some(Budget::Ratio(NOISE)),
    };
    Ok(vec![
        row("time", &ours.time, &native.time),
        row("CPU of all but the origin", &ours.processor, &native.processor),
    ])
}

fn command(stage: &Stage, wrapping: Wrapping, curl: &Path, arguments: &[&str]) -> Outcome<Command> {
    let mut command = stage.command(wrapping, curl)?;
    command.args(["-q", "-sS", "-f", "-o", "/dev/null"]).args(arguments);
    Ok(command)
}

#[derive(Default)]
struct Runs {
    time: Vec<f64>,
    processor: Vec<f64>,
}

impl Runs {
    fn run(&mut self, proxy: &Real, mut command: Command) -> Outcome<()> {
        let used = || -> Outcome<f64> {
            let children = system::processor_time_of_children()?.as_secs_f64();
            Ok(children + process::processor_time(proxy.daemon.pid())?)
        };
        let used_before = used()?;
        let started = Instant::now();
        let status = command.status()?;
        self.time.push(started.elapsed().as_secs_f64());
        // The broker's time counts too, and counts once it has been waited for.
        process::reap_brokers();
        self.processor.push(used()? - used_before);
        if !status.success() {
            return Err(format!("curl: {status}").into());
        }
        Ok(())
    }
}
