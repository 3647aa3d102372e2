//! Runs the tests, as libtest would, but for one thing: a test that cannot run here is "ignored", with the reason.
//! libtest takes that for granted before it starts, from an attribute; a test of the laboratory finds out when it asks
//! for what it needs ([`crate::requirement`]).
//!
//! The tests are the functions under `#[test]`, which is `presocks_tests_macros::test` there. Arguments are libtest's;
//! `RUST_TEST_THREADS` is, too. Output is not captured: a panic is reported at once and again at the end.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
#[doc(hidden)]
pub use linkme::{self, distributed_slice};

use crate::requirement;

/// All tests of the program.
#[distributed_slice]
pub static TESTS: [Test];

/// One test; `#[test]` makes it.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// The module, with the crate in front.
    pub module: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// The function.
    pub run: fn(),
}

impl Test {
    /// The name by which a test is asked for: "module::function".
    fn path(&self) -> String {
        let module = self.module.split_once("::").map_or("", |(_crate, module)| module);
        if module.is_empty() { self.name.to_owned() } else { format!("{module}::{}", self.name) }
    }

    /// Runs it on this thread.
    fn outcome(&self, ignored: &Ignored) -> Result<Completion, Failed> {
        RUNNING.set(Some(Running { test: self.path(), panic: None }));
        let ended = panic::catch_unwind(self.run);
        let running = RUNNING.take();
        let reason = requirement::take_reason();
        match (ended, reason) {
            (Ok(()), None) => Ok(Completion::Completed),
            (Ok(()), Some(reason)) => Ok(ignored.add(reason)),
            (Err(payload), Some(reason)) if payload.is::<requirement::Missing>() => Ok(ignored.add(reason)),
            (Err(_), _) => Err(running.and_then(|running| running.panic).unwrap_or_default().into()),
        }
    }
}

/// Runs the tests that the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let (mut arguments, filters) = arguments(std::env::args());
    if arguments.test_threads.is_none() {
        let wanted = std::env::var("RUST_TEST_THREADS").ok().and_then(|count| count.parse().ok());
        arguments.test_threads = Some(wanted.unwrap_or_else(test_threads));
    }
    report_panics();
    let ignored = Ignored::default();
    let mut tests: Vec<_> = TESTS.iter().map(|test| (test.path(), *test)).collect();
    tests.sort_by(|(one, _), (other, _)| one.cmp(other));
    let wanted = |path: &str| {
        let meant = |filter: &String| if arguments.exact { path == filter } else { path.contains(filter) };
        filters.is_empty() || filters.iter().any(meant)
    };
    let trials = tests
        .into_iter()
        .filter(|(path, _)| wanted(path))
        .map(|(path, test)| {
            let ignored = ignored.clone();
            Trial::ignorable_test(path, move || test.outcome(&ignored))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    ignored.summarize();
    conclusion.exit_code()
}

/// How many tests run at once. Most of them wait most of the time: for a limit of presocks, a server's start, a packet that must not come.
fn test_threads() -> usize {
    const EACH_PROCESSOR: usize = 2;
    std::thread::available_parallelism().map_or(1, |count| count.get()) * EACH_PROCESSOR
}

/// The command line, and its filters apart, for libtest takes several and our stand-in for it takes one.
fn arguments(line: impl Iterator<Item = String>) -> (Arguments, Vec<String>) {
    const WITH_VALUE: [&str; 6] = ["--test-threads", "--logfile", "--skip", "--color", "--format", "-Z"];
    let (mut options, mut filters) = (Vec::new(), Vec::new());
    let mut line = line;
    options.extend(line.next());
    while let Some(word) = line.next() {
        if !word.starts_with('-') {
            filters.push(word);
            continue;
        }
        let with_value = WITH_VALUE.contains(&word.as_str());
        options.push(word);
        if with_value {
            options.extend(line.next());
        }
    }
    (Arguments::from_iter(options), filters)
}

/// How many tests could not run, by reason.
#[derive(Debug, Clone, Default)]
struct Ignored(Arc<Mutex<BTreeMap<String, usize>>>);

impl Ignored {
    fn add(&self, reason: String) -> Completion {
        let completion = Completion::ignored_with(&reason);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
        completion
    }

    /// One line, if there is anything to say.
    fn summarize(&self) {
        let reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !reasons.is_empty() {
            let reasons: Vec<_> =
                reasons.iter().map(|(reason, count)| format!("{count} ({reason})")).collect();
            let _ = writeln!(std::io::stdout(), "ignored: {}\n", reasons.join(", "));
        }
    }
}

thread_local! {
    /// The test that this thread runs.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Running {
    test: String,
    panic: Option<String>,
}

/// A panic is printed under its test's name, and kept for the list of failures.
fn report_panics() {
    let of_other_threads = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        RUNNING.with_borrow_mut(|running| match running {
            None => of_other_threads(info),
            Some(Running { test, panic }) => {
                let _ = writeln!(std::io::stderr(), "{test} {info}\n{}", Backtrace::capture());
                *panic = Some(info.to_string());
            }
        });
    }));
}
