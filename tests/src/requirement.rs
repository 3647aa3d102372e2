//! What the machine must offer before a test can run.
//!
//! A missing tool skips the test and says so; with `CI=true` it fails, so that no gap stays unseen.

use std::io::Write;
use std::path::Path;

/// Where programs are looked for; also the `PATH` of everything that runs in a lab.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every lab needs.
const ALWAYS: [&str; 6] = ["ip", "nft", "unshare", "setpriv", "bash", "mount"];

/// True when the test cannot run here; prints why. Panics instead when `CI` is `true`.
#[must_use]
pub fn missing(programs: &[&str]) -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        Some("it needs root (network namespaces)".to_owned())
    } else {
        ALWAYS.iter().chain(programs).find(|name| !installed(name)).map(|name| format!("`{name}` is missing"))
    };
    let Some(reason) = reason else { return false };
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "this test must run in CI, but {reason}");
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    // Not eprintln!: the test harness would swallow it, as the test passes.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
    true
}

/// True when the program is somewhere in [`PATH`].
#[must_use]
pub fn installed(program: &str) -> bool {
    PATH.split(':').any(|directory| Path::new(directory).join(program).exists())
}
