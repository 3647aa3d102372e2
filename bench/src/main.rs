//! What presocks costs: `cargo run --release -p presocks-bench` prints one table.
//!
//!     cargo run --release -p presocks-bench -- [--quick] [connects|parallel|bulk|start|established|backstop|local|memory|udp|dns|chain|tls]...
//!
//! Only the ratios mean something: each row's contestants take turns, a short piece of work at a time, in one run on one machine,
//! and the medians are compared. Everything happens in a network namespace of its own, whose loopback device has an address that
//! is not loopback's: presocks takes loopback for direct.
//!
//! Reading order: `stage` (what all rows share), `worker` (a contestant, seen from here), `task` (the same, from inside), then any
//! row: `connects`, `parallel`, `bulk`, `start`, `established`, `backstop`, `local`, `memory`, `udp` (with `datagrams`), `dns` (with
//! `queries`), `chain`, `tls`.

mod backstop;
mod bulk;
mod chain;
mod connects;
mod datagrams;
mod dns;
mod established;
mod local;
mod measure;
mod memory;
mod origin;
mod parallel;
mod process;
mod proxy;
mod queries;
mod stage;
mod start;
mod system;
mod table;
mod task;
mod tls;
mod udp;
mod words;
mod worker;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use stage::Stage;
use table::{Row, Table};

/// A result whose error is only ever printed.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// The work on some rows.
type Group = fn(&Stage) -> Outcome<Vec<Row>>;

/// The names that the command line knows, in the table's order.
const GROUPS: [(&str, Group); 12] = [
    ("connects", connects::rows),
    ("parallel", parallel::rows),
    ("bulk", bulk::rows),
    ("start", start::rows),
    ("established", established::rows),
    ("backstop", backstop::rows),
    ("local", local::rows),
    ("memory", memory::rows),
    ("udp", udp::rows),
    ("dns", dns::rows),
    ("chain", chain::rows),
    ("tls", tls::rows),
];

/// The bench alone makes a load of about 1 on a machine with two processors.
const BUSY: f64 = 1.5;

fn main() -> ExitCode {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((flag, task)) if flag == words::FLAG => task::run(task),
        _ => {
            let all = words.len();
            words.retain(|word| word != "--quick");
            compare(words.len() != all, &words)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presocks-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(is_quick: bool, chosen: &[String]) -> Outcome<()> {
    if let Some(unknown) = chosen.iter().find(|word| !GROUPS.iter().any(|(name, _)| name == word)) {
        let known: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        return Err(format!("{unknown}: not one of --quick, {}", known.join(", ")).into());
    }
    let stage = Stage::set(is_quick)?;
    let mut table = Table::default();
    for (name, rows) in GROUPS {
        if !chosen.is_empty() && !chosen.iter().any(|word| word == name) {
            continue;
        }
        eprintln!("presocks-bench: {name} ...");
        match rows(&stage) {
            Ok(rows) => table.add(rows),
            Err(error) => table.note(format!("{name}: skipped: {error}")),
        }
    }
    if let Some(load) = process::load_per_processor().filter(|load| *load > BUSY) {
        table.note(format!(
            "the machine was busy (load {load:.1} per processor): the ratios are rough, times and differences of times too long"
        ));
    }
    for note in stage.notes() {
        table.note(note);
    }
    print!("{table}");
    Ok(())
}
