//! The command line: what was typed, not yet what it means.
//!
//! All options are flags and come before the command; from the first word that is no flag on, everything is the command's. The options
//! that are also keys of the configuration become a [`Profile`], the strongest of all.

mod line;
mod proxychains;

use std::ffi::OsString;
use std::path::Path;

use crate::config::{Profile, Wanted};
use crate::exit::Exit;
use crate::policy::route::explain::Question;

/// What presocks was started to do.
pub(crate) enum Mode {
    /// Run a command.
    Run(Box<Typed>),
    /// Print the configuration.
    PrintConfig(Box<Typed>),
    /// Say where a connection would go.
    Explain(Box<Typed>, Box<Question>),
    /// Serve SOCKS5 on this address.
    Serve(String),
    /// Show the product at work.
    Demo,
    /// Fetch a page plainly, for a demo without curl.
    DemoClient(String),
}

/// The options of a run.
pub(crate) struct Typed {
    /// What the options say of what can be configured.
    pub(crate) flags: Profile,
    /// Where more is said.
    pub(crate) wanted: Wanted,
    /// Never empty in a run.
    pub(crate) command: Vec<OsString>,
}

impl Mode {
    /// Reads the process's own command line.
    ///
    /// # Errors
    /// How to exit: 0 after `--help` and `--version`, 125 after a mistake; what there is to say has been said.
    pub(crate) fn from_command_line() -> Result<Self, Exit> {
        let words: Vec<_> = std::env::args_os().collect();
        match as_proxychains(&words) {
            Some(words) => proxychains::read(words),
            None => line::read(&words),
        }
    }
}

/// The words that proxychains would read: those of a link with its name, or those after `--proxychains`.
fn as_proxychains(words: &[OsString]) -> Option<&[OsString]> {
    let (own, rest) = words.split_first()?;
    let name = Path::new(own).file_name()?;
    if name == "proxychains4" || name == "proxychains" {
        return Some(rest);
    }
    rest.split_first().filter(|(first, _)| *first == "--proxychains").map(|(_, rest)| rest)
}
