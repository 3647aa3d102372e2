//! What a handshake asks of its caller.

/// What the caller does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Send all of these bytes, then ask again.
    Send(&'a [u8]),
    /// Receive between one and this many bytes, hand them to the handshake, then ask again.
    Receive(usize),
    /// The far end is connected, and the next byte from the proxy is the program's; or there is an association, or the proxy listens (BIND).
    Connected,
}
