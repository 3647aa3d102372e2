//! The client's side of HTTP CONNECT (RFC 9110 section 9.3.6, RFC 9112), with Basic authentication (RFC 7617).
//!
//! A [`Handshake`] does no I/O, and keeps the contract of [`crate::socks5`]: it never asks for a byte beyond the proxy's reply. Nothing
//! in a response says how long its header is, so no more is asked for than the shortest end that it can have: two bytes within a line
//! ("\n\n"), one at the beginning of one. Responses with 1xx are passed over; what becomes of a request is known by the status line, and
//! the rest of a refusal is not read. Of a response with 2xx the fields are not looked at, as the RFC demands: it has no content.

use core::fmt;
use core::net::SocketAddr;

use crate::buffer::Buffer;
use crate::handshake::Step;
use crate::target::{Host, Target};

/// Most bytes of all headers together, those of responses with 1xx among them.
pub const MAX_HEADER: usize = 16 * 1024;

/// How much of a status line is kept.
const MAX_LINE: usize = 64;
/// "HTTP/1.1 200"
const MIN_LINE: usize = 12;
/// Longest authority: a name and a port.
const MAX_AUTHORITY: usize = 255 + 1 + 5;
/// Longest "user:password", and the same in base64.
const MAX_PAIR: usize = 255 + 1 + 255;
const MAX_TOKEN: usize = MAX_PAIR.div_ceil(3) * 4;
const MAX_REQUEST: usize = 128 + 2 * MAX_AUTHORITY + MAX_TOKEN;

/// User name and password for Basic authentication: 0 to 255 bytes each, and no colon in the name (RFC 7617 section 2).
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// `None` when a field does not fit.
    #[must_use]
    pub fn new(user: &'a [u8], password: &'a [u8]) -> Option<Self> {
        let fits = user.len() <= 255 && password.len() <= 255 && !user.contains(&b':');
        fits.then_some(Self { user, password })
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Why the proxy did not connect us, or was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name has a byte that cannot stand in an authority (RFC 3986 section 3.2.2).
    NameNotCarried,
    /// The answer began with this instead of a status line: the peer does not speak HTTP/1.
    NotHttp(StatusLine),
    /// The request failed with this status.
    Refused(StatusLine),
    /// The header has more than [`MAX_HEADER`] bytes.
    TooLong,
}

/// The first 64 bytes of a status line, without its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StatusLine {
    len: u8,
    bytes: [u8; MAX_LINE],
}

impl StatusLine {
    const EMPTY: Self = Self { len: 0, bytes: [0; MAX_LINE] };

    /// The status code; 0 when there is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        let digits = self.as_bytes().get(MIN_LINE - 3..MIN_LINE).unwrap_or(&[]);
        digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit.wrapping_sub(b'0') % 10))
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&[])
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }
}

impl fmt::Display for StatusLine {
    /// Bytes outside printable ASCII are escaped, so that a proxy cannot steer a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.as_bytes().trim_ascii_end();
        bytes.iter().try_for_each(|byte| match byte {
            b' '..=b'~' => write!(f, "{}", char::from(*byte)),
            _ => write!(f, "{}", byte.escape_ascii()),
        })
    }
}

impl fmt::Debug for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusLine({self})")
    }
}

/// One request to one proxy.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    output: Buffer<MAX_REQUEST>,
    status_line: StatusLine,
    /// Bytes of the status line so far, kept or not.
    in_line: usize,
    received: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    InStatusLine,
    InFields { line: Line, is_final: bool },
    Connected,
    Failed(Error),
}

/// A line after the status line, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    /// "\r"
    Ending,
    Text,
}

impl Handshake {
    /// A request to connect to `target`.
    ///
    /// # Errors
    /// [`Error::NameNotCarried`]
    pub fn new(target: &Target, credentials: Option<Credentials<'_>>) -> Result<Self, Error> {
        let authority = authority(target)?;
        let mut output = Buffer::new();
        for part in
            [&b"CONNECT "[..], authority.as_slice(), b" HTTP/1.1\r\nHost: ", authority.as_slice(), b"\r\n"]
        {
            output.push(part);
        }
        if let Some(credentials) = credentials {
            output.push(b"Proxy-Authorization: Basic ");
            push_base64(&mut output, credentials);
            output.push(b"\r\n");
        }
        output.push(b"\r\n");
        let status_line = StatusLine::EMPTY;
        Ok(Self { state: State::Sending, output, status_line, in_line: 0, received: 0 })
    }

    /// What to do now. Being asked for a [`Step::Send`] counts as having sent it.
    pub fn next_step(&mut self) -> Step<'_> {
        match self.state {
            State::Sending => {
                self.state = State::InStatusLine;
                Step::Send(self.output.as_slice())
            }
            State::InStatusLine => Step::Receive((MIN_LINE + 2).saturating_sub(self.in_line).max(2)),
            State::InFields { line: Line::Text, .. } => Step::Receive(2),
            State::InFields { line: Line::Empty | Line::Ending, .. } | State::Failed(_) => Step::Receive(1),
            State::Connected => Step::Connected,
        }
    }

    /// Takes bytes from the proxy: any number up to the last [`Step::Receive`].
    ///
    /// # Errors
    /// [`Error`] when the proxy refuses or does not speak HTTP, at the earliest byte that shows it. The handshake is over then.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for byte in bytes {
            let next = match self.state {
                State::Sending | State::Connected => return Ok(()),
                State::Failed(error) => Err(error),
                _ if self.received >= MAX_HEADER => Err(Error::TooLong),
                State::InStatusLine => self.take_of_status_line(*byte),
                State::InFields { line, is_final } => Ok(take_of_fields(*byte, line, is_final)),
            };
            self.received += 1;
            self.state = next.unwrap_or_else(State::Failed);
            next?;
        }
        Ok(())
    }

    fn take_of_status_line(&mut self, byte: u8) -> Result<State, Error> {
        if byte == b'\n' && self.in_line >= MIN_LINE {
            let line = core::mem::replace(&mut self.status_line, StatusLine::EMPTY);
            self.in_line = 0;
            return match line.status() {
                // Another protocol on this connection is not what we asked for.
                101 => Err(Error::Refused(line)),
                100..200 => Ok(State::InFields { line: Line::Empty, is_final: false }),
                200..300 => Ok(State::InFields { line: Line::Empty, is_final: true }),
                _ => Err(Error::Refused(line)),
            };
        }
        self.status_line.push(byte);
        let fits = match self.in_line {
            at @ 0..=6 => b"HTTP/1.".get(at) == Some(&byte),
            7 | 10 | 11 => byte.is_ascii_digit(),
            8 => byte == b' ',
            9 => matches!(byte, b'1'..=b'9'),
            12 => matches!(byte, b' ' | b'\r'),
            _ => true,
        };
        self.in_line += 1;
        if fits { Ok(State::InStatusLine) } else { Err(Error::NotHttp(self.status_line)) }
    }
}

fn take_of_fields(byte: u8, line: Line, is_final: bool) -> State {
    let line = match (line, byte) {
        (Line::Empty | Line::Ending, b'\n') if is_final => return State::Connected,
        (Line::Empty | Line::Ending, b'\n') => return State::InStatusLine,
        (Line::Text, b'\n') => Line::Empty,
        (Line::Empty, b'\r') => Line::Ending,
        _ => Line::Text,
    };
    State::InFields { line, is_final }
}

/// Host and port as they stand in a request (RFC 9112 section 3.2.3).
fn authority(target: &Target) -> Result<Buffer<MAX_AUTHORITY>, Error> {
    let mut text = Buffer::new();
    // The buffer takes whatever it is given, so nothing here fails.
    let _ = match &target.host {
        Host::Address(address) => {
            let address = SocketAddr::new(address.to_canonical(), target.port);
            fmt::write(&mut text, format_args!("{address}"))
        }
        Host::Name(name) => {
            if !name.as_bytes().iter().all(is_of_name) {
                return Err(Error::NameNotCarried);
            }
            text.push(name.as_bytes());
            fmt::write(&mut text, format_args!(":{}", target.port))
        }
    };
    Ok(text)
}

/// What a name may hold (RFC 3986 section 3.2.2, `reg-name`) but for escapes, which proxies do not agree upon.
fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte)
}

/// "user:password" in base64 (RFC 4648 section 4).
fn push_base64(output: &mut Buffer<MAX_REQUEST>, credentials: Credentials<'_>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut pair = Buffer::<MAX_PAIR>::new();
    pair.push(credentials.user);
    pair.push(b":");
    pair.push(credentials.password);
    for group in pair.as_slice().chunks(3) {
        let bits = group.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET.get(bits >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            output.push(&[if place > group.len() { b'=' } else { letter }]);
        }
    }
}
