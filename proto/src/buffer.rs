//! Bytes up to a known maximum: a message that is being put together, or is coming in. Nothing here allocates.

use core::fmt;

/// Bytes up to a known maximum.
#[derive(Clone)]
pub(crate) struct Buffer<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Buffer<N> {
    pub(crate) fn new() -> Self {
        Self { len: 0, bytes: [0; N] }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Appends; what does not fit is dropped, and nothing that fits a message of the protocol ever does not fit.
    pub(crate) fn push(&mut self, more: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(more) {
            *to = *from;
            self.len += 1;
        }
    }
}

impl<const N: usize> fmt::Debug for Buffer<N> {
    /// Lengths only: the bytes may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {N})", self.len)
    }
}

impl<const N: usize> fmt::Write for Buffer<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
