//! What options may say, in whichever way they are said: on the command line, in the environment, in a file.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Whether calls that LD_PRELOAD does not see are caught by a seccomp filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backstop {
    /// Where the kernel permits it; else say so, and run only what LD_PRELOAD reaches
    Auto,
    /// Or do not run COMMAND
    Require,
    /// Never: programs that LD_PRELOAD does not reach connect directly
    Off,
}

/// For whom the proxy listens when a program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bind {
    /// Nobody: what listens is left alone
    #[default]
    Off,
    /// The peer of the connection beside which the program listens
    Peer,
    /// Whoever comes, if the proxy permits that
    Any,
}

/// What becomes of UDP datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Udp {
    /// Through the proxy; refused when it does not serve UDP
    Proxy,
    /// Refused always
    Deny,
}
