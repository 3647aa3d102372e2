//! Why a connection did not come about: the errno that the program gets, and the sentence that the user reads.
//!
//! docs/errors.md has the same table for users.

mod chain;
mod handshake;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use presocks_proto::handshake::Error;
use presocks_proto::socks5;
use presocks_proto::target::Target;

pub(crate) use chain::At;

use super::gssapi::trouble::Told;
use super::plain::Plain;
use super::tls::trouble::Trouble;
use crate::policy::route::{NoDatagrams, Unproxied};
use crate::policy::{Denial, NoRoute};
use crate::proxy::Kind;

/// A failed attempt.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The proxy's own name cannot be resolved on this machine.
    ProxyName(io::Error),
    /// The connection to the proxy itself failed.
    ProxyUnreachable(io::Error),
    /// The proxy did not accept the connection in time.
    ProxyTimeout(Duration),
    /// The proxy closed or reset the connection in the middle of the handshake.
    ProxyClosed(Option<io::Error>),
    /// The proxy, which was spoken to in this protocol, closed the connection before it had said anything.
    ClosedUnheard(Kind),
    /// A SOCKS5 proxy did not answer the greeting in time. Had it begun to?
    GreetingTimeout(Duration, bool),
    /// The proxy has let us in and taken the request, and closed the connection instead of answering: OpenSSH's way (`ssh -D`) to say that the far side
    /// refuses, or does not know the name.
    NoReply,
    /// What the proxy said ends the handshake, or it cannot be asked.
    Handshake(Error),
    /// The proxy did not answer in time.
    AnswerTimeout(Duration),
    /// A stand-in address of another session.
    UnknownStandIn,
    /// What the proxy gives as its UDP relay's address cannot be sent to.
    NoRelay(Option<Box<Target>>),
    /// The chain carries no datagrams.
    NoDatagrams(NoDatagrams),
    /// The proxy's protocol has no BIND.
    NoBind,
    /// What the proxy gives as the address at which it listens is none.
    NoListener(Option<Box<Target>>),
    /// The proxy listens at an address of a family that the program's socket cannot have.
    OtherFamily(SocketAddr),
    /// The proxy has closed the connection that stood for its listening.
    ListensNoMore(Option<io::Error>),
    /// Somebody has come, and the program's listener takes nobody.
    NotBrought(io::Error),
    /// There is no TLS with the proxy.
    Tls(Box<Trouble>),
    /// There is no GSSAPI with the proxy.
    Gssapi(Box<Told>),
    /// In a chain of several proxies: one of them.
    At(Box<At>),
    /// The user wants connections kept apart, and no proxy on the way does.
    NotApart,
    /// It is at an address for which no proxy is asked.
    Unproxied(Unproxied),
    /// A rule forbids it.
    Denied(Denial),
    /// A name that a rule calls direct cannot be resolved on this machine.
    DirectName(io::Error),
    /// The program's socket is bound to this address and to a port, and would be connected to loopback.
    Bound(IpAddr),
    /// A direct connection failed as the kernel says.
    Direct(io::Error),
    /// The program's socket cannot be used.
    Socket(io::Error),
    /// The broker, which may have so many files open, has no descriptor left for a relay.
    Descriptors(u64),
}

impl Failure {
    /// The errno for the program.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::ProxyName(_)
            | Self::ProxyUnreachable(_)
            | Self::ProxyClosed(_)
            | Self::ClosedUnheard(_)
            | Self::Tls(_)
            | Self::NotApart
            | Self::Unproxied(_)
            | Self::Bound(_)
            | Self::Descriptors(_)
            | Self::NoRelay(_)
            | Self::NoDatagrams(_) => libc::ENETUNREACH,
            Self::NoBind
            | Self::NoListener(_)
            | Self::OtherFamily(_)
            | Self::ListensNoMore(_)
            | Self::NotBrought(_) => libc::EADDRNOTAVAIL,
            Self::Gssapi(trouble) => trouble.errno(),
            Self::At(at) => at.errno(),
            Self::ProxyTimeout(_) | Self::AnswerTimeout(_) | Self::GreetingTimeout(..) => libc::ETIMEDOUT,
            // Any failure may be meant, of which a refused connection is the commonest; and the one that comes at once. As for SOCKS4's 91.
            Self::NoReply => libc::ECONNREFUSED,
            Self::Handshake(error) => handshake::errno(error),
            Self::Denied(_) => libc::EACCES,
            Self::UnknownStandIn | Self::DirectName(_) => libc::EHOSTUNREACH,
            Self::Direct(error) | Self::Socket(error) => error.raw_os_error().unwrap_or(libc::ENETUNREACH),
        }
    }

    /// Failures with the same number have the same cause and are told once.
    pub(crate) fn cause(&self) -> u32 {
        match self {
            Self::ProxyUnreachable(error) => 0x100 + error.raw_os_error().unwrap_or(0).unsigned_abs(),
            Self::ProxyTimeout(_) => 1,
            Self::ProxyClosed(_) | Self::ClosedUnheard(_) => 2,
            Self::AnswerTimeout(_) | Self::GreetingTimeout(..) => 3,
            Self::UnknownStandIn => 4,
            Self::Handshake(error) => handshake::cause(error),
            Self::Direct(_) => 9,
            Self::Socket(_) => 10,
            Self::NoRelay(_) => 11,
            Self::NoDatagrams(_) => 12,
            Self::Denied(denial) => denial.cause(),
            Self::ProxyName(_) => 14,
            Self::DirectName(_) => 15,
            Self::NotApart => 20,
            Self::NoBind => 21,
            Self::NoListener(_) => 22,
            Self::OtherFamily(_) => 23,
            Self::ListensNoMore(_) => 24,
            Self::NotBrought(_) => 25,
            Self::NoReply => 26,
            Self::Unproxied(Unproxied::Group) => 30,
            Self::Unproxied(Unproxied::Link) => 31,
            Self::Bound(_) => 32,
            Self::Descriptors(_) => 33,
            Self::Tls(trouble) => 16 + trouble.cause(),
            Self::Gssapi(trouble) => 0x200 + trouble.cause(),
            Self::At(at) => at.cause(),
        }
    }

    /// Which of several proxies it is about.
    pub(crate) fn proxy(&self) -> Option<&str> {
        match self {
            Self::At(at) => Some(&at.proxy),
            _ => None,
        }
    }

    /// Might another address of the proxy do better?
    pub(crate) fn is_of_one_address(&self) -> bool {
        match self {
            Self::ProxyUnreachable(_) | Self::ProxyTimeout(_) | Self::Bound(_) => true,
            Self::At(at) => at.failure.is_of_one_address(),
            _ => false,
        }
    }

    /// Is it that the proxy takes no method of authentication that it was offered?
    pub(crate) fn is_about_the_method(&self) -> bool {
        use socks5::Error::{NoAcceptableMethod, UnofferedMethod};
        matches!(self, Self::Handshake(Error::Socks5(NoAcceptableMethod | UnofferedMethod(_))))
    }

    /// Is it what the proxy answers, in its protocol, rather than that it is none?
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Handshake(error) if handshake::is_an_answer(error))
    }

    /// Does it say that the proxy does not reach what it was asked for, if that can be told from what the proxy is itself? `has_asked`: had
    /// it been asked already?
    pub(crate) fn is_about_the_target(&self, has_asked: bool) -> bool {
        match self {
            Self::Handshake(error) => handshake::is_about_the_target(error),
            Self::NoReply => true,
            Self::AnswerTimeout(_) => has_asked,
            _ => false,
        }
    }

    /// Has the proxy closed the connection where others answer that they cannot connect?
    pub(crate) fn is_no_reply(&self) -> bool {
        match self {
            Self::NoReply => true,
            Self::At(at) => at.failure.is_no_reply(),
            _ => false,
        }
    }

    /// Has the proxy refused, in its way?
    pub(crate) fn is_of_the_proxy(&self) -> bool {
        matches!(
            self,
            Self::Handshake(Error::Socks5(socks5::Error::Refused(_)))
                | Self::ProxyClosed(_)
                | Self::ClosedUnheard(_)
        )
    }

    /// Will another attempt end alike?
    pub(crate) fn is_lasting(&self) -> bool {
        use socks5::Error::{AuthenticationRejected, NoAcceptableMethod, NotSocks5, Refused};
        matches!(
            self,
            Self::NoRelay(_)
                | Self::NoDatagrams(_)
                | Self::Handshake(Error::Socks5(
                    NotSocks5(_)
                        | NoAcceptableMethod
                        | AuthenticationRejected(_)
                        | Refused(socks5::ReplyCode(7))
                ))
        )
    }

    /// Must the socket stay as it is? So must one that was connected or listens, which was not touched, and one that its program has dissolved meanwhile and uses
    /// for something else.
    pub(crate) fn is_for_the_socket_to_stay(&self) -> bool {
        matches!(self.errno(), libc::EISCONN | libc::ECONNABORTED)
    }

    /// Is it for the user to know? What a direct connection or the program's own socket lacks, the program says.
    pub(crate) fn is_news(&self) -> bool {
        !matches!(self, Self::Direct(_) | Self::Socket(_))
    }
}

impl From<NoRoute> for Failure {
    fn from(why: NoRoute) -> Self {
        match why {
            NoRoute::UnknownStandIn => Self::UnknownStandIn,
            NoRoute::Denied(denial) => Self::Denied(denial),
            NoRoute::Unproxied(why) => Self::Unproxied(why),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProxyName(error) => write!(f, "the proxy's name cannot be resolved here: {}", Plain(error)),
            Self::ProxyUnreachable(error) => write!(f, "the proxy cannot be reached: {}", Plain(error)),
            Self::ProxyTimeout(limit) => {
                write!(f, "the proxy did not accept the connection within {limit:?}")
            }
            Self::ProxyClosed(None) => f.write_str("the proxy closed the connection during the handshake"),
            Self::ProxyClosed(Some(error)) => {
                write!(f, "the connection to the proxy broke during the handshake: {}", Plain(error))
            }
            Self::ClosedUnheard(kind) => {
                write!(f, "the proxy closed the connection without a word: {}", handshake::doubt(*kind))
            }
            Self::GreetingTimeout(limit, true) => write!(f, "the proxy did not answer within {limit:?}"),
            Self::GreetingTimeout(limit, false) => {
                let doubt = handshake::doubt(Kind::Socks5);
                write!(f, "the proxy did not answer within {limit:?}: {doubt}")
            }
            Self::NoReply => f.write_str(
                "the proxy closed the connection instead of answering the request, as OpenSSH (ssh -D) does when the destination refuses or its \
                 name is not known",
            ),
            Self::Handshake(error) => handshake::write(f, error),
            Self::AnswerTimeout(limit) => write!(f, "the proxy did not answer within {limit:?}"),
            Self::UnknownStandIn => f.write_str(
                "this address stands for a name of another session; look the name up again in this one",
            ),
            Self::NoRelay(None) => f.write_str("the proxy gives no address for its UDP relay"),
            Self::NoRelay(Some(target)) => {
                write!(f, "the proxy gives {target} as its UDP relay, which cannot be sent to")
            }
            Self::NoDatagrams(why) => why.fmt(f),
            Self::NoBind => f.write_str("its protocol has no way to listen (BIND); SOCKS has"),
            Self::NoListener(None) => f.write_str("the proxy does not say at which address it listens"),
            Self::NoListener(Some(target)) => {
                write!(f, "the proxy gives {target} as where it listens, which is no address and port")
            }
            Self::OtherFamily(at) => {
                write!(f, "the proxy listens at {at}, which is not of the family of the program's socket")
            }
            Self::NotBrought(error) => {
                write!(f, "the program's listener does not take the connection: {}", Plain(error))
            }
            Self::ListensNoMore(None) => f.write_str("the proxy has stopped listening: it closed the connection"),
            Self::ListensNoMore(Some(error)) => {
                write!(f, "the proxy has stopped listening: the connection broke: {}", Plain(error))
            }
            Self::Tls(trouble) => trouble.fmt(f),
            Self::Gssapi(trouble) => trouble.fmt(f),
            Self::NotApart => f.write_str(
                "no proxy of the chain supports isolation (--isolate): none asks for a user and password",
            ),
            Self::At(at) => at.fmt(f),
            Self::Unproxied(why) => why.fmt(f),
            Self::Denied(denial) => denial.fmt(f),
            Self::DirectName(error) => {
                write!(f, "a rule calls it direct, but the name cannot be resolved here: {}", Plain(error))
            }
            Self::Bound(own) => write!(
                f,
                "the program has bound its socket to {own} and a port: once that address has left this machine, so would the answers from loopback",
            ),
            Self::Descriptors(limit) => write!(
                f,
                "presocks may have {limit} files open, and connections that it carries itself use them all; raise the hard limit (ulimit -H -n)",
            ),
            Self::Direct(error) | Self::Socket(error) => Plain(error).fmt(f),
        }
    }
}
