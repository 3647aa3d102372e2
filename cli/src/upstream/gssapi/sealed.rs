//! A connection under a context's protection: each message of either side is one token (RFC 1961 section 5).
//!
//! A message may come in any pieces. The end of the connection is one between two messages only: within one it is an error, as is a message that does not
//! hold, or comes out of its turn. (The protocol has no farewell, so an end between two messages may have been forged.)

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use presocks_proto::socks5::gssapi::{HEADER, Kind, MAX_TOKEN, token_len};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::seal::{Seal, invalid};
use crate::gssapi::Buffer;

/// A connection under protection.
pub(crate) struct Sealed<S> {
    inner: S,
    seal: Seal,
    /// What has come: from `begin` to `end` it is yet to be opened.
    inbox: Box<[u8]>,
    begin: usize,
    end: usize,
    /// What has been opened, and how much of it has been taken.
    opened: Option<(Buffer, usize)>,
    /// A message, and how much of it has been sent.
    outbox: Vec<u8>,
    sent: usize,
}

impl<S> Sealed<S> {
    pub(super) fn new(inner: S, seal: Seal) -> Self {
        let inbox = vec![0; HEADER + MAX_TOKEN].into();
        Self { inner, seal, inbox, begin: 0, end: 0, opened: None, outbox: Vec::new(), sent: 0 }
    }

    /// What it goes by.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    /// What it goes by, and what protects it, for use apart: nothing more is said on it.
    pub(crate) fn into_parts(self) -> (S, Option<Seal>) {
        (self.inner, Some(self.seal))
    }

    /// Opens the next message, if it is whole.
    fn open(&mut self) -> io::Result<bool> {
        let come = self.inbox.get(self.begin..self.end).unwrap_or_default();
        let len = token_len(Kind::Data, come).map_err(|_| invalid("not a message"))?;
        let Some(len) = len.filter(|len| HEADER + len <= come.len()) else { return Ok(false) };
        let token = come.get(HEADER..HEADER + len).unwrap_or_default();
        self.opened = Some((self.seal.unseal(token)?, 0));
        self.begin += HEADER + len;
        Ok(true)
    }
}

impl<S: AsyncRead + Unpin> Sealed<S> {
    /// Receives more of the next message; false at the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.inbox.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        // A message that is not whole leaves room.
        let mut room = ReadBuf::new(self.inbox.get_mut(self.end..).unwrap_or_default());
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut room))?;
        let len = room.filled().len();
        self.end += len;
        Poll::Ready(if len == 0 && self.end > 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(len > 0) })
    }
}

impl<S: AsyncWrite + Unpin> Sealed<S> {
    /// Sends the rest of the message that is under way.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.outbox.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let len = ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
            if len == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.sent += len;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sealed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some((message, taken)) = &mut this.opened {
                let rest = message.as_slice().get(*taken..).unwrap_or_default();
                if !rest.is_empty() {
                    let len = rest.len().min(room.remaining());
                    room.put_slice(rest.get(..len).unwrap_or_default());
                    *taken += len;
                    return Poll::Ready(Ok(()));
                }
                this.opened = None;
            }
            // Empty ones may come without end, and other connections have their turn.
            let turn = ready!(coop::poll_proceed(context));
            if !this.open()? && !ready!(this.poll_more(context))? {
                return Poll::Ready(Ok(()));
            }
            turn.made_progress();
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sealed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        let bytes = bytes.get(..this.seal.most).unwrap_or(bytes);
        this.outbox = this.seal.close(bytes)?;
        this.sent = 0;
        // It has been taken; what does not go now goes with the next call.
        match this.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}
