//! What the machine must offer before a test can run.
//!
//! A test that lacks a tool is ignored, with the reason; with `CI=true` it fails, so that no gap stays unseen.

use std::cell::RefCell;
use std::path::Path;

/// Where programs are looked for; also the `PATH` of everything that runs in a lab.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every lab needs.
const ALWAYS: [&str; 6] = ["ip", "nft", "unshare", "setpriv", "bash", "mount"];

thread_local! {
    /// Why the test that this thread runs is to be ignored.
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A test unwinds with it when it asks for a lab that cannot be.
#[derive(Debug)]
pub(crate) struct Missing;

/// True when a test with a lab and these programs cannot run here; it is to return, and counts as ignored. Panics
/// instead when `CI` is `true`.
#[must_use]
pub fn missing(programs: &[&str]) -> bool {
    if rustix::process::geteuid().is_root() {
        missing_programs(&ALWAYS) || missing_programs(programs)
    } else {
        ignore("it needs root, for network namespaces".to_owned())
    }
}

/// The same for a test without a lab.
#[must_use]
pub fn missing_programs(programs: &[&str]) -> bool {
    let absent = programs.iter().find(|name| !installed(name));
    absent.is_some_and(|name| ignore(format!("`{name}` is missing")))
}

/// Ends the test, as ignored, when [`missing`] says so.
pub(crate) fn must_have(programs: &[&str]) {
    if missing(programs) {
        // Not panic!: nothing is wrong, and nothing is to be printed.
        std::panic::resume_unwind(Box::new(Missing));
    }
}

/// Why the test that this thread has run is to be ignored.
pub(crate) fn take_reason() -> Option<String> {
    REASON.take()
}

fn ignore(reason: String) -> bool {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "this test must run in CI, but {reason}");
    REASON.set(Some(reason));
    true
}

/// True when the program is somewhere in [`PATH`].
#[must_use]
pub fn installed(program: &str) -> bool {
    PATH.split(':').any(|directory| Path::new(directory).join(program).exists())
}
