//! The whole vocabulary between shim and broker: one [`Request`] and one [`Reply`] per ticket.
//!
//! A ticket is a fresh `SOCK_SEQPACKET` connection, so a frame is one packet of exactly [`LEN`] bytes, never split and
//! never joined. The socket that a request is about travels beside it by `SCM_RIGHTS` (see [`Request::carries_socket`]).
//! Anything that does not decode is an error for the receiver; nothing is guessed.
//! `layout` says where the fields lie.

mod device;
mod layout;

use core::net::{IpAddr, SocketAddr};

use crate::name::Name;
use crate::session::{Queue, Secret};
pub use device::DeviceValue;
use layout::Fields;

/// Length of every frame in bytes.
pub const LEN: usize = 312;

/// Most addresses in one reply.
pub const MAX_ADDRESSES: usize = 15;

/// An encoded frame.
pub type Frame = [u8; LEN];

/// The address families a resolver call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Whatever serves (`AF_UNSPEC`).
    Any,
    /// IPv4 only (`AF_INET`).
    V4,
    /// IPv6 only (`AF_INET6`).
    V6,
}

/// What the shim asks. Each is answered by exactly one [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a name is its largest part, and nothing here can allocate")]
pub enum Request {
    /// Connect the attached stream socket. Answer: [`Reply::Done`] once the far end is connected or has failed.
    Connect {
        /// Where the program wants to go; a stand-in means its name.
        destination: SocketAddr,
        /// The `SO_COOKIE` of the socket that is meant: a number may mean another by the time that it is attached.
        cookie: u64,
        /// The number of the program's descriptor, of which the signal speaks if there is to be one (`O_ASYNC`).
        number: i32,
    },
    /// Addresses for a name. Answer: [`Reply::Addresses`] or [`Reply::Done`] with an errno.
    Resolve {
        /// The name.
        name: Name,
        /// The families that the program can use.
        family: Family,
    },
    /// The name of an address. Answer: [`Reply::Name`], or [`Reply::Done`] with `ENOENT` when there is none.
    Reverse {
        /// The address; never looked up in the DNS.
        address: IpAddr,
    },
    /// Whom an address stands for to the socket with this cookie: where it was asked to connect to, if it is still connected as the
    /// broker left it, or who sent it a datagram. Answer: [`Reply::Address`], or [`Reply::Done`] with `ENOENT` for an address that stands for nobody.
    Peer {
        /// The socket's `SO_COOKIE`.
        cookie: u64,
        /// The address that getpeername(2) or recvfrom(2) gives: the proxy's, a sink's, a relay's, a token's.
        actual: SocketAddr,
    },
    /// A datagram socket's connect(), the socket attached, which the broker connects. Answer: [`Reply::Gate`]; [`Reply::Done`] with 0 when it is
    /// connected there, or to a token; when nothing may be sent, [`Reply::Address`] with the sink that it is connected to instead; or
    /// [`Reply::Done`] with an errno.
    DatagramConnect {
        /// Where the program wants to go.
        destination: SocketAddr,
    },
    /// A datagram for this destination, the socket attached. Answer: [`Reply::Direct`], [`Reply::Address`] with the token to which it is to
    /// be sent instead, or [`Reply::Done`] with an errno.
    DatagramSend {
        /// Where the program wants to send.
        destination: SocketAddr,
        /// Is the call one that does not wait (`MSG_DONTWAIT`)? The socket tells of itself.
        is_impatient: bool,
    },
    /// A datagram that goes to loopback, and from this address. Answer: [`Reply::Done`].
    DatagramHere {
        /// Its source: the socket's own address, or what a control message names.
        source: IpAddr,
    },
    /// A datagram on a socket that the broker has connected to a gate or a sink; it is attached. Answer: [`Reply::Direct`], [`Reply::Done`] with
    /// 0 when every such socket may send from now on, or with an errno.
    DatagramOpen {
        /// As for [`Request::DatagramSend`].
        is_impatient: bool,
    },
    /// A datagram socket's connect() to nothing (`AF_UNSPEC`), the socket attached. Answer: [`Reply::Done`].
    DatagramDissolve,
    /// An option of the attached socket that has its packets leave by a device other than lo. Answer: [`Reply::Done`] with the errno of
    /// setsockopt(2), or 0 when it is set.
    Device {
        /// The option's level.
        level: u32,
        /// The option's name.
        name: u16,
        /// Its value.
        value: DeviceValue,
    },
    /// A socket's bind() to an address off the machine, the socket attached. Answer: [`Reply::Direct`]; [`Reply::Address`] with the address to bind it to instead, when
    /// this one is the proxy's, as the broker has shown it.
    Bind {
        /// The address.
        address: SocketAddr,
    },
    /// A stream socket's listen(), the socket attached. Answer: [`Reply::Direct`]; [`Reply::Done`] with 0 when the proxy listens, and the socket does;
    /// or with an errno.
    Listen {
        /// How many connections may wait.
        backlog: i32,
    },
    /// A stream socket's getsockname(), the socket attached. Answer: [`Reply::Direct`], or [`Reply::Address`] with where the proxy listens for it, or
    /// where its connection comes from as its peer sees it.
    OwnAddress,
    /// How the connect ends that is under way on the socket with this cookie, in another process or for another thread. Answer: [`Reply::Done`] with its errno,
    /// or 0, or `ENOENT` when none is under way (nor has failed since somebody was told that it is). As long as it is waited for, the attempt goes on.
    Await {
        /// The socket's `SO_COOKIE`.
        cookie: u64,
        /// Is the answer to come at once? Then `EINPROGRESS` says that one is under way.
        is_impatient: bool,
    },
    /// Whether a signal is to tell of the end of the connect that is under way on the socket with this cookie (`O_ASYNC`). Answer: [`Reply::Done`] with 0, or
    /// `ENOENT` when none is under way.
    Signal {
        /// The socket's `SO_COOKIE`.
        cookie: u64,
        /// The number of the program's descriptor.
        number: i32,
        /// Is there to be one?
        is_on: bool,
    },
    /// The socket with this cookie is sent to another process, and its connect goes on even if nobody has it for a while. Answer: [`Reply::Done`] with 0, or
    /// `ENOENT` when none is under way.
    HandOn {
        /// The socket's `SO_COOKIE`.
        cookie: u64,
    },
}

/// What the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The operation ended with this errno, 0 for success.
    Done {
        /// An errno value as the kernel numbers them (errno(3)).
        errno: i32,
    },
    /// The program may go there itself.
    Direct,
    /// One socket address.
    Address(SocketAddr),
    /// The socket is connected to the broker, which takes datagrams to their destination.
    Gate {
        /// The broker's address.
        address: SocketAddr,
        /// Whether it is known that the proxy takes datagrams; else [`Request::DatagramOpen`] is to be asked before each.
        is_open: bool,
    },
    /// A list of addresses, never empty.
    Addresses(Addresses),
    /// A name.
    Name(Name),
}

/// Up to [`MAX_ADDRESSES`] addresses in their order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    len: usize,
    list: [Option<IpAddr>; MAX_ADDRESSES],
}

impl Addresses {
    /// The addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.list.iter().take(self.len).flatten().copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl FromIterator<IpAddr> for Addresses {
    /// Takes the first [`MAX_ADDRESSES`]; a longer list is cut, as a resolver's answer is.
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut all = Self::default();
        for (place, address) in all.list.iter_mut().zip(addresses) {
            *place = Some(address);
            all.len += 1;
        }
        all
    }
}

/// Why a frame was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not [`LEN`] bytes, another magic, or an unknown operation.
    NotAFrame,
    /// The secret is not the session's.
    WrongSecret,
    /// A field holds a value that no sender writes.
    BadField,
}

impl Request {
    /// Whether a socket is attached to this request.
    #[must_use]
    pub fn carries_socket(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::DatagramConnect { .. }
                | Self::DatagramSend { .. }
                | Self::DatagramOpen { .. }
                | Self::DatagramDissolve
                | Self::Device { .. }
                | Self::Bind { .. }
                | Self::Listen { .. }
                | Self::OwnAddress
        )
    }

    /// Where it waits for its turn.
    #[must_use]
    pub fn queue(&self) -> Queue {
        match self {
            Self::Connect { .. }
            | Self::Listen { .. }
            | Self::OwnAddress
            | Self::Await { is_impatient: false, .. } => Queue::InTurn,
            Self::Resolve { .. }
            | Self::Reverse { .. }
            | Self::Peer { .. }
            | Self::DatagramConnect { .. }
            | Self::DatagramSend { .. }
            | Self::DatagramHere { .. }
            | Self::DatagramOpen { .. }
            | Self::DatagramDissolve
            | Self::Device { .. }
            | Self::Bind { .. }
            | Self::HandOn { .. }
            | Self::Signal { .. }
            | Self::Await { is_impatient: true, .. } => Queue::AtOnce,
        }
    }

    /// The frame of this request, signed with the session's token.
    #[must_use]
    pub fn encode(&self, token: &Secret) -> Frame {
        let mut fields = Fields::new(token);
        match self {
            Self::Connect { destination, cookie, number } => {
                fields.operation = 1;
                fields.cookie = *cookie;
                fields.put_socket_address(*destination);
                fields.put_bytes(&number.to_be_bytes());
            }
            Self::Resolve { name, family } => {
                fields.operation = 2;
                fields.family = match family {
                    Family::Any => 0,
                    Family::V4 => 4,
                    Family::V6 => 6,
                };
                fields.put_name(name);
            }
            Self::Reverse { address } => {
                fields.operation = 3;
                fields.address = Some(*address);
            }
            Self::Peer { cookie, actual } => {
                fields.operation = 4;
                fields.put_socket_address(*actual);
                fields.cookie = *cookie;
            }
            Self::DatagramConnect { destination } => {
                fields.operation = 5;
                fields.put_socket_address(*destination);
            }
            Self::DatagramSend { destination, is_impatient } => {
                fields.operation = 6;
                fields.family = (*is_impatient).into();
                fields.put_socket_address(*destination);
            }
            Self::DatagramOpen { is_impatient } => {
                fields.operation = 7;
                fields.family = (*is_impatient).into();
            }
            Self::Device { level, name, value } => {
                fields.operation = 8;
                fields.number = *level;
                fields.port = *name;
                fields.put_bytes(value.as_bytes());
            }
            Self::DatagramDissolve => fields.operation = 9,
            Self::Bind { address } => {
                fields.operation = 10;
                fields.put_socket_address(*address);
            }
            Self::Listen { backlog } => {
                fields.operation = 11;
                fields.number = backlog.cast_unsigned();
            }
            Self::OwnAddress => fields.operation = 12,
            Self::Await { cookie, is_impatient } => {
                fields.operation = 13;
                fields.family = (*is_impatient).into();
                fields.cookie = *cookie;
            }
            Self::DatagramHere { source } => {
                fields.operation = 14;
                fields.address = Some(*source);
            }
            Self::HandOn { cookie } => {
                fields.operation = 15;
                fields.cookie = *cookie;
            }
            Self::Signal { cookie, number, is_on } => {
                fields.operation = 16;
                fields.cookie = *cookie;
                fields.number = number.cast_unsigned();
                fields.family = (*is_on).into();
            }
        }
        fields.encode()
    }

    /// Reads a packet as a request.
    ///
    /// # Errors
    /// [`Malformed`] when the packet is not what [`Request::encode`] writes with this token.
    pub fn decode(packet: &[u8], token: &Secret) -> Result<Self, Malformed> {
        let request = Self::read(&Fields::decode(packet, token)?)?;
        if request.encode(token) == *packet { Ok(request) } else { Err(Malformed::BadField) }
    }

    fn read(fields: &Fields) -> Result<Self, Malformed> {
        match fields.operation {
            1 => Ok(Self::Connect {
                destination: fields.socket_address()?,
                cookie: fields.cookie,
                number: fields
                    .bytes()?
                    .try_into()
                    .map(i32::from_be_bytes)
                    .map_err(|_| Malformed::BadField)?,
            }),
            2 => {
                let family = match fields.family {
                    0 => Family::Any,
                    4 => Family::V4,
                    6 => Family::V6,
                    _ => return Err(Malformed::BadField),
                };
                Ok(Self::Resolve { name: fields.name()?, family })
            }
            3 => Ok(Self::Reverse { address: fields.address.ok_or(Malformed::BadField)? }),
            4 => Ok(Self::Peer { cookie: fields.cookie, actual: fields.socket_address()? }),
            5 => Ok(Self::DatagramConnect { destination: fields.socket_address()? }),
            6 => {
                let is_impatient = fields.flag()?;
                Ok(Self::DatagramSend { destination: fields.socket_address()?, is_impatient })
            }
            7 => Ok(Self::DatagramOpen { is_impatient: fields.flag()? }),
            8 => {
                let value = DeviceValue::new(fields.bytes()?);
                Ok(Self::Device { level: fields.number, name: fields.port, value })
            }
            9 => Ok(Self::DatagramDissolve),
            10 => Ok(Self::Bind { address: fields.socket_address()? }),
            11 => Ok(Self::Listen { backlog: fields.number.cast_signed() }),
            12 => Ok(Self::OwnAddress),
            13 => Ok(Self::Await { cookie: fields.cookie, is_impatient: fields.flag()? }),
            14 => Ok(Self::DatagramHere { source: fields.address.ok_or(Malformed::BadField)? }),
            15 => Ok(Self::HandOn { cookie: fields.cookie }),
            16 => Ok(Self::Signal {
                cookie: fields.cookie,
                number: fields.number.cast_signed(),
                is_on: fields.flag()?,
            }),
            _ => Err(Malformed::NotAFrame),
        }
    }
}

impl Reply {
    /// The frame of this reply, signed with the session's proof.
    #[must_use]
    pub fn encode(&self, proof: &Secret) -> Frame {
        let mut fields = Fields::new(proof);
        match self {
            Self::Done { errno } => {
                fields.operation = 129;
                fields.number = errno.cast_unsigned();
            }
            Self::Direct => fields.operation = 130,
            Self::Address(address) => {
                fields.operation = 131;
                fields.put_socket_address(*address);
            }
            Self::Addresses(addresses) => {
                fields.operation = 132;
                fields.put_addresses(addresses);
            }
            Self::Name(name) => {
                fields.operation = 133;
                fields.put_name(name);
            }
            Self::Gate { address, is_open } => {
                fields.operation = 134;
                fields.family = (*is_open).into();
                fields.put_socket_address(*address);
            }
        }
        fields.encode()
    }

    /// Reads a packet as a reply.
    ///
    /// # Errors
    /// [`Malformed`] when the packet is not what [`Reply::encode`] writes with this proof.
    pub fn decode(packet: &[u8], proof: &Secret) -> Result<Self, Malformed> {
        let reply = Self::read(&Fields::decode(packet, proof)?)?;
        if reply.encode(proof) == *packet { Ok(reply) } else { Err(Malformed::BadField) }
    }

    fn read(fields: &Fields) -> Result<Self, Malformed> {
        match fields.operation {
            129 => Ok(Self::Done { errno: fields.number.cast_signed() }),
            130 => Ok(Self::Direct),
            131 => Ok(Self::Address(fields.socket_address()?)),
            132 => Ok(Self::Addresses(fields.addresses()?)),
            133 => Ok(Self::Name(fields.name()?)),
            134 => Ok(Self::Gate { address: fields.socket_address()?, is_open: fields.flag()? }),
            _ => Err(Malformed::NotAFrame),
        }
    }
}

#[cfg(test)]
mod tests;
