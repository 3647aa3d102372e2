//! The client's side of SOCKS4 and SOCKS4a: CONNECT and BIND. There is no RFC; the sources are Ying-Da Lee's "SOCKS: A protocol for TCP proxy
//! across firewalls" (socks4.protocol) and "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol" (socks4a.protocol).
//!
//! A [`Handshake`] does no I/O, and keeps the contract of [`crate::socks5`]: it never asks for a byte beyond the proxy's reply.
//! What the protocol cannot carry (names by SOCKS4, IPv6 addresses by either) is an error before there is anything to send.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use crate::buffer::Buffer;
use crate::step::Step;
use crate::target::{Host, Target};

const VERSION: u8 = 4;
const CONNECT: u8 = 1;
const BIND: u8 = 2;
/// The reply's version is that of the reply: 0. Some servers send the protocol's.
const REPLY_VERSIONS: [u8; 2] = [0, VERSION];
const GRANTED: u8 = 90;
/// In the address's stead; a name follows the user's (SOCKS4a).
const NAME_FOLLOWS: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);

/// Version, command, port, address; user and name, each with the NUL that ends it.
const MAX_REQUEST: usize = 8 + 255 + 1 + 255 + 1;
/// Version, code, port and address; the last two say nothing to who asked for CONNECT.
const REPLY: usize = 8;

/// Which of the two is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// SOCKS4: IPv4 addresses.
    V4,
    /// SOCKS4a: names as well.
    V4a,
}

/// The user's name, which no password proves: 0 to 255 bytes, none of them NUL.
#[derive(Clone, Copy, Default)]
pub struct User<'a>(&'a [u8]);

impl<'a> User<'a> {
    /// `None` when it is longer, or holds a NUL.
    #[must_use]
    pub fn new(name: &'a [u8]) -> Option<Self> {
        (name.len() <= 255 && !name.contains(&0)).then_some(Self(name))
    }
}

impl fmt::Debug for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(…)")
    }
}

/// Why the proxy did not connect us, or was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// SOCKS4 carries no names.
    NameNotCarried,
    /// Neither SOCKS4 nor SOCKS4a carries IPv6 addresses.
    Ipv6NotCarried,
    /// An address of 0.0.0.1 to 0.0.0.255: a proxy would wait for a name to follow.
    AddressNotCarried,
    /// The reply began with this byte instead of its version: the peer does not speak SOCKS4.
    NotSocks4(u8),
    /// The request failed with this code.
    Refused(ReplyCode),
}

/// A reply code other than 90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyCode(pub u8);

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            91 => "request rejected or failed",
            92 => "no identd on this machine can be reached",
            93 => "identd names another user",
            _ => "unassigned",
        };
        write!(f, "{meaning} (reply {})", self.0)
    }
}

/// One request to one proxy.
#[derive(Debug)]
pub struct Handshake {
    is_bind: bool,
    state: State,
    output: Buffer<MAX_REQUEST>,
    input: Buffer<REPLY>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    Awaiting,
    Connected,
}

impl Handshake {
    /// A request to connect to `target`.
    ///
    /// # Errors
    /// The three of [`Error`] by which the target cannot be asked for.
    pub fn new(version: Version, target: &Target, user: User<'_>) -> Result<Self, Error> {
        Self::ask(CONNECT, version, target, user)
    }

    /// A request that the proxy listen, and let `target` connect to it. [`Handshake::bound`] is then where it listens; who has come is in a second
    /// reply, for which there is [`Handshake::second_reply`].
    ///
    /// # Errors
    /// As of [`Handshake::new`].
    pub fn binding(version: Version, target: &Target, user: User<'_>) -> Result<Self, Error> {
        Self::ask(BIND, version, target, user)
    }

    /// The rest of a BIND, after [`Step::Connected`]: waits for the second reply, of which [`Handshake::bound`] is who has connected.
    #[must_use]
    pub fn second_reply() -> Self {
        Self { is_bind: true, state: State::Awaiting, output: Buffer::new(), input: Buffer::new() }
    }

    fn ask(command: u8, version: Version, target: &Target, user: User<'_>) -> Result<Self, Error> {
        let (address, name) = match &target.host {
            Host::Address(address) => match address.to_canonical() {
                IpAddr::V4(v4) if matches!(v4.to_bits(), 1..=255) => {
                    return Err(Error::AddressNotCarried);
                }
                IpAddr::V4(v4) => (v4, None),
                IpAddr::V6(_) => return Err(Error::Ipv6NotCarried),
            },
            Host::Name(name) if version == Version::V4a => (NAME_FOLLOWS, Some(name)),
            Host::Name(_) => return Err(Error::NameNotCarried),
        };
        let mut output = Buffer::new();
        output.push(&[VERSION, command]);
        output.push(&target.port.to_be_bytes());
        output.push(&address.octets());
        output.push(user.0);
        output.push(&[0]);
        if let Some(name) = name {
            output.push(name.as_bytes());
            output.push(&[0]);
        }
        Ok(Self { is_bind: command == BIND, state: State::Sending, output, input: Buffer::new() })
    }

    /// For BIND where the proxy listens, or who has connected. `None` before [`Step::Connected`], and of CONNECT, whose replies hold anything there.
    #[must_use]
    pub fn bound(&self) -> Option<Target> {
        let [_, _, port_high, port_low, address @ ..] = self.input.as_slice() else { return None };
        let address: [u8; 4] = address.try_into().ok().filter(|_| self.is_bind)?;
        let port = u16::from_be_bytes([*port_high, *port_low]);
        Some(Target { host: Host::Address(Ipv4Addr::from(address).into()), port })
    }

    /// What to do now. Being asked for a [`Step::Send`] counts as having sent it.
    pub fn next_step(&mut self) -> Step<'_> {
        match self.state {
            State::Sending => {
                self.state = State::Awaiting;
                Step::Send(self.output.as_slice())
            }
            State::Awaiting => Step::Receive(self.missing()),
            State::Connected => Step::Connected,
        }
    }

    /// Takes bytes from the proxy: any number up to the last [`Step::Receive`].
    ///
    /// # Errors
    /// [`Error`] when the proxy refuses or does not speak SOCKS4, at the earliest byte that shows it. The handshake is over then.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.state != State::Awaiting {
            return Ok(());
        }
        self.input.push(bytes);
        match self.input.as_slice() {
            [version, ..] if !REPLY_VERSIONS.contains(version) => Err(Error::NotSocks4(*version)),
            [_, code, ..] if *code != GRANTED => Err(Error::Refused(ReplyCode(*code))),
            _ => {
                if self.missing() == 0 {
                    self.state = State::Connected;
                }
                Ok(())
            }
        }
    }

    fn missing(&self) -> usize {
        REPLY.saturating_sub(self.input.as_slice().len())
    }
}
