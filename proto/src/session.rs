//! What the broker hands to the wrapped command: one environment variable, no address of a proxy, no password.
//!
//! [`Session`] names the rendezvous (two abstract Unix sockets, one for each [`Queue`]) and holds two secrets: the *token* that the shim shows to
//! the broker and the *proof* that the broker shows to the shim, so that neither a stranger's request nor a stranger
//! squatting on a dead broker's address is believed. 16 random bytes each. It also names the *user* whose broker it is: who
//! squats there as another user need not be asked at all.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str;

/// The environment variable that carries a [`Session`].
pub const VARIABLE: &str = "PRESOCKS_SESSION";

/// Length of the variable's text in bytes.
pub const TEXT_LEN: usize = HEAD_LEN + SECRETS_LEN + UID_LEN + 1;

/// Length of each secret in bytes.
pub const SECRET_LEN: usize = 16;

/// Length in bytes of [`Session::rendezvous`].
pub const RENDEZVOUS_LEN: usize = 1 + RENDEZVOUS_PREFIX.len() + 2 * SECRET_LEN;

const HEAD_LEN: usize = 3;
const SECRETS_LEN: usize = 3 * 2 * SECRET_LEN;
const UID_LEN: usize = 2 * size_of::<u32>();
const RENDEZVOUS_PREFIX: &[u8] = b"presocks-";
const AT_ONCE_PREFIX: &[u8; RENDEZVOUS_PREFIX.len()] = b"presocks?";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// 16 bytes that only the session's processes know. Shown as `…` so that no log can hold one.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; SECRET_LEN]);

impl Secret {
    /// Compares without a data-dependent branch.
    #[must_use]
    pub fn matches(&self, other: &Secret) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a request waits while the broker is short of descriptors. Each has a socket of its own, so that a name's look-up does not wait behind
/// thousands of connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// What the broker answers at once: names, addresses, permissions.
    AtOnce,
    /// What takes as long as a proxy does, and a descriptor or more meanwhile.
    InTurn,
}

/// A wrapped command's way to its broker.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Random part of the rendezvous' name.
    pub id: [u8; SECRET_LEN],
    /// What the shim shows to the broker.
    pub token: Secret,
    /// What the broker shows to the shim.
    pub proof: Secret,
    /// The broker's user, as `SO_PEERCRED` (unix(7)) tells it of who listens at the rendezvous.
    pub uid: u32,
    /// The user asked for silence (`-q`).
    pub quiet: bool,
    /// Listening is the broker's business (`--bind`).
    pub bind: bool,
    /// Connections to loopback are the broker's business: a rule speaks of them.
    pub loopback: bool,
    /// What `localhost` means on this machine.
    pub localhost: Localhost,
}

/// What the name `localhost` means on a machine: loopback, as it does everywhere (RFC 6761 section 6.3), and so its look-up needs no broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Localhost {
    /// Not loopback alone, or not known: the broker is asked.
    Unknown,
    /// `127.0.0.1`.
    V4,
    /// `::1`.
    V6,
    /// `::1`, then `127.0.0.1`.
    Both,
}

impl Localhost {
    /// By their numbers.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::V4, Self::V6, Self::Both];

    /// What it is when the name has these addresses, in this order.
    #[must_use]
    pub fn new(addresses: &[IpAddr]) -> Self {
        let known =
            Self::ALL.into_iter().find(|this| *this != Self::Unknown && this.addresses() == addresses);
        known.unwrap_or(Self::Unknown)
    }

    /// The addresses; none when they are not known.
    #[must_use]
    pub const fn addresses(self) -> &'static [IpAddr] {
        const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
        match self {
            Self::Unknown => &[],
            Self::V4 => &[V4],
            Self::V6 => &[V6],
            Self::Both => &[V6, V4],
        }
    }
}

/// The bits of the digit that stands for what is the case.
const QUIET: u8 = 1;
const BIND: u8 = 2;
const LOOPBACK: u8 = 4;
/// Where the two bits of [`Localhost`] begin.
const LOCALHOST: u32 = 3;

/// For five bits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

impl Session {
    /// The abstract Unix socket address, leading NUL included (unix(7)).
    #[must_use]
    pub fn rendezvous(&self, queue: Queue) -> [u8; RENDEZVOUS_LEN] {
        let mut address = [0; RENDEZVOUS_LEN];
        let (prefix, id) = address.split_at_mut(1 + RENDEZVOUS_PREFIX.len());
        if let Some(prefix) = prefix.get_mut(1..) {
            prefix.copy_from_slice(match queue {
                Queue::AtOnce => AT_ONCE_PREFIX,
                Queue::InTurn => RENDEZVOUS_PREFIX,
            });
        }
        write_hex(&self.id, id);
        address
    }

    /// The number that the session's pass is made of (`presocks_abi::pass`): the token's halves, one xor the other. Whoever reads it
    /// in a register learns nothing of either half, and would still have 64 bits of the token to guess.
    #[must_use]
    pub fn pass(&self) -> u64 {
        let token = u128::from_be_bytes(self.token.0);
        (token >> 64) as u64 ^ token as u64
    }

    /// The variable's text: `4`, the format; a digit of five bits, for what is the case; a colon; then id, token, proof and user in hexadecimal, then a dot.
    #[must_use]
    pub fn to_text(&self) -> [u8; TEXT_LEN] {
        let mut text = [b':'; TEXT_LEN];
        let (head, body) = text.split_at_mut(HEAD_LEN);
        let bits = [(self.quiet, QUIET), (self.bind, BIND), (self.loopback, LOOPBACK)];
        let localhost = (self.localhost as u8) << LOCALHOST;
        let bits = bits.iter().fold(localhost, |bits, (is, bit)| if *is { bits | bit } else { bits });
        head.copy_from_slice(&[b'4', DIGITS.get(usize::from(bits)).copied().unwrap_or(b'0'), b':']);
        let (secrets, rest) = body.split_at_mut(SECRETS_LEN);
        for (secret, field) in
            [&self.id, &self.token.0, &self.proof.0].into_iter().zip(secrets.chunks_mut(2 * SECRET_LEN))
        {
            write_hex(secret, field);
        }
        write_hex(&self.uid.to_be_bytes(), rest);
        // The last byte ends the text, so that a truncated copy is recognised as such.
        if let Some(last) = text.last_mut() {
            *last = b'.';
        }
        text
    }

    /// Reads the variable's text; `None` unless it is exactly what [`Session::to_text`] writes.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let text: &[u8; TEXT_LEN] = text.try_into().ok()?;
        let (head, body) = text.split_at(HEAD_LEN);
        let [b'4', digit, b':'] = head else { return None };
        let bits = DIGITS.iter().zip(0_u8..).find_map(|(other, bits)| (other == digit).then_some(bits))?;
        let is = |bit: u8| bits & bit != 0;
        let localhost = *Localhost::ALL.get(usize::from(bits >> LOCALHOST))?;
        let (fields, rest) = body.split_at(SECRETS_LEN);
        let (uid, end) = rest.split_at(UID_LEN);
        if end != b"." {
            return None;
        }
        let mut secrets = fields.chunks(2 * SECRET_LEN).map(read_hex);
        Some(Self {
            id: secrets.next()??,
            token: Secret(secrets.next()??),
            proof: Secret(secrets.next()??),
            uid: u32::from_be_bytes(read_hex(uid)?),
            quiet: is(QUIET),
            bind: is(BIND),
            loopback: is(LOOPBACK),
            localhost,
        })
    }
}

fn write_hex(bytes: &[u8], text: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or(b'0');
        pair.copy_from_slice(&[digit(byte >> 4), digit(*byte)]);
    }
}

fn read_hex<const LEN: usize>(text: &[u8]) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let pair = str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn session(quiet: bool) -> Session {
        let uid = 0x0012_ab03;
        let (token, proof) = (Secret([0xa0; 16]), Secret([7; 16]));
        Session {
            id: [0x1f; 16],
            token,
            proof,
            uid,
            quiet,
            bind: false,
            loopback: false,
            localhost: Localhost::Unknown,
        }
    }

    #[test]
    fn text_comes_back_as_the_same_session() {
        for (bits, localhost) in (0..8).flat_map(|bits| Localhost::ALL.map(|localhost| (bits, localhost))) {
            let [quiet, bind, loopback] = [1, 2, 4].map(|bit| bits & bit != 0);
            let there = Session { bind, loopback, localhost, ..session(quiet) };
            let back = Session::from_text(&there.to_text()).unwrap();
            assert_eq!(
                (back.id, back.token.0, back.proof.0, back.uid),
                ([0x1f; 16], [0xa0; 16], [7; 16], 0x0012_ab03)
            );
            assert_eq!(
                (back.quiet, back.bind, back.loopback, back.localhost),
                (quiet, bind, loopback, localhost)
            );
        }
    }

    #[test]
    fn a_text_that_is_cut_grown_or_garbled_is_refused() {
        let text = session(false).to_text();
        for len in 0..text.len() {
            assert!(Session::from_text(&text[..len]).is_none());
        }
        for place in [0, 1, 2, 3, 40, TEXT_LEN - 2, TEXT_LEN - 1] {
            let mut garbled = text;
            garbled[place] = b'+';
            assert!(Session::from_text(&garbled).is_none(), "byte {place}");
        }
        let mut grown = text.to_vec();
        grown.push(b'.');
        assert!(Session::from_text(&grown).is_none());
    }

    #[test]
    fn the_rendezvous_is_abstract_and_named_by_the_id() {
        let at = |queue| session(true).rendezvous(queue);
        assert_eq!(&at(Queue::InTurn)[..], b"\0presocks-1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f");
        assert_eq!(&at(Queue::AtOnce)[..], b"\0presocks?1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f");
    }

    #[test]
    fn the_pass_is_made_of_both_halves_of_the_token() {
        let mut token = [0x0f; SECRET_LEN];
        token[..8].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
        let session = Session { token: Secret(token), ..session(false) };
        assert_eq!(session.pass(), 0x0123_4567_89ab_cdef ^ 0x0f0f_0f0f_0f0f_0f0f);
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", session(true)).contains("160"));
    }
}
