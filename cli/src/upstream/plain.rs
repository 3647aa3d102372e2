//! How an operating system's error is told.

use std::fmt;
use std::io;

/// An operating system's error without Rust's "(os error N)".
pub(crate) struct Plain<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let end = text.find(" (os error").unwrap_or(text.len());
        let text = text.get(..end).unwrap_or(&text);
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), letters.as_str()),
            None => f.write_str("unknown error"),
        }
    }
}
