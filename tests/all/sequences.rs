//! Sequences of calls on TCP sockets, made by a generator (`tests/programs/sequences.c`): each call says under presocks what it says on a bare machine,
//! or the difference is one of those that are listed here ([`REASONS`]).
//!
//! A sequence is compared up to its first difference: what follows is often its consequence. One that differs between two bare runs is a race with the
//! network, and is left out; there may be few of those. `PRESOCKS_SEQUENCES=20000 cargo test -p presocks-tests --test all -- sequences::` runs so many in
//! place of [`SEQUENCES`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use presocks_tests::Build;
use presocks_tests::lab::{ORIGIN, ORIGIN6, SILENT_PORT};
use presocks_tests::proxy::Embedded;

use crate::backstop::{arguments, stage_for};
use crate::behaviour::stage::Stage;

const SEQUENCES: u32 = 450;

/// Of so many sequences one may be a race.
const ONE_RACES: u32 = 40;

/// The lines of each sequence, by its seed.
type Runs = BTreeMap<u32, Vec<String>>;

/// The first difference of a sequence.
struct Difference<'a> {
    before: &'a [String],
    bare: &'a str,
    wrapped: &'a str,
    is_caught: bool,
}

impl Difference<'_> {
    /// Has a call said this before?
    fn follows(&self, call: &str, result: &str) -> bool {
        self.before.iter().any(|line| line.contains(call) && line.ends_with(result))
    }

    /// Is something sent that on a bare machine is not? That is excused by no general reason: it may have gone where it should not.
    fn sends_more(&self) -> bool {
        let has_sent = |line: &str| {
            let is_send = ["send ", "write "].iter().any(|call| line.contains(call));
            is_send && line.rsplit(' ').next().is_some_and(|result| result.parse::<u32>().is_ok())
        };
        has_sent(self.wrapped) && !has_sent(self.bare)
    }
}

/// A difference that is known.
struct Reason {
    what: &'static str,
    is: fn(&Difference<'_>) -> bool,
}

const REASONS: &[Reason] = &[
    Reason {
        what: "a caught connect() waits on a non-blocking socket as well (docs/limits.md)",
        is: |difference| {
            difference.is_caught
                && difference.bare.contains("connect ")
                && difference.bare.ends_with("EINPROGRESS")
                && !difference.wrapped.ends_with("EINPROGRESS")
        },
    },
    Reason {
        what: "an attempt that a caught connect() has left, as its time was over, is not seen as one under way (docs/limits.md)",
        is: |difference| {
            difference.is_caught
                && difference.follows("connect silent", "EINPROGRESS")
                && !difference.sends_more()
        },
    },
    Reason {
        what: "a socket that was shut before it is connected cannot carry the handshake (docs/limits.md)",
        is: |difference| difference.follows("shutdown", "ENOTCONN") && !difference.sends_more(),
    },
    Reason {
        what: "what the kernel says at once of a non-blocking socket is told when the connect() is done, as the broker makes it",
        is: |difference| {
            difference.follows("bind loopback", "0 ")
                && difference.bare.ends_with("EINVAL")
                && difference.wrapped.ends_with("EINPROGRESS")
        },
    },
    Reason {
        what: "a connect() that has failed leaves the address of loopback, not the machine's own (docs/limits.md)",
        is: |difference| {
            difference.bare.contains("getsockname own") && difference.wrapped.contains("getsockname loopback")
        },
    },
    Reason {
        what: "FIONREAD counts what the proxy answers while the connect() is under way (docs/limits.md)",
        is: |difference| {
            difference.bare.contains("FIONREAD") && difference.follows("connect silent", "EINPROGRESS")
        },
    },
    Reason {
        what: "an MPTCP socket that is connected a second time has addresses and errors of the first attempt left, and other ones",
        is: |difference| {
            let connects = difference.before.iter().filter(|line| line.contains("connect "));
            difference.follows("MPTCP", "") && connects.count() > 1 && !difference.sends_more()
        },
    },
    Reason {
        what: "an MPTCP socket that is bound to loopback, and dissolved, has lost its port, and counts as one that was left over",
        is: |difference| {
            difference.follows("MPTCP", "")
                && difference.follows("bind loopback", "0 ")
                && difference.follows("connect nobody", "0 ")
        },
    },
    Reason {
        what: "a connect() that fails at once, as from loopback to elsewhere, takes the port back, and an older error with it",
        is: |difference| difference.follows("bind loopback", "0 ") && difference.follows("connect", "EINVAL"),
    },
    Reason {
        what: "what is shut of an MPTCP socket is shut by a worker of the kernel, in its own time",
        is: |difference| {
            difference.follows("MPTCP", "")
                && difference.follows("shutdown", "0 ")
                && !difference.sends_more()
        },
    },
];

fn words(stage: &Stage, build: Build, count: u32) -> Vec<OsString> {
    let program = build.of(&stage.lab, "sequences", &[]);
    let own = [
        "first=1".to_owned(),
        format!("count={count}"),
        format!("caught={}", u8::from(build == Build::Static)),
        format!("silent={ORIGIN}:{SILENT_PORT}"),
        format!("silent6=[{ORIGIN6}]:{SILENT_PORT}"),
    ];
    [program.into()].into_iter().chain(own.map(Into::into)).chain(arguments(stage)).collect()
}

fn parse(text: &str) -> Runs {
    let mut runs = Runs::new();
    for line in text.lines() {
        let (seed, rest) = line.split_once('.').unwrap();
        runs.entry(seed.parse().unwrap()).or_default().push(rest.to_owned());
    }
    runs
}

/// Next to the origin, without presocks.
fn run_bare(stage: &Stage, words: &[OsString]) -> Runs {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().stdout(Stdio::piped());
    let output = stage.lab.proxy.spawn(&mut command).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The lines that are the same, and the first that is not, of either.
fn compare<'a>(bare: &'a [String], wrapped: &'a [String]) -> Option<(&'a [String], &'a str, &'a str)> {
    let at = (0..bare.len().max(wrapped.len())).find(|&at| bare.get(at) != wrapped.get(at))?;
    let line = |lines: &'a [String]| lines.get(at).map_or("", String::as_str);
    Some((&bare[..at.min(bare.len())], line(bare), line(wrapped)))
}

fn same_or_listed(build: Build) {
    let Some(stage) = stage_for(&[build]) else { return };
    let proxy = Embedded::open(&stage.lab);
    let count = std::env::var("PRESOCKS_SEQUENCES").map_or(SEQUENCES, |text| text.parse().unwrap());
    let words = words(&stage, build, count);
    let [bare, again] = [run_bare(&stage, &words), run_bare(&stage, &words)];
    let limit = Duration::from_secs(120 + u64::from(count) / 10);
    let run = stage.lab.presocks(&words).proxy(&proxy).options(["-q"]).limit(limit).run();
    let mut wrapped = parse(&run.success().stdout());
    let (mut racing, mut unexplained, mut met) = (0, String::new(), BTreeMap::new());
    for (seed, lines) in &bare {
        if again.get(seed) != Some(lines) {
            racing += 1;
            continue;
        }
        let found = wrapped.remove(seed).unwrap_or_default();
        let Some((before, bare, wrapped)) = compare(lines, &found) else { continue };
        let difference = Difference { before, bare, wrapped, is_caught: build == Build::Static };
        match REASONS.iter().find(|reason| (reason.is)(&difference)) {
            Some(reason) => *met.entry(reason.what).or_insert(0) += 1,
            None => unexplained.push_str(&format!(
                "sequence {seed}:\n  {}\n  bare:    {bare}\n  wrapped: {wrapped}\n",
                before.join("\n  ")
            )),
        }
    }
    println!("{count} sequences, {racing} of them race; differences: {met:#?}");
    assert!(racing * ONE_RACES <= count, "{racing} of {count} sequences differ between two bare runs");
    assert!(unexplained.is_empty(), "not as on a bare machine:\n{unexplained}");
    stage.lab.assert_no_leak();
}

#[test]
fn calls_at_random_give_a_hooked_program_what_they_give_a_bare_one() {
    same_or_listed(Build::Shared);
}

#[test]
fn calls_at_random_give_a_caught_program_what_they_give_a_bare_one() {
    same_or_listed(Build::Static);
}
