//! Messages in a stream: each has its length before it (RFC 1035 section 4.2.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are asked for at once.
const ROOM: usize = 4096;

/// What has come of a stream, up to the middle of a message.
#[derive(Default)]
pub(in crate::broker) struct Frames(Vec<u8>);

impl Frames {
    /// The next message; `None` when the stream ends between two. Nothing is lost when it is not waited for to its end.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` when it ends in the middle of a message.
    pub(in crate::broker) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            self.0.reserve(ROOM);
            if stream.read_buf(&mut self.0).await? == 0 {
                return if self.0.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.0.drain(..2 + length);
        Some(message)
    }
}

/// A message as a stream carries it; `None` when it is too long for one.
pub(in crate::broker) fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes(), message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn messages(mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let mut frames = Frames::default();
        let mut all = Vec::new();
        loop {
            match frames.next(&mut stream).await {
                Ok(Some(message)) => all.push(message),
                end => return (all, end.is_ok()),
            }
        }
    }

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_and_a_cut_one_is_an_error() {
        let sent = [b"".to_vec(), b"a".to_vec(), vec![7; 65_535], b"end".to_vec()];
        let stream = sent.iter().map(|message| framed(message).unwrap()).collect::<Vec<_>>().concat();
        assert_eq!(messages(&stream).await, (sent[..].to_vec(), true));
        assert_eq!(messages(&stream[..stream.len() - 1]).await, (sent[..3].to_vec(), false));
        assert_eq!(messages(&[]).await, (Vec::new(), true));
        assert_eq!(messages(&[0]).await, (Vec::new(), false));
    }

    #[test]
    fn a_message_may_have_65535_bytes_and_no_more() {
        assert!(framed(&[0; 65_535]).is_some());
        assert!(framed(&[0; 65_536]).is_none());
    }
}
