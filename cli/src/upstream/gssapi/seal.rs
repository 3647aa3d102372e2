//! A context that protects what is said under it.

use std::io;

use presocks_proto::socks5::gssapi::{HEADER, Kind, header, token_len};

use crate::gssapi::{Buffer, Context};

/// An established context, and what it was agreed to be for.
pub(crate) struct Seal {
    context: Context,
    is_confidential: bool,
    /// Bytes that a message may have.
    pub(super) most: usize,
}

impl Seal {
    /// A context whose messages may have so many bytes.
    pub(super) fn new(context: Context, is_confidential: bool, most: usize) -> Self {
        Self { context, is_confidential, most }
    }

    /// A message for the proxy, with its header; or a datagram, which is one message.
    ///
    /// # Errors
    /// What the library says; it is too long.
    pub(crate) fn close(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let token = self.context.wrap(self.is_confidential, plain).map_err(invalid)?;
        message(Kind::Data, &token).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// What a token of the proxy's says.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn unseal(&mut self, token: &[u8]) -> io::Result<Buffer> {
        self.context.unwrap(self.is_confidential, token).map_err(invalid)
    }

    /// What a datagram says; `None` for one that does not hold, is not one message, or comes twice.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> Option<Buffer> {
        let len = token_len(Kind::Data, datagram).ok()??;
        let token = datagram.get(HEADER..).filter(|token| token.len() == len)?;
        self.unseal(token).ok()
    }
}

/// A token with its header; `None` when it is too long for one.
pub(super) fn message(kind: Kind, token: &Buffer) -> Option<Vec<u8>> {
    let token = token.as_slice();
    let mut message = Vec::with_capacity(HEADER + token.len());
    message.extend(header(kind, u16::try_from(token.len()).ok()?));
    message.extend(token);
    Some(message)
}

pub(super) fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
