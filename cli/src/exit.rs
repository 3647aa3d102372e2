//! Exit statuses, as env(1), nohup(1) and timeout(1) have them.

use std::fmt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How presocks ends when it does not end as the command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(i32);

impl Exit {
    /// All is well.
    pub(crate) const SUCCESS: Self = Self(0);

    const FAILED: i32 = 1;
    const OURS: i32 = 125;
    const NOT_EXECUTABLE: i32 = 126;
    const NOT_FOUND: i32 = 127;

    /// The demo or the server failed: 1.
    pub(crate) fn failed(why: fmt::Arguments<'_>) -> Self {
        say(why);
        Self(Self::FAILED)
    }

    /// Our fault, or the user's towards us; mostly the command did not run: 125.
    pub(crate) fn ours(why: fmt::Arguments<'_>) -> Self {
        say(why);
        Self(Self::OURS)
    }

    /// 125, and somebody has said why.
    pub(crate) fn ours_already_said() -> Self {
        Self(Self::OURS)
    }

    /// The command could not be executed: 127 when it was not found, else 126.
    pub(crate) fn not_executed(why: fmt::Arguments<'_>, was_found: bool) -> Self {
        say(why);
        Self(if was_found { Self::NOT_EXECUTABLE } else { Self::NOT_FOUND })
    }

    /// The command's own status.
    pub(crate) fn command(status: i32) -> Self {
        Self(status)
    }

    /// The number for exit(3).
    pub(crate) fn code(self) -> i32 {
        self.0
    }
}

/// One line on stderr. There is nowhere to say that stderr fails.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("presocks: {line}\n").as_bytes());
}

/// The same, unless stderr takes nothing now.
pub(crate) fn say_at_once(line: fmt::Arguments<'_>) {
    let (stderr, now) = (std::io::stderr(), Timespec { tv_sec: 0, tv_nsec: 0 });
    if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&now)) == Ok(1) {
        say(line);
    }
}
