//! What a session's name server says: stand-ins for names, names for stand-ins (RFC 1035).
//!
//! For programs that the shim does not reach, and that ask name servers themselves. One message in, one out, all of it
//! from [`Names`]: nobody else is asked.
//!
//! No bytes make it panic, and it never answers an answer, or two servers could go on for ever. A negative answer has no
//! SOA, so nobody keeps it (RFC 2308 section 5).
//!
//! It does not carry messages, and cuts none to a datagram's size: there are 15 addresses at most. Types other than
//! addresses, services and PTR are "not implemented", which musl and glibc take for a look-up that failed, until the DNS
//! service is complete.

mod message;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use presocks_proto::frame::{Addresses, Family};
use presocks_proto::name::{self, Name};

use super::names::Names;
use message::{
    A, AAAA, ANY, HTTPS, Header, INTERNET, OPCODE, PTR, Query, Question, RESPONSE, Rcode, Reader, Record,
    SVCB, reply,
};

/// The answer to a query; `None` for what deserves none: a response, or too little to tell.
pub(super) fn answer(names: &mut Names, query: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(query);
    let header = Header::read(&mut reader)?;
    if header.flags & RESPONSE != 0 {
        return None;
    }
    if header.flags & OPCODE != 0 {
        // What follows the header may have another shape.
        return Some(reply(&header, None, Rcode::NotImp, &[]));
    }
    let Some(query) = Query::read(&header, reader) else {
        return Some(reply(&header, None, Rcode::FormErr, &[]));
    };
    let found = if query.edns_version.is_some_and(|version| version > 0) {
        Err(Rcode::BadVers)
    } else if query.question.class != INTERNET {
        Err(Rcode::Refused)
    } else {
        look_up(names, &query.question)
    };
    Some(match found {
        Ok(records) => reply(&header, Some(&query), Rcode::NoError, &records),
        Err(rcode) => reply(&header, Some(&query), rcode, &[]),
    })
}

fn look_up(names: &mut Names, question: &Question<'_>) -> Result<Vec<Record>, Rcode> {
    let wanted = Wanted::of_type(question.kind).ok_or(Rcode::NotImp)?;
    let text = question.name.as_deref().ok_or(Rcode::NxDomain)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let name = &Name::new(text).ok_or(Rcode::NxDomain)?;
    match wanted {
        Wanted::Addresses(family) => addresses(names.resolve(name, family)),
        // The name exists, so this is not NXDOMAIN: the program goes on with its addresses.
        Wanted::Service => Ok(Vec::new()),
        Wanted::Pointer => {
            let found = reversed(name).and_then(|address| names.reverse(address));
            let target = found.and_then(|name| labels(&name)).ok_or(Rcode::NxDomain)?;
            Ok(vec![Record::Pointer(target)])
        }
    }
}

fn addresses(found: Result<Addresses, i32>) -> Result<Vec<Record>, Rcode> {
    match found {
        Ok(addresses) => Ok(addresses.iter().map(Record::Address).collect()),
        // The name exists, in the other family.
        Err(libc::ENOENT) => Ok(Vec::new()),
        Err(_) => Err(Rcode::ServFail),
    }
}

/// A question's type, of those that have an answer.
enum Wanted {
    Addresses(Family),
    /// RFC 9460.
    Service,
    Pointer,
}

impl Wanted {
    fn of_type(kind: u16) -> Option<Self> {
        match kind {
            A => Some(Self::Addresses(Family::V4)),
            AAAA => Some(Self::Addresses(Family::V6)),
            ANY => Some(Self::Addresses(Family::Any)),
            SVCB | HTTPS => Some(Self::Service),
            PTR => Some(Self::Pointer),
            _ => None,
        }
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
