//! Where a frame's fields lie.
//!
//! Layout (all integers big-endian):
//!
//! | bytes | field |
//! | --- | --- |
//! | 0–3 | magic `psk1` |
//! | 4 | operation |
//! | 5 | family (0 any, 4, 6); in a list of addresses their number; of a gate whether it is open; of a datagram whether its sender is impatient |
//! | 6 | kind of the address field (0 none, 4, 6) |
//! | 7 | length of the body in bytes |
//! | 8–23 | secret: the token in a request, the proof in a reply |
//! | 24–39 | address (IPv4 in the first four bytes) |
//! | 40–41 | port, or an option's name |
//! | 42–43 | zero |
//! | 44–47 | errno, an IPv6 address's scope, an option's level, or listen()'s backlog |
//! | 48–55 | socket cookie (`SO_COOKIE`, socket(7)) |
//! | 56–311 | body: a name, an option's value, or a list of 17-byte addresses |

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::{Addresses, Frame, LEN, MAX_ADDRESSES, Malformed};
use crate::name::Name;
use crate::session::{SECRET_LEN, Secret};

const MAGIC: [u8; 4] = *b"psk1";
const ADDRESS_LEN: usize = 17;

/// The layout's columns; which of them mean something depends on the operation.
pub(super) struct Fields {
    pub(super) operation: u8,
    pub(super) family: u8,
    pub(super) secret: Secret,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) number: u32,
    pub(super) cookie: u64,
    pub(super) body_len: u8,
    pub(super) body: [u8; 256],
}

impl Fields {
    pub(super) fn new(secret: &Secret) -> Self {
        Self {
            operation: 0,
            family: 0,
            secret: *secret,
            address: None,
            port: 0,
            number: 0,
            cookie: 0,
            body_len: 0,
            body: [0; 256],
        }
    }

    pub(super) fn put_socket_address(&mut self, address: SocketAddr) {
        self.address = Some(address.ip());
        self.port = address.port();
        if let SocketAddr::V6(v6) = address {
            self.number = v6.scope_id();
        }
    }

    pub(super) fn socket_address(&self) -> Result<SocketAddr, Malformed> {
        match self.address.ok_or(Malformed::BadField)? {
            IpAddr::V4(v4) => Ok(SocketAddr::from((v4, self.port))),
            IpAddr::V6(v6) => Ok(SocketAddrV6::new(v6, self.port, 0, self.number).into()),
        }
    }

    /// The family's field as a yes or no.
    pub(super) fn flag(&self) -> Result<bool, Malformed> {
        match self.family {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::BadField),
        }
    }

    pub(super) fn put_name(&mut self, name: &Name) {
        self.put_bytes(name.as_bytes());
    }

    pub(super) fn name(&self) -> Result<Name, Malformed> {
        Name::new(self.bytes()?).ok_or(Malformed::BadField)
    }

    /// At most 255 bytes.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        for (to, from) in self.body.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.body_len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    }

    pub(super) fn bytes(&self) -> Result<&[u8], Malformed> {
        self.body.get(..usize::from(self.body_len)).ok_or(Malformed::BadField)
    }

    pub(super) fn put_addresses(&mut self, addresses: &Addresses) {
        for (entry, address) in self.body.chunks_exact_mut(ADDRESS_LEN).zip(addresses.iter()) {
            let (kind, octets) = address_octets(Some(address));
            if let Some((first, rest)) = entry.split_first_mut() {
                *first = kind;
                rest.copy_from_slice(&octets);
            }
            self.family += 1;
        }
    }

    pub(super) fn addresses(&self) -> Result<Addresses, Malformed> {
        let count = usize::from(self.family);
        if count == 0 || count > MAX_ADDRESSES {
            return Err(Malformed::BadField);
        }
        let mut all = Addresses { len: count, list: [None; MAX_ADDRESSES] };
        for (place, entry) in all.list.iter_mut().zip(self.body.chunks_exact(ADDRESS_LEN)).take(count) {
            let (kind, octets) = entry.split_first().ok_or(Malformed::BadField)?;
            let address = read_address(*kind, octets)?;
            *place = Some(address.ok_or(Malformed::BadField)?);
        }
        Ok(all)
    }

    pub(super) fn encode(&self) -> Frame {
        let mut frame = [0; LEN];
        let mut rest = &mut frame[..];
        let (kind, octets) = address_octets(self.address);
        write(&mut rest, &MAGIC);
        write(&mut rest, &[self.operation, self.family, kind, self.body_len]);
        write(&mut rest, &self.secret.0);
        write(&mut rest, &octets);
        write(&mut rest, &self.port.to_be_bytes());
        write(&mut rest, &[0, 0]);
        write(&mut rest, &self.number.to_be_bytes());
        write(&mut rest, &self.cookie.to_be_bytes());
        write(&mut rest, &self.body);
        frame
    }

    pub(super) fn decode(packet: &[u8], secret: &Secret) -> Result<Self, Malformed> {
        if packet.len() != LEN {
            return Err(Malformed::NotAFrame);
        }
        let mut rest = packet;
        if read::<4>(&mut rest)? != MAGIC {
            return Err(Malformed::NotAFrame);
        }
        let [operation, family, kind, body_len] = read::<4>(&mut rest)?;
        if !Secret(read::<SECRET_LEN>(&mut rest)?).matches(secret) {
            return Err(Malformed::WrongSecret);
        }
        let octets = read::<16>(&mut rest)?;
        let port = u16::from_be_bytes(read(&mut rest)?);
        let _zero = read::<2>(&mut rest)?;
        let number = u32::from_be_bytes(read(&mut rest)?);
        let cookie = u64::from_be_bytes(read(&mut rest)?);
        let body = read::<256>(&mut rest)?;
        let address = read_address(kind, &octets)?;
        Ok(Self { operation, family, secret: *secret, address, port, number, cookie, body_len, body })
    }
}

fn address_octets(address: Option<IpAddr>) -> (u8, [u8; 16]) {
    let mut octets = [0; 16];
    let kind = match address {
        None => 0,
        Some(IpAddr::V4(v4)) => {
            let (first, _) = octets.split_at_mut(4);
            first.copy_from_slice(&v4.octets());
            4
        }
        Some(IpAddr::V6(v6)) => {
            octets = v6.octets();
            6
        }
    };
    (kind, octets)
}

fn read_address(kind: u8, octets: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    match (kind, octets) {
        (0, _) => Ok(None),
        (4, [a, b, c, d, ..]) => Ok(Some(Ipv4Addr::new(*a, *b, *c, *d).into())),
        (6, octets) => {
            let octets: [u8; 16] = octets.try_into().map_err(|_| Malformed::BadField)?;
            Ok(Some(Ipv6Addr::from(octets).into()))
        }
        _ => Err(Malformed::BadField),
    }
}

fn write(rest: &mut &mut [u8], bytes: &[u8]) {
    // The fields add up to LEN (`fields_fill_the_frame`), so there is always room.
    if let Some((to, left)) = core::mem::take(rest).split_at_mut_checked(bytes.len()) {
        to.copy_from_slice(bytes);
        *rest = left;
    }
}

fn read<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (bytes, left) = rest.split_first_chunk::<N>().ok_or(Malformed::NotAFrame)?;
    *rest = left;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_fill_the_frame() {
        let mut fields = Fields::new(&Secret([0x5a; 16]));
        fields.body = [0xee; 256];
        assert_eq!(fields.encode()[LEN - 1], 0xee);
    }
}
