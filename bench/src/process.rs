//! Other processes, as /proc shows them (proc(5)), and the end of those that we started.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, system};

/// The name that presocks gives its broker.
pub(crate) const BROKER: &str = "presocks-broker";
/// How long a process may take to do what it was asked.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// A server that runs until this is dropped.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it, silent.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        system::die_with_us(command);
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            io::Error::new(error.kind(), format!("{program}: {error}"))
        })?;
        Ok(Self { child })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a child: it has been told to, and is killed when it does not.
pub(crate) fn end(child: &mut Child) {
    let asked = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if asked.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
        }
        std::thread::sleep(PAUSE);
    }
    reap_brokers();
}

/// Waits for the brokers that have outlived their fronts; they end with their commands.
pub(crate) fn reap_brokers() {
    for pid in children(std::process::id()) {
        if name(pid).as_deref() == Some(BROKER) {
            let _ = system::wait_for(pid);
        }
    }
}

/// The child of `parent` with this name, waited for if need be. The kernel keeps the first 15 bytes of a name.
///
/// # Errors
/// When there is none in time.
pub(crate) fn child_named(parent: u32, wanted: &str) -> Outcome<u32> {
    let started = Instant::now();
    let wanted = wanted.get(..15).unwrap_or(wanted);
    loop {
        if let Some(pid) = children(parent).into_iter().find(|&pid| name(pid).as_deref() == Some(wanted)) {
            return Ok(pid);
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("no process named {wanted} below process {parent}").into());
        }
        std::thread::sleep(PAUSE);
    }
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| field(pid, 4).is_some_and(|found| found == u64::from(parent)))
        .collect()
}

fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// A number of /proc/PID/stat, counted from 1 as proc(5) counts; the name, which may hold blanks, is 2.
fn field(pid: u32, number: usize) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = line.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// Processor time that a process has used, in seconds.
///
/// # Errors
/// When it is gone.
pub(crate) fn processor_time(pid: u32) -> Outcome<f64> {
    match (field(pid, 14), field(pid, 15)) {
        (Some(user), Some(system)) => Ok((user + system) as f64 / system::ticks_per_second()),
        _ => Err(format!("process {pid} is gone").into()),
    }
}

/// Processes that want to run, for each processor, over the last minute.
pub(crate) fn load_per_processor() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().ok()?;
    Some(load / processors.get() as f64)
}

/// An amount of /proc/PID/status in bytes, such as `VmRSS`.
///
/// # Errors
/// When the process is gone or the line is not there.
pub(crate) fn status(pid: u32, key: &str) -> Outcome<f64> {
    sum(&format!("/proc/{pid}/status"), |found| found == key)
}

/// Memory that only this process has, in bytes: what its end would free.
///
/// # Errors
/// When the process is gone.
pub(crate) fn private_memory(pid: u32) -> Outcome<f64> {
    sum(&format!("/proc/{pid}/smaps"), |found| found.starts_with("Private_"))
}

/// Adds up the lines `KEY: NUMBER kB`.
fn sum(path: &str, is_wanted: impl Fn(&str) -> bool) -> Outcome<f64> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut found = None;
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else {
            continue;
        };
        if !is_wanted(key) {
            continue;
        }
        let number = rest.trim_end_matches("kB").trim().parse::<f64>();
        found = Some(found.unwrap_or(0.0) + number.unwrap_or(0.0) * 1024.0);
    }
    found.ok_or_else(|| format!("{path}: not as expected").into())
}
