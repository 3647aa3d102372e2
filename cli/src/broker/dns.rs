//! What a session's name server says: stand-ins for names, names for stand-ins (RFC 1035), and what the DNS says of all else.
//!
//! For programs that ask name servers themselves. Addresses are answered from [`Names`], without a question to anybody, so that
//! what is connected to is a name, and the far side resolves it. Records that are no addresses (MX, TXT, SRV, …) come from a name
//! server that is asked through the proxy (`upstream`).
//!
//! No bytes make it panic, and it never answers an answer, or two servers could go on for ever. A negative answer of ours has no
//! SOA, so nobody keeps it (RFC 2308 section 5).

mod connection;
pub(super) mod framing;
mod message;
#[cfg(test)]
mod tests;
pub(super) mod trouble;
pub(super) mod upstream;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use presocks_proto::frame::{Addresses, Family};
use presocks_proto::name::{self, Name};
use presocks_proto::standin;
use tokio::sync::mpsc;

use crate::policy::hosts::Hosts;
use crate::policy::{Addressed, Names, Policy};
use message::{
    A, AAAA, ANY, AXFR, HTTPS, Header, INTERNET, IXFR, OPCODE, PTR, Query, Question, RESPONSE, Rcode, Reader,
    Record, SVCB, reply,
};
use upstream::Upstreams;

/// How a query came, and how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// In a datagram of the size that the query allows.
    Udp,
    /// RFC 7766.
    Tcp,
}

/// A session's name server.
pub(super) struct NameServer {
    policy: Rc<Policy>,
    upstreams: Rc<Upstreams>,
}

impl NameServer {
    /// One that answers from the names of the policy, and asks these servers for what is not known there.
    pub(super) fn new(policy: Rc<Policy>, upstreams: Upstreams) -> Self {
        Self { policy, upstreams: Rc::new(upstreams) }
    }

    /// The answer to a query that was sent to `server`; `None` for what deserves none: a response, or too little to tell.
    ///
    /// What is known here is answered without waiting. A zone transfer is not one message ([`is_transfer`]): over UDP its answer is to ask
    /// again over TCP.
    pub(super) async fn answer(
        &self,
        query: &[u8],
        server: &Addressed,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let verdict = self.judge(query);
        let answer = match verdict {
            Verdict::Silence => return None,
            Verdict::Answer(answer) => answer,
            Verdict::Transfer => return Some(message::cut(query)),
            Verdict::Forward => match self.upstreams.ask(query, server).await {
                Some(answer) => answer,
                None => failure(query),
            },
        };
        Some(match transport {
            Transport::Udp if answer.len() > message::room(query) => message::cut_short(query, &answer),
            Transport::Udp | Transport::Tcp => answer,
        })
    }

    /// Does the query ask for a zone (RFC 5936, RFC 1995), whose answer may be many messages?
    pub(super) fn is_transfer(&self, query: &[u8]) -> bool {
        matches!(self.judge(query), Verdict::Transfer)
    }

    /// A zone, message by message.
    pub(super) async fn transfer(&self, query: &[u8], server: &Addressed, messages: &mpsc::Sender<Vec<u8>>) {
        self.upstreams.transfer(query, server, messages).await;
    }

    fn judge(&self, query: &[u8]) -> Verdict {
        judge(&mut self.policy.names(), query)
    }
}

/// The name that the query is about.
fn subject(query: &[u8]) -> Option<Name> {
    let mut reader = Reader(query);
    let header = Header::read(&mut reader)?;
    Name::new(Query::read(&header, reader)?.question.name.as_deref()?)
}

/// "Server failure" for a query that has been judged.
pub(super) fn failure(query: &[u8]) -> Vec<u8> {
    message::refuse(query, Rcode::ServFail)
}

/// What a query deserves.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Silence,
    /// What is known here.
    Answer(Vec<u8>),
    /// An answer of the DNS.
    Forward,
    /// A zone.
    Transfer,
}

fn judge(names: &mut Names, query: &[u8]) -> Verdict {
    let mut reader = Reader(query);
    let Some(header) = Header::read(&mut reader).filter(|header| header.flags & RESPONSE == 0) else {
        return Verdict::Silence;
    };
    if header.flags & OPCODE != 0 {
        // What follows the header may have another shape.
        return Verdict::Answer(reply(&header, None, Rcode::NotImp, &[]));
    }
    let Some(query) = Query::read(&header, reader) else {
        return Verdict::Answer(reply(&header, None, Rcode::FormErr, &[]));
    };
    let found = if query.edns.is_some_and(|edns| edns.version > 0) {
        Err(Rcode::BadVers)
    } else if query.question.class != INTERNET {
        Err(Rcode::Refused)
    } else {
        match Wanted::of(&query.question) {
            Wanted::Here(kind) => look_up(names, &query.question, kind),
            // RFC 8482 lets a server choose. Whoever asks so wants to see all that a server has; ours has stand-ins.
            Wanted::Any => Err(Rcode::Refused),
            Wanted::Zone => return Verdict::Transfer,
            Wanted::Pointer | Wanted::Other if is_never_asked(&query.question) => Ok(Vec::new()),
            Wanted::Other => return Verdict::Forward,
            Wanted::Pointer => match pointer(names, &query.question) {
                Some(found) => found,
                None => return Verdict::Forward,
            },
        }
    };
    Verdict::Answer(match found {
        Ok(records) => reply(&header, Some(&query), Rcode::NoError, &records),
        Err(rcode) => reply(&header, Some(&query), rcode, &[]),
    })
}

/// A question's type.
#[derive(Clone, Copy)]
enum Wanted {
    Here(Kind),
    Pointer,
    Any,
    Zone,
    Other,
}

/// What is always answered here.
#[derive(Clone, Copy)]
enum Kind {
    Addresses(Family),
    /// RFC 9460.
    Service,
}

impl Wanted {
    fn of(question: &Question<'_>) -> Self {
        match question.kind {
            A => Self::Here(Kind::Addresses(Family::V4)),
            AAAA => Self::Here(Kind::Addresses(Family::V6)),
            SVCB | HTTPS => Self::Here(Kind::Service),
            PTR => Self::Pointer,
            ANY => Self::Any,
            AXFR | IXFR => Self::Zone,
            _ => Self::Other,
        }
    }
}

fn look_up(names: &mut Names, question: &Question<'_>, kind: Kind) -> Result<Vec<Record>, Rcode> {
    let text = question.name.as_deref().ok_or(Rcode::NxDomain)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let name = &Name::new(text).ok_or(Rcode::NxDomain)?;
    match kind {
        Kind::Addresses(family) => addresses(names.resolve(name, family)),
        // The name exists, so this is not NXDOMAIN: the program goes on with its addresses.
        Kind::Service => Ok(Vec::new()),
    }
}

/// What is known of an address here: stand-ins, those of this session and no others, and local addresses. `None`: ask the DNS.
fn pointer(names: &mut Names, question: &Question<'_>) -> Option<Result<Vec<Record>, Rcode>> {
    let address = reversed(&Name::new(question.name.as_deref()?)?)?;
    let name = names.reverse(address);
    if name.is_none() && standin::kind(address) == standin::Kind::Ordinary {
        return None;
    }
    let target = name.and_then(|name| labels(&name)).ok_or(Rcode::NxDomain);
    Some(target.map(|target| vec![Record::Pointer(target)]))
}

/// Names that are not the DNS's: this machine's own (RFC 6761 section 6.3), and those that a server must not learn of (RFC 7686
/// section 2). They have addresses here, or none, and no other records.
fn is_never_asked(question: &Question<'_>) -> bool {
    let name = question.name.as_deref().and_then(Name::new);
    name.is_some_and(|name| {
        let last = name.bare().rsplit(|byte| *byte == b'.').next();
        last == Some(b"onion") || Hosts::is_private(&name)
    })
}

fn addresses(found: Result<Addresses, i32>) -> Result<Vec<Record>, Rcode> {
    match found {
        Ok(addresses) => Ok(addresses.iter().map(Record::Address).collect()),
        // The name exists, in the other family.
        Err(libc::ENOENT) => Ok(Vec::new()),
        Err(_) => Err(Rcode::ServFail),
    }
}

/// The address that a name in in-addr.arpa (RFC 1035 section 3.5) or ip6.arpa (RFC 3596 section 2.5) is about.
fn reversed(name: &Name) -> Option<IpAddr> {
    if let Some(octets) = name.as_bytes().strip_suffix(b".in-addr.arpa") {
        let [a, b, c, d] = std::str::from_utf8(octets).ok()?.parse::<Ipv4Addr>().ok()?.octets();
        return Some(Ipv4Addr::new(d, c, b, a).into());
    }
    let nibbles = name.as_bytes().strip_suffix(b".ip6.arpa").filter(|nibbles| nibbles.len() == 2 * 32 - 1)?;
    let mut bits = 0;
    for label in nibbles.rsplit(|byte| *byte == b'.') {
        let [nibble] = label else { return None };
        bits = (bits << 4) | u128::from(char::from(*nibble).to_digit(16)?);
    }
    Some(Ipv6Addr::from_bits(bits).into())
}

/// A name in a message; `None` when the DNS has no such name. The shim may have given us one that it has not.
fn labels(name: &Name) -> Option<Vec<u8>> {
    let text = name.as_bytes();
    let mut labels = Vec::with_capacity(text.len() + 2);
    for label in text.strip_suffix(b".").unwrap_or(text).split(|byte| *byte == b'.') {
        labels.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
        labels.extend_from_slice(label);
    }
    labels.push(0);
    (labels.len() <= name::MAX).then_some(labels)
}
