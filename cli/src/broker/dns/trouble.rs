//! Why a name server that was reached gave no answer.

use std::fmt;
use std::time::Duration;

/// Why a server that was reached gave no answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) enum Trouble {
    /// It, or the way to it, took longer than this.
    Silent(Duration),
    /// It closed the connection.
    Closed,
    /// It answered something else.
    Malformed,
}

impl Trouble {
    /// Troubles with the same number have the same cause and are told once.
    pub(in crate::broker) fn cause(self) -> u32 {
        match self {
            Self::Silent(_) => 0x2000,
            Self::Closed => 0x2001,
            Self::Malformed => 0x2002,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(limit) => write!(f, "it did not answer within {limit:?}"),
            Self::Closed => f.write_str("it closed the connection without an answer"),
            Self::Malformed => f.write_str("its answer is not one to the query"),
        }
    }
}
