//! A contestant: a process, wrapped or not, that does a piece of work whenever it is asked to.
//!
//! It is started once, and a question is one line: how much to do. The answer is one line of durations in nanoseconds. So the
//! contestants of a row can take turns at short intervals, and what disturbs the machine disturbs them all.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::stage::{Stage, Wrapping};
use crate::table::{Amount, median};
use crate::{Outcome, process, words};

/// A contestant; told to end when dropped.
pub(crate) struct Worker {
    name: String,
    child: Child,
    /// `None` once the worker has been told to end.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// In seconds.
    samples: Vec<f64>,
}

impl Worker {
    /// Starts this executable with a task (see `task`).
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(stage: &Stage, name: &str, wrapping: Wrapping, task: &[&str]) -> Outcome<Self> {
        let mut command = stage.command(wrapping, stage.this())?;
        command.arg(words::FLAG).args(task);
        Self::spawn(name, &mut command)
    }

    /// Starts any program that keeps to the form.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            questions: Some(questions),
            answers: BufReader::new(answers),
            samples: Vec::new(),
        })
    }

    /// The process that was started: for presocks, its front.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do `count` pieces; the durations in seconds.
    ///
    /// # Errors
    /// When it has ended or answers something else.
    pub(crate) fn ask(&mut self, count: usize) -> Outcome<Vec<f64>> {
        let questions = self.questions.as_mut().ok_or("told to end")?;
        writeln!(questions, "{count}").map_err(|error| format!("{}: {error}", self.name))?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let samples: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse::<f64>).collect();
        match samples {
            Ok(samples) if !samples.is_empty() => Ok(samples.iter().map(|sample| sample * 1e-9).collect()),
            _ => Err(format!("{} failed: {:?}", self.name, line.trim_end()).into()),
        }
    }

    /// As [`Worker::ask`], and keeps the durations.
    ///
    /// # Errors
    /// As [`Worker::ask`].
    pub(crate) fn work(&mut self, count: usize) -> Outcome<()> {
        let samples = self.ask(count)?;
        self.samples.extend(samples);
        Ok(())
    }

    /// The durations that it has kept, in seconds.
    pub(crate) fn samples(&self) -> &[f64] {
        &self.samples
    }

    /// Its name and the median of what it has done.
    pub(crate) fn result(&self) -> (String, Amount) {
        (self.name.clone(), Amount::Time(median(&self.samples)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.questions.take());
        process::end(&mut self.child);
    }
}

/// Lets all work in turn, `rounds` times `count` pieces, after one piece to warm up. Whoever begins a round ends the next.
///
/// # Errors
/// When one of them fails.
pub(crate) fn take_turns(workers: &mut [Worker], rounds: usize, count: usize) -> Outcome<()> {
    for worker in workers.iter_mut() {
        worker.ask(1)?;
    }
    for _ in 0..rounds {
        for worker in workers.iter_mut() {
            worker.work(count)?;
        }
        workers.reverse();
    }
    if rounds % 2 == 1 {
        workers.reverse();
    }
    Ok(())
}
