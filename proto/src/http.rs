//! The client's side of HTTP CONNECT (RFC 9110 section 9.3.6, RFC 9112), with Basic authentication (RFC 7617).
//!
//! A [`Handshake`] does no I/O, and keeps the contract of [`crate::socks5`]: it never asks for a byte beyond the proxy's reply. Nothing
//! in a response says how long its header is, so no more is asked for than the shortest end that it can have: two bytes within a line
//! ("\n\n"), one at the beginning of one. A caller that can look at bytes without taking them asks for the reply's part of what it
//! sees ([`Handshake::part`]). Responses with 1xx are passed over; what becomes of a request is known by the status line, and
//! the rest of a refusal is not read, but for the fields of one that wants authentication, which name its methods. Of a response with 2xx the
//! fields are not looked at, as the RFC demands: it has no content.

use core::fmt;
use core::net::SocketAddr;

use crate::buffer::Buffer;
use crate::step::Step;
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
/// So much of a field is looked at.
const MAX_FIELD: usize = 256;
/// Methods of authentication that proxies offer (RFC 7617, 7616, 4559, 6750, and Microsoft's), and a word for all others.
const METHODS: [&str; 7] = ["Negotiate", "NTLM", "Kerberos", "Digest", "Basic", "Bearer", "another method"];
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

/// The first 64 bytes of a status line, without its end; and the methods of authentication that the fields below it offer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StatusLine {
    len: u8,
    bytes: [u8; MAX_LINE],
    /// A bit for each of [`METHODS`].
    methods: u8,
}

impl StatusLine {
    const EMPTY: Self = Self { len: 0, bytes: [0; MAX_LINE], methods: 0 };

    /// The methods that `Proxy-Authenticate` offers (RFC 9110 section 11.7.1); of a response with 401, those of `WWW-Authenticate`.
    pub fn methods(&self) -> impl Iterator<Item = &'static str> {
        let methods = self.methods;
        METHODS
            .into_iter()
            .enumerate()
            .filter(move |(place, _)| methods & 1 << place != 0)
            .map(|(_, name)| name)
    }

    /// Its first byte.
    #[must_use]
    pub fn first(&self) -> Option<u8> {
        self.as_bytes().first().copied()
    }

    /// Does it want authentication? 401 is an origin's, and yet what some proxies say.
    fn wants_authentication(&self) -> bool {
        matches!(self.status(), 401 | 407)
    }

    /// Takes the methods of a field, if it is one that names any.
    fn take_methods(&mut self, field: &[u8]) {
        let Some(colon) = field.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = field.split_at(colon);
        let wanted: &[u8] = if self.status() == 401 { b"www-authenticate" } else { b"proxy-authenticate" };
        if !name.eq_ignore_ascii_case(wanted) {
            return;
        }
        let mut is_quoted = false;
        let is_comma = |byte: &u8| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        };
        for challenge in value.get(1..).unwrap_or(&[]).split(is_comma) {
            let method =
                challenge.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or(&[]);
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            // What has an equals sign is a parameter of the one before.
            if !method.is_empty() && method.iter().all(is_name) {
                let is_it = |name: &&str| name.as_bytes().eq_ignore_ascii_case(method);
                self.methods |= 1 << METHODS.iter().position(is_it).unwrap_or(METHODS.len() - 1);
            }
        }
    }

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
#[derive(Clone, Debug)]
pub struct Handshake {
    state: State,
    /// The request; once it has been sent, the field that is coming in, of a response that wants authentication.
    buffer: Buffer<MAX_REQUEST>,
    status_line: StatusLine,
    /// Bytes of the status line so far, kept or not.
    in_line: usize,
    received: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    InStatusLine,
    InFields { line: Line, of: Response },
    Connected,
    Failed(Error),
}

/// Whose the fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    /// 1xx: another one follows.
    Interim,
    /// 2xx.
    Success,
    /// One that wants authentication.
    Refusal(StatusLine),
}

/// A line after the status line, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    /// "\r"
    Ending,
    Text,
}

impl Line {
    /// With one more byte; a line that ends is a new one, and empty.
    fn with(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'\n') => Self::Empty,
            (Self::Empty, b'\r') => Self::Ending,
            _ => Self::Text,
        }
    }
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
        Ok(Self { state: State::Sending, buffer: output, status_line, in_line: 0, received: 0 })
    }

    /// The refusal that is known already while its fields come in: what counts when no more of them come.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        match self.state {
            State::InFields { of: Response::Refusal(line), .. } => Some(Error::Refused(line)),
            _ => None,
        }
    }

    /// What to do now. Being asked for a [`Step::Send`] counts as having sent it.
    pub fn next_step(&mut self) -> Step<'_> {
        match self.state {
            State::Sending => {
                self.state = State::InStatusLine;
                Step::Send(self.buffer.as_slice())
            }
            State::InStatusLine => Step::Receive((MIN_LINE + 2).saturating_sub(self.in_line).max(2)),
            State::InFields { line: Line::Text, .. } => Step::Receive(2),
            State::InFields { line: Line::Empty | Line::Ending, .. } | State::Failed(_) => Step::Receive(1),
            State::Connected => Step::Connected,
        }
    }

    /// Takes bytes from the proxy: any number up to the last [`Step::Receive`], or to what [`Self::part`] said.
    ///
    /// # Errors
    /// [`Error`] when the proxy refuses or does not speak HTTP, at the earliest byte that shows it. The handshake is over then.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for byte in bytes {
            let next = match self.state {
                State::Sending | State::Connected => return Ok(()),
                State::Failed(error) => Err(error),
                _ if self.received >= MAX_HEADER => Err(self.refusal().unwrap_or(Error::TooLong)),
                State::InStatusLine => self.take_of_status_line(*byte),
                State::InFields { line, of: Response::Refusal(status) } => {
                    self.take_of_refusal(*byte, line, status)
                }
                State::InFields { line, of } => Ok(take_of_fields(*byte, line, of)),
            };
            self.received += 1;
            self.state = next.unwrap_or_else(State::Failed);
            next?;
        }
        Ok(())
    }

    /// How many of these bytes, which the proxy has sent and nobody has taken yet, are for this handshake: up to the end of the reply, or to the
    /// byte by which it fails. So many may be taken at once, whatever the last [`Step::Receive`] was.
    #[must_use]
    pub fn part(&self, ahead: &[u8]) -> usize {
        let mut trial = self.clone();
        let is_over = |byte| trial.handle_input(&[byte]).is_err() || trial.state == State::Connected;
        ahead.iter().copied().position(is_over).map_or(ahead.len(), |place| place + 1)
    }

    fn take_of_refusal(&mut self, byte: u8, line: Line, mut status: StatusLine) -> Result<State, Error> {
        if byte == b'\n' {
            if line != Line::Text {
                return Err(Error::Refused(status));
            }
            let field = self.buffer.as_slice();
            // What is longer is cut within a method, perhaps.
            let end =
                if field.len() < MAX_FIELD { None } else { field.iter().rposition(|byte| *byte == b',') };
            status.take_methods(field.get(..end.unwrap_or(field.len())).unwrap_or(field));
            self.buffer = Buffer::new();
        } else if self.buffer.as_slice().len() < MAX_FIELD {
            self.buffer.push(&[byte]);
        }
        Ok(State::InFields { line: line.with(byte), of: Response::Refusal(status) })
    }

    fn take_of_status_line(&mut self, byte: u8) -> Result<State, Error> {
        if byte == b'\n' && self.in_line >= MIN_LINE {
            let line = core::mem::replace(&mut self.status_line, StatusLine::EMPTY);
            self.in_line = 0;
            return match line.status() {
                // Another protocol on this connection is not what we asked for.
                101 => Err(Error::Refused(line)),
                100..200 => Ok(State::InFields { line: Line::Empty, of: Response::Interim }),
                200..300 => Ok(State::InFields { line: Line::Empty, of: Response::Success }),
                _ if line.wants_authentication() => {
                    self.buffer = Buffer::new();
                    Ok(State::InFields { line: Line::Empty, of: Response::Refusal(line) })
                }
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

fn take_of_fields(byte: u8, line: Line, of: Response) -> State {
    let is_end = matches!(line, Line::Empty | Line::Ending) && byte == b'\n';
    match of {
        Response::Success if is_end => State::Connected,
        Response::Interim if is_end => State::InStatusLine,
        of => State::InFields { line: line.with(byte), of },
    }
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
