//! The bytes of DNS messages: queries read, answers written (RFC 1035 section 4).
//!
//! Only what the session's name server needs of them: the header, one question, where records begin and end, EDNS. Names in
//! records are stepped over, pointers never followed. No bytes make it panic.

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
pub(super) const RECURSION_DESIRED: u16 = 0x0100;
pub(super) const RECURSION_AVAILABLE: u16 = 0x0080;

pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
const OPT: u16 = 41;
pub(super) const SVCB: u16 = 64;
pub(super) const HTTPS: u16 = 65;
pub(super) const ANY: u16 = 255;

pub(super) const INTERNET: u16 = 1;

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
    let rcode = rcode as u16;
    let has_opt = query.is_some_and(|query| query.edns_version.is_some());
    let copied = header.flags & (OPCODE | RECURSION_DESIRED);
    let flags = RESPONSE | copied | RECURSION_AVAILABLE | (rcode & 0xf);
    let answers = u16::try_from(records.len()).unwrap_or_default();
    let mut message = Vec::with_capacity(512);
    for field in [header.id, flags, query.is_some().into(), answers, 0, has_opt.into()] {
        message.extend(field.to_be_bytes());
    }
    if let Some(query) = query {
        message.extend(query.question.bytes);
    }
    for record in records {
        record.write(&mut message);
    }
    if has_opt {
        let [_, rcode_high] = (rcode >> 4).to_be_bytes();
        // RFC 6891 section 6.1.2: the root, type, size; the response code's upper bits, version 0; no flag, no option.
        message.push(0);
        message.extend(OPT.to_be_bytes());
        message.extend(UDP_SIZE.to_be_bytes());
        message.extend([rcode_high, 0, 0, 0, 0, 0]);
    }
    message
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
    pub(super) edns_version: Option<u8>,
}

impl<'a> Query<'a> {
    /// One question, any records of which only OPT has a meaning here, and nothing else.
    pub(super) fn read(header: &Header, mut reader: Reader<'a>) -> Option<Self> {
        let [1, answers, authorities, additional] = header.counts else { return None };
        let question = Question::read(&mut reader)?;
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            Extra::read(&mut reader)?;
        }
        let mut edns_version = None;
        for _ in 0..additional {
            let extra = Extra::read(&mut reader)?;
            // RFC 6891 section 6.1.1: a second one is a format error.
            if extra.kind == OPT && (!extra.of_root || edns_version.replace(extra.edns_version).is_some()) {
                return None;
            }
        }
        reader.0.is_empty().then_some(Self { question, edns_version })
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

/// A record that came with a query (RFC 1035 section 4.1.3).
struct Extra {
    of_root: bool,
    kind: u16,
    /// In an OPT record: this byte of the time to live (RFC 6891 section 6.1.3).
    edns_version: u8,
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
        let (kind, _class) = (reader.u16()?, reader.u16()?);
        let [_, edns_version, _, _] = reader.array()?;
        let length = reader.u16()?;
        reader.take(length.into())?;
        Some(Self { of_root, kind, edns_version })
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
