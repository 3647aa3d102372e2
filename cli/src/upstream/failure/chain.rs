//! What went wrong with one proxy of several, and which.

use std::fmt;

use super::Failure;

/// One proxy of a chain, and its failure.
#[derive(Debug)]
pub(crate) struct At {
    /// The proxy.
    pub(crate) proxy: String,
    /// Which it is, from 1 on, and of how many.
    pub(crate) number: usize,
    pub(crate) of: usize,
    /// The one before it, which does not reach it, if that is the failure.
    pub(crate) by: Option<String>,
    pub(crate) failure: Failure,
}

impl At {
    /// A refusal by any but the last proxy is not one by the destination.
    pub(super) fn errno(&self) -> i32 {
        match self.failure.errno() {
            libc::ETIMEDOUT => libc::ETIMEDOUT,
            _ if self.by.is_some() => libc::ENETUNREACH,
            errno => errno,
        }
    }

    /// As [`Failure::cause`]; one of this proxy's.
    pub(super) fn cause(&self) -> u32 {
        u32::from(self.by.is_some()) << 19 | self.failure.cause()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, number, of, by, failure } = self;
        write!(f, "at {proxy} (proxy {number} of {of}): ")?;
        match by {
            Some(by) => write!(f, "{by}, asked to connect to it: {failure}"),
            None => failure.fmt(f),
        }
    }
}
