//! The client's side of SOCKS5: method negotiation (RFC 1928 section 3), user name and password (RFC 1929), CONNECT, BIND and
//! UDP ASSOCIATE (RFC 1928 sections 4–6); [`datagram`] has the header of section 7, [`gssapi`] the messages of RFC 1961.
//!
//! A [`Handshake`] does no I/O. Its caller asks [`Handshake::next_step`] what to do, sends what it is told to send, receives *at
//! most* as many bytes as it is told to, and hands them to [`Handshake::handle_input`] in pieces of any size. The machine never asks for a
//! byte beyond the proxy's reply: the byte after it belongs to the program, and may already be waiting.

pub mod datagram;
pub mod gssapi;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::buffer::Buffer;
use crate::name::Name;
pub use crate::step::Step;
pub use crate::target::{Host, Target};

const VERSION: u8 = 5;
const AUTH_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const BIND: u8 = 2;
const UDP_ASSOCIATE: u8 = 3;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
const METHOD_REFUSED: u8 = 0xff;
const TYPE_V4: u8 = 1;
const TYPE_NAME: u8 = 3;
const TYPE_V6: u8 = 4;

/// Longest message that we send: an RFC 1929 request with two fields of 255 bytes.
const MAX_MESSAGE: usize = 3 + 255 + 255;
/// Longest message that we receive: a reply with a bound address of 255 bytes by name.
const MAX_REPLY: usize = 4 + 1 + 255 + 2;

/// User name and password of RFC 1929: 1 to 255 bytes and 0 to 255 bytes.
///
/// The RFC asks for at least one byte of password too; servers take an empty one, and users have them.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// `None` when a field does not fit RFC 1929.
    #[must_use]
    pub fn new(user: &'a [u8], password: &'a [u8]) -> Option<Self> {
        ((1..=255).contains(&user.len()) && password.len() <= 255).then_some(Self { user, password })
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Why the proxy did not connect us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A message began with this byte instead of its version: the peer does not speak SOCKS5.
    NotSocks5(u8),
    /// The proxy accepts none of the methods that we offered.
    NoAcceptableMethod,
    /// The proxy chose a method that we did not offer.
    UnofferedMethod(u8),
    /// RFC 1929: the user name or password was rejected with this status.
    AuthenticationRejected(u8),
    /// The request failed with this reply code (RFC 1928 section 6).
    Refused(ReplyCode),
    /// A reply carries an address of an unknown type.
    BadAddressType(u8),
}

/// A reply code other than 0 (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyCode(pub u8);

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            1 => "general SOCKS server failure",
            2 => "connection not allowed by ruleset",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 => "command not supported",
            8 => "address type not supported",
            // Tor's, on a port with ExtendedErrors (its proposal 304).
            0xf0 => "the onion service's descriptor is not found",
            0xf1 => "the onion service's descriptor is not valid",
            0xf2 => "the onion service cannot be introduced to",
            0xf3 => "the onion service cannot be met",
            0xf4 => "the onion service wants a client authorisation",
            0xf5 => "the onion service refuses our client authorisation",
            0xf6 => "the onion address is not valid",
            0xf7 => "the introduction to the onion service took too long",
            _ => "unassigned",
        };
        write!(f, "{meaning} (reply {})", self.0)
    }
}

/// One request to one SOCKS5 proxy.
#[derive(Debug)]
pub struct Handshake<'a> {
    command: u8,
    target: Target,
    bound: Option<Target>,
    credentials: Option<Credentials<'a>>,
    is_pipelined: bool,
    insists: bool,
    is_authenticated: bool,
    state: State,
    output: Buffer<MAX_MESSAGE>,
    input: Buffer<MAX_REPLY>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Sending a message whose answer is `Awaiting…`.
    Sending(Answer),
    Awaiting(Answer),
    Connected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Method,
    Authentication,
    Reply,
}

impl<'a> Handshake<'a> {
    /// A handshake that starts by offering "no authentication", and user and password where there are any.
    #[must_use]
    pub fn new(target: Target, credentials: Option<Credentials<'a>>) -> Self {
        let mut output = Buffer::new();
        match credentials {
            Some(_) => output.push(&[VERSION, 2, METHOD_NONE, METHOD_PASSWORD]),
            None => output.push(&[VERSION, 1, METHOD_NONE]),
        }
        let state = State::Sending(Answer::Method);
        let (command, bound, input) = (CONNECT, None, Buffer::new());
        Self {
            command,
            target,
            bound,
            credentials,
            is_pipelined: false,
            insists: false,
            is_authenticated: false,
            state,
            output,
            input,
        }
    }

    /// Offers user and password alone, so that a proxy which would let anybody in, and may be another than it is taken for, is refused. Only
    /// where there are credentials, and before the first step.
    #[must_use]
    pub fn insisting(self) -> Self {
        if self.credentials.is_none() {
            return self;
        }
        let mut output = Buffer::new();
        output.push(&[VERSION, 1, METHOD_PASSWORD]);
        Self { output, insists: true, ..self }
    }

    /// Asks for BIND instead of CONNECT: the proxy listens, and lets the target connect to it. [`Handshake::bound`] is then where it listens;
    /// who has come is in a second reply, for which there is [`Handshake::second_reply`]. Only before the first step.
    #[must_use]
    pub fn binding(self) -> Self {
        Self { command: BIND, ..self }
    }

    /// The rest of a BIND, after [`Step::Connected`]: waits for the second reply, of which [`Handshake::bound`] is who has connected.
    #[must_use]
    pub fn second_reply() -> Self {
        let nobody = Target { host: Host::Address(Ipv4Addr::UNSPECIFIED.into()), port: 0 };
        Self { state: State::Awaiting(Answer::Reply), ..Self::new(nobody, None).binding() }
    }

    /// Has the proxy taken the credentials, rather than let us in without?
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Has the request itself been sent? What is waited for then is the proxy's connection to the target, not the proxy.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.is_pipelined
            || matches!(
                self.state,
                State::Sending(Answer::Reply) | State::Awaiting(Answer::Reply) | State::Connected
            )
    }

    /// Has the proxy let us in, been asked to connect to the target, and not begun to answer? A server that closes the connection then has
    /// failed to connect to it and says so in this way, as OpenSSH does.
    #[must_use]
    pub fn awaits_reply(&self) -> bool {
        let is_empty = self.input.as_slice().is_empty();
        self.command == CONNECT && self.state == State::Awaiting(Answer::Reply) && is_empty
    }

    /// Do greeting and request go in one flight?
    #[must_use]
    pub fn is_pipelined(&self) -> bool {
        self.is_pipelined
    }

    /// A handshake for UDP ASSOCIATE. It does not say where the datagrams will come from: behind a translator of addresses (NAT)
    /// nobody knows, and RFC 1928 section 4 has zeros for that.
    #[must_use]
    pub fn associate(credentials: Option<Credentials<'a>>) -> Self {
        let anywhere = Target { host: Host::Address(Ipv4Addr::UNSPECIFIED.into()), port: 0 };
        Self { command: UDP_ASSOCIATE, ..Self::new(anywhere, credentials) }
    }

    /// A handshake that sends greeting and request in one flight, offering "no authentication" alone: one round trip less. The RFC
    /// allows it, but there are servers that lose the request and never answer, so only for a proxy that is known to take it.
    #[must_use]
    pub fn pipelined(target: Target) -> Self {
        let mut handshake = Self::new(target, None);
        handshake.push_request();
        handshake.is_pipelined = true;
        handshake
    }

    /// Goes on where a method of another's has ended: the request comes first, without a greeting. Before the first step.
    #[must_use]
    pub fn past_authentication(mut self) -> Self {
        self.send_request();
        self
    }

    /// The bound address of the reply: for UDP ASSOCIATE where the datagrams are to be sent, for BIND where the proxy listens, or who has connected. `None` before [`Step::Connected`], and when the proxy
    /// gave a name that is none.
    #[must_use]
    pub fn bound(&self) -> Option<Target> {
        self.bound
    }

    /// What to do now. Being asked for a [`Step::Send`] counts as having sent it.
    pub fn next_step(&mut self) -> Step<'_> {
        match self.state {
            State::Sending(answer) => {
                self.state = State::Awaiting(answer);
                Step::Send(self.output.as_slice())
            }
            State::Awaiting(answer) => Step::Receive(self.missing(answer)),
            State::Connected => Step::Connected,
        }
    }

    /// Takes bytes from the proxy: any number up to the last [`Step::Receive`].
    ///
    /// # Errors
    /// [`Error`] when the proxy refuses or does not speak SOCKS5, at the earliest byte that shows it. The handshake is over then.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let State::Awaiting(answer) = self.state else {
            return Ok(());
        };
        self.input.push(bytes);
        self.check_version(answer)?;
        if self.missing(answer) > 0 {
            return self.check_reply_code(answer);
        }
        match answer {
            Answer::Method => self.handle_method()?,
            Answer::Authentication => self.handle_authentication()?,
            Answer::Reply => self.handle_reply()?,
        }
        self.input = Buffer::new();
        Ok(())
    }

    /// How many bytes are certain to belong to the awaited message and have not come yet.
    fn missing(&self, answer: Answer) -> usize {
        let whole = match (answer, self.input.as_slice()) {
            (Answer::Method | Answer::Authentication, _) => 2,
            // Version, code, reserved, type; then what the type says. A name's length is in its first byte.
            (Answer::Reply, [_, _, _, TYPE_V4, ..]) => 4 + 4 + 2,
            (Answer::Reply, [_, _, _, TYPE_V6, ..]) => 4 + 16 + 2,
            (Answer::Reply, [_, _, _, TYPE_NAME, len, ..]) => 4 + 1 + usize::from(*len) + 2,
            (Answer::Reply, [_, _, _, TYPE_NAME]) => 5,
            (Answer::Reply, _) => 4,
        };
        whole.saturating_sub(self.input.as_slice().len())
    }

    fn check_version(&self, answer: Answer) -> Result<(), Error> {
        match (answer, self.input.as_slice().first()) {
            (Answer::Authentication, Some(&AUTH_VERSION)) => Ok(()),
            // Some servers answer the sub-negotiation with SOCKS' version instead of its own.
            (_, Some(&VERSION)) | (_, None) => Ok(()),
            (_, Some(&other)) => Err(Error::NotSocks5(other)),
        }
    }

    /// A failure is known from the second byte on; some servers never send the rest.
    fn check_reply_code(&self, answer: Answer) -> Result<(), Error> {
        match (answer, self.input.as_slice()) {
            (Answer::Reply, [_, code, ..]) if *code != 0 => Err(Error::Refused(ReplyCode(*code))),
            (Answer::Reply, [_, _, _, kind, ..]) if ![TYPE_V4, TYPE_NAME, TYPE_V6].contains(kind) => {
                Err(Error::BadAddressType(*kind))
            }
            _ => Ok(()),
        }
    }

    fn handle_method(&mut self) -> Result<(), Error> {
        match (self.input.as_slice().get(1).copied(), self.credentials) {
            (Some(METHOD_NONE), _) if self.is_pipelined => self.state = State::Awaiting(Answer::Reply),
            (Some(METHOD_NONE), _) if !self.insists => self.send_request(),
            (Some(METHOD_PASSWORD), Some(credentials)) => self.send_credentials(credentials),
            (Some(METHOD_REFUSED), _) | (None, _) => return Err(Error::NoAcceptableMethod),
            (Some(other), _) => return Err(Error::UnofferedMethod(other)),
        }
        Ok(())
    }

    fn handle_authentication(&mut self) -> Result<(), Error> {
        match self.input.as_slice().get(1).copied() {
            Some(0) => {
                self.is_authenticated = true;
                self.send_request();
            }
            status => return Err(Error::AuthenticationRejected(status.unwrap_or(u8::MAX))),
        }
        Ok(())
    }

    fn handle_reply(&mut self) -> Result<(), Error> {
        self.check_reply_code(Answer::Reply)?;
        let [_, _, _, address @ ..] = self.input.as_slice() else { return Ok(()) };
        self.bound = read_target(address).map(|(target, _)| target);
        self.state = State::Connected;
        Ok(())
    }

    fn send_credentials(&mut self, credentials: Credentials<'a>) {
        self.output = Buffer::new();
        self.output.push(&[AUTH_VERSION]);
        self.output.push_counted(credentials.user);
        self.output.push_counted(credentials.password);
        self.state = State::Sending(Answer::Authentication);
    }

    fn send_request(&mut self) {
        self.output = Buffer::new();
        self.push_request();
        self.state = State::Sending(Answer::Reply);
    }

    fn push_request(&mut self) {
        self.output.push(&[VERSION, self.command, 0]);
        self.output.push_target(&self.target);
    }
}

/// Address type, address and port (RFC 1928 section 5), and what comes after them; `None` when it is none, or not whole.
fn read_target(bytes: &[u8]) -> Option<(Target, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (host, rest) = match *kind {
        TYPE_V4 => {
            let (address, rest) = rest.split_first_chunk::<4>()?;
            (Host::Address(Ipv4Addr::from(*address).into()), rest)
        }
        TYPE_V6 => {
            let (address, rest) = rest.split_first_chunk::<16>()?;
            (Host::Address(Ipv6Addr::from(*address).into()), rest)
        }
        TYPE_NAME => {
            let (len, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*len))?;
            (Host::Name(Name::new(name)?), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((Target { host, port: u16::from_be_bytes(*port) }, rest))
}

impl<const N: usize> Buffer<N> {
    /// Appends address type, address and port (RFC 1928 section 5).
    fn push_target(&mut self, target: &Target) {
        match target.host {
            Host::Address(address) => match address.to_canonical() {
                IpAddr::V4(v4) => {
                    self.push(&[TYPE_V4]);
                    self.push(&v4.octets());
                }
                IpAddr::V6(v6) => {
                    self.push(&[TYPE_V6]);
                    self.push(&v6.octets());
                }
            },
            Host::Name(name) => {
                self.push(&[TYPE_NAME]);
                self.push_counted(name.as_bytes());
            }
        }
        self.push(&target.port.to_be_bytes());
    }

    /// Appends a length byte and the bytes, which the types above keep to 255.
    fn push_counted(&mut self, more: &[u8]) {
        self.push(&[u8::try_from(more.len()).unwrap_or(u8::MAX)]);
        self.push(more);
    }
}
