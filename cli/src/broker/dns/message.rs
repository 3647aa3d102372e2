//! The bytes of DNS messages: queries read, answers written (RFC 1035 section 4).
//!
//! Only what the session's name server needs of them: the header, one question, where records begin and end, EDNS. Names in
//! records are stepped over, pointers never followed. No bytes make it panic.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use presocks_proto::name;

/// Seconds that an answer may be kept. A stand-in lasts as long as the session, but a line in /etc/hosts may change, and
/// a cache may outlive us.
pub(super) const TTL: u32 = 60;

/// The datagram size that we announce: what fits every path in one piece (the DNS flag day of 2020). Queries are far
/// smaller.
pub(super) const UDP_SIZE: u16 = 1232;

pub(super) const RESPONSE: u16 = 0x8000;
pub(super) const OPCODE: u16 = 0x7800;
/// RFC 1035 section 4.1.1: the answer did not fit.
const TRUNCATED: u16 = 0x0200;
pub(super) const RECURSION_DESIRED: u16 = 0x0100;
pub(super) const RECURSION_AVAILABLE: u16 = 0x0080;

pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
const OPT: u16 = 41;
pub(super) const SVCB: u16 = 64;
pub(super) const HTTPS: u16 = 65;
pub(super) const IXFR: u16 = 251;
pub(super) const AXFR: u16 = 252;
pub(super) const ANY: u16 = 255;

pub(super) const INTERNET: u16 = 1;

/// RFC 1035 section 4.1.1.
const HEADER: usize = 12;

/// RFC 1035 section 4.1.1: the response code.
const RCODE: u16 = 0x000f;

/// RFC 3225: the asker wants DNSSEC's records. An answer says the same.
const DNSSEC_OK: u16 = 0x8000;

/// What every asker takes over UDP (RFC 1035 section 4.2.1).
const LEAST_ROOM: usize = 512;

/// The most that is sent over UDP, whatever the asker takes (RFC 6891 section 6.2.5).
const MOST_ROOM: usize = 4096;

/// A pointer to the question's name, which follows the header (RFC 1035 section 4.1.4).
const AS_ASKED: u16 = 0xc000 | 12;

/// RFC 1035 section 4.1.1; RFC 6891 section 9 for the last.
#[derive(Clone, Copy)]
pub(super) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

/// A record of an answer. Its owner is the name that was asked for.
pub(super) enum Record {
    Address(IpAddr),
    /// The name's labels.
    Pointer(Vec<u8>),
}

impl Record {
    fn write(&self, message: &mut Vec<u8>) {
        let (v4, v6);
        let (kind, data) = match self {
            Self::Address(IpAddr::V4(address)) => {
                v4 = address.octets();
                (A, &v4[..])
            }
            Self::Address(IpAddr::V6(address)) => {
                v6 = address.octets();
                (AAAA, &v6[..])
            }
            Self::Pointer(labels) => (PTR, &labels[..]),
        };
        for field in [AS_ASKED, kind, INTERNET] {
            message.extend(field.to_be_bytes());
        }
        message.extend(TTL.to_be_bytes());
        message.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
        message.extend(data);
    }
}

/// Without a query, when that could not be read, the answer is a header alone.
pub(super) fn reply(header: &Header, query: Option<&Query<'_>>, rcode: Rcode, records: &[Record]) -> Vec<u8> {
    let copied = header.flags & (OPCODE | RECURSION_DESIRED);
    let flags = RESPONSE | copied | RECURSION_AVAILABLE;
    write(header.id, flags, query, rcode as u16, records)
}

fn write(id: u16, flags: u16, query: Option<&Query<'_>>, rcode: u16, records: &[Record]) -> Vec<u8> {
    let edns = query.and_then(|query| query.edns.as_ref());
    let answers = u16::try_from(records.len()).unwrap_or_default();
    let mut message = Vec::with_capacity(512);
    for field in [id, flags | (rcode & 0xf), query.is_some().into(), answers, 0, edns.is_some().into()] {
        message.extend(field.to_be_bytes());
    }
    if let Some(query) = query {
        message.extend(query.question.bytes);
    }
    for record in records {
        record.write(&mut message);
    }
    if let Some(edns) = edns {
        let [_, rcode_high] = (rcode >> 4).to_be_bytes();
        let [do_bit, _] = (edns.flags & DNSSEC_OK).to_be_bytes();
        // RFC 6891 section 6.1.2: the root, type, size; the response code's upper bits, version 0; RFC 3225's flag; no option.
        message.push(0);
        message.extend(OPT.to_be_bytes());
        message.extend(UDP_SIZE.to_be_bytes());
        message.extend([rcode_high, 0, do_bit, 0, 0, 0]);
    }
    message
}

/// A query that was read before.
fn parse(query: &[u8]) -> Option<(Header, Query<'_>)> {
    let mut reader = Reader(query);
    let header = Header::read(&mut reader)?;
    let query = Query::read(&header, reader)?;
    Some((header, query))
}

/// An answer without records.
pub(super) fn refuse(query: &[u8], rcode: Rcode) -> Vec<u8> {
    parse(query).map_or_else(Vec::new, |(header, query)| reply(&header, Some(&query), rcode, &[]))
}

/// The largest datagram that the asker takes (RFC 6891 section 6.2.5).
pub(super) fn room(query: &[u8]) -> usize {
    let announced = parse(query).and_then(|(_, query)| query.edns).map(|edns| edns.size.into());
    announced.unwrap_or(LEAST_ROOM).clamp(LEAST_ROOM, MOST_ROOM)
}

/// "Ask again over TCP": the header and the question alone (RFC 2181 section 9).
pub(super) fn cut(query: &[u8]) -> Vec<u8> {
    let copied = parse(query).map_or(0, |(header, _)| header.flags & RECURSION_DESIRED);
    cut_short(query, &[[0; 2], (RESPONSE | RECURSION_AVAILABLE | copied).to_be_bytes()].concat())
}

/// The same with the flags of an answer that is too long.
pub(super) fn cut_short(query: &[u8], answer: &[u8]) -> Vec<u8> {
    let mut reader = Reader(answer);
    let flags = reader.u16().and_then(|_| reader.u16()).unwrap_or(RESPONSE);
    let Some((header, query)) = parse(query) else { return Vec::new() };
    write(header.id, (flags | TRUNCATED) & !RCODE, Some(&query), flags & RCODE, &[])
}

/// The answer of an upstream server to `query`, as the asker is to see it: with the query's ID, and its question letter for letter, as
/// the asker may check the case (draft-vixie-dnsext-dns0x20). `None` when it is no answer to this query, or no whole message.
pub(super) fn accept(query: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
    let (header, query) = parse(query)?;
    let mut reader = Reader(answer);
    let found = Header::read(&mut reader)?;
    if found.flags & RESPONSE == 0 || (found.flags ^ header.flags) & OPCODE != 0 {
        return None;
    }
    let [questions, records @ ..] = found.counts;
    let asked = query.question.bytes;
    match questions {
        1 if reader.take(asked.len())?.eq_ignore_ascii_case(asked) => {}
        // A server that could not read the query, or did not want to.
        0 if found.flags & RCODE != 0 => {}
        _ => return None,
    }
    for _ in 0..records.into_iter().map(u32::from).sum() {
        Extra::read(&mut reader)?;
    }
    if !reader.0.is_empty() {
        return None;
    }
    let mut accepted = header.id.to_be_bytes().to_vec();
    accepted.extend(answer.get(2..HEADER)?);
    if questions == 1 {
        accepted.extend(asked);
    }
    accepted.extend(answer.get(accepted.len()..)?);
    Some(accepted)
}

/// RFC 1035 section 4.1.1.
pub(super) struct Header {
    id: u16,
    pub(super) flags: u16,
    /// Questions, answers, authorities, additional records.
    counts: [u16; 4],
}

impl Header {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let [id, flags, counts @ ..] =
            [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        Some(Self { id, flags, counts })
    }
}

/// What follows the header of a query.
pub(super) struct Query<'a> {
    pub(super) question: Question<'a>,
    pub(super) edns: Option<Edns>,
}

/// RFC 6891 section 6.1.3.
#[derive(Clone, Copy)]
pub(super) struct Edns {
    size: u16,
    pub(super) version: u8,
    flags: u16,
}

impl<'a> Query<'a> {
    /// One question, any records of which only OPT has a meaning here, and nothing else.
    pub(super) fn read(header: &Header, mut reader: Reader<'a>) -> Option<Self> {
        let [1, answers, authorities, additional] = header.counts else { return None };
        let question = Question::read(&mut reader)?;
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            Extra::read(&mut reader)?;
        }
        let mut edns = None;
        for _ in 0..additional {
            let extra = Extra::read(&mut reader)?;
            // RFC 6891 section 6.1.1: a second one is a format error.
            if extra.kind == OPT && (!extra.of_root || edns.replace(extra.edns).is_some()) {
                return None;
            }
        }
        reader.0.is_empty().then_some(Self { question, edns })
    }
}

/// RFC 1035 section 4.1.2.
pub(super) struct Question<'a> {
    /// As it was asked: a client may check the case of its letters, too.
    bytes: &'a [u8],
    /// Absolute, without a dot at the end; empty for the root. `None` when a label holds a dot: as text it would be
    /// another name.
    pub(super) name: Option<Vec<u8>>,
    pub(super) kind: u16,
    pub(super) class: u16,
}

impl<'a> Question<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let from = reader.0;
        let mut text = Vec::with_capacity(name::MAX);
        let mut has_dot = false;
        loop {
            match Part::read(reader)? {
                Part::Label(label) => {
                    has_dot |= label.contains(&b'.');
                    text.extend_from_slice(label);
                    text.push(b'.');
                }
                Part::Root => break,
                // Nothing comes before it that could be pointed to.
                Part::Pointer => return None,
            }
            // RFC 1035 section 2.3.4: with a length for each label, and the root's.
            if text.len() + 1 > name::MAX {
                return None;
            }
        }
        let (kind, class) = (reader.u16()?, reader.u16()?);
        let bytes = from.get(..from.len() - reader.0.len())?;
        text.pop();
        Some(Self { bytes, name: (!has_dot).then_some(text), kind, class })
    }
}

/// A record that came with a message (RFC 1035 section 4.1.3).
struct Extra {
    of_root: bool,
    kind: u16,
    /// Its class and time to live, as an OPT record means them.
    edns: Edns,
}

impl Extra {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut labels = 0;
        let of_root = loop {
            match Part::read(reader)? {
                Part::Label(_) => labels += 1,
                Part::Root => break labels == 0,
                Part::Pointer => break false,
            }
        };
        let (kind, size) = (reader.u16()?, reader.u16()?);
        let [_, version] = reader.array()?;
        let edns = Edns { size, version, flags: reader.u16()? };
        let length = reader.u16()?;
        reader.take(length.into())?;
        Some(Self { of_root, kind, edns })
    }
}

/// A part of a name (RFC 1035 section 4.1.4).
enum Part<'a> {
    /// 1 to 63 bytes.
    Label(&'a [u8]),
    Root,
    /// Never followed: no name that matters here has one.
    Pointer,
}

impl<'a> Part<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        match reader.array()? {
            [0] => Some(Self::Root),
            [length @ 1..=63] => reader.take(length.into()).map(Self::Label),
            [0xc0..=0xff] => reader.array::<1>().map(|_| Self::Pointer),
            [_] => None,
        }
    }
}

/// What is left to read of a message.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }
}
