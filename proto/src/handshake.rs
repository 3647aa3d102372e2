//! A handshake with a proxy of any kind, and what it asks of its caller.
//!
//! Its caller asks [`Handshake::next_step`] what to do, sends what it is told to send, receives *at most* as many bytes as it is told to,
//! and hands them to [`Handshake::handle_input`] in pieces of any size. No handshake asks for a byte beyond the proxy's reply: the
//! byte after it belongs to the program, and may already be waiting.

pub use crate::step::Step;
use crate::target::Target;
use crate::{http, socks4, socks5};

/// One request to one proxy.
#[derive(Debug)]
pub enum Handshake<'a> {
    /// By RFC 1928.
    Socks5(socks5::Handshake<'a>),
    /// By SOCKS4 or SOCKS4a.
    Socks4(socks4::Handshake),
    /// By HTTP CONNECT.
    Http(http::Handshake),
}

/// Why the proxy did not connect us, or was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// By RFC 1928.
    Socks5(socks5::Error),
    /// By SOCKS4 or SOCKS4a.
    Socks4(socks4::Error),
    /// By HTTP CONNECT.
    Http(http::Error),
}

impl Handshake<'_> {
    /// The bound address of a SOCKS reply: for UDP ASSOCIATE where the datagrams are to be sent, for BIND where the proxy listens, or who has
    /// connected, and for CONNECT whence the proxy has connected, which SOCKS5 alone tells.
    #[must_use]
    pub fn bound(&self) -> Option<Target> {
        match self {
            Self::Socks5(handshake) => handshake.bound(),
            Self::Socks4(handshake) => handshake.bound(),
            Self::Http(_) => None,
        }
    }

    /// What waits for the second reply to a BIND, after [`Step::Connected`]; `None` of a protocol that has none.
    #[must_use]
    pub fn second_reply(&self) -> Option<Handshake<'static>> {
        match self {
            Self::Socks5(_) => Some(Handshake::Socks5(socks5::Handshake::second_reply())),
            Self::Socks4(_) => Some(Handshake::Socks4(socks4::Handshake::second_reply())),
            Self::Http(_) => None,
        }
    }

    /// Has a SOCKS5 proxy taken the credentials, rather than let us in without?
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        matches!(self, Self::Socks5(handshake) if handshake.is_authenticated())
    }

    /// Has a SOCKS5 proxy let us in, been asked to connect to the target, and not begun to answer?
    #[must_use]
    pub fn awaits_reply(&self) -> bool {
        matches!(self, Self::Socks5(handshake) if handshake.awaits_reply())
    }

    /// Do a SOCKS5 proxy's greeting and request go in one flight?
    #[must_use]
    pub fn is_pipelined(&self) -> bool {
        matches!(self, Self::Socks5(handshake) if handshake.is_pipelined())
    }

    /// A refusal that is known before all of it has come.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        match self {
            Self::Http(handshake) => handshake.refusal().map(Error::Http),
            Self::Socks5(_) | Self::Socks4(_) => None,
        }
    }

    /// Has the request itself been sent? What is waited for then is the proxy's connection to the target, not the proxy.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        match self {
            Self::Socks5(handshake) => handshake.has_asked(),
            Self::Socks4(_) | Self::Http(_) => true,
        }
    }

    /// What to do now. Being asked for a [`Step::Send`] counts as having sent it.
    pub fn next_step(&mut self) -> Step<'_> {
        match self {
            Self::Socks5(handshake) => handshake.next_step(),
            Self::Socks4(handshake) => handshake.next_step(),
            Self::Http(handshake) => handshake.next_step(),
        }
    }

    /// Takes bytes from the proxy: any number up to the last [`Step::Receive`] (or, of HTTP's, what
    /// [`part`](http::Handshake::part) said).
    ///
    /// # Errors
    /// [`Error`] when the proxy refuses or does not speak its protocol, at the earliest byte that shows it. The handshake is over then.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Socks5(handshake) => handshake.handle_input(bytes).map_err(Error::Socks5),
            Self::Socks4(handshake) => handshake.handle_input(bytes).map_err(Error::Socks4),
            Self::Http(handshake) => handshake.handle_input(bytes).map_err(Error::Http),
        }
    }
}
