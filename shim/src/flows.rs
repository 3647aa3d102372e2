//! Tokens: the addresses on loopback that stand for a datagram's destination, and for its source. The broker gives them; here is what this process
//! knows of them, so that not every datagram asks.
//!
//! A fixed table, all zero at rest, so that a process pays for the pages that it uses. An entry is written by one at a time and
//! read by any number (a sequence lock): a writer that finds it taken, a signal handler on top of another, leaves it; a reader that
//! saw it change has seen nothing. What a fork left half-written stays out of use. Each entry is believed for a while only:
//! the broker may give a token that was not used for long to somebody else.

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use libc::c_int;
use presocks_proto::frame::{Reply, Request};

use crate::{gate, socket, sys, ticket};

/// Seconds for which an entry is believed.
const BELIEVED: u32 = 30;

/// Sets of [`WAYS`] entries each: room for some 8,000 destinations, there and back.
const SETS: usize = 2048;
const WAYS: usize = 8;

static TABLE: [[Entry; WAYS]; SETS] = [const { [const { Entry::new() }; WAYS] }; SETS];

/// Has this process, or the one it was forked from, used a token?
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Which way an entry is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From a destination to its token.
    There = 1,
    /// From a token to whom it stands for.
    Back = 2,
}

/// Counts the times that all was forgotten.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// A socket is dissolved: it may send from another port from now on, which the broker must learn before it knows its datagrams.
pub(crate) fn forget() {
    if IS_USED.load(Ordering::Relaxed) {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

/// The token for this destination, if it is known.
pub(crate) fn token(fd: c_int, destination: SocketAddr) -> Option<SocketAddr> {
    if !IS_USED.load(Ordering::Relaxed) {
        return None;
    }
    find(sys::cookie(fd).ok()?, Way::There, destination)
}

/// The broker has given a token.
pub(crate) fn remember(fd: c_int, destination: SocketAddr, token: SocketAddr) {
    let Ok(cookie) = sys::cookie(fd) else { return };
    IS_USED.store(true, Ordering::Relaxed);
    insert(cookie, Way::There, destination, token);
    insert(cookie, Way::Back, token, destination);
}

/// The broker has connected a socket: its gate stands for this destination now.
pub(crate) fn remember_peer(fd: c_int, gate: SocketAddr, destination: SocketAddr) {
    if let Ok(cookie) = sys::cookie(fd) {
        insert(cookie, Way::Back, gate, destination);
    }
}

/// Whom the source of a datagram stands for, if it is the broker.
pub(crate) fn origin(fd: c_int, source: SocketAddr) -> Option<SocketAddr> {
    if !may_be_the_brokers(fd, source) {
        return None;
    }
    let cookie = sys::cookie(fd).ok()?;
    if let Some(known) = find(cookie, Way::Back, source) {
        return Some(known);
    }
    // Who is nobody's stand-in stands for itself.
    let origin = match ticket::ask(&Request::Peer { cookie, actual: source }, None) {
        Ok(Reply::Address(origin)) => origin,
        Err(libc::ENOENT) => source,
        _ => return None,
    };
    insert(cookie, Way::Back, source, origin);
    Some(origin)
}

fn may_be_the_brokers(fd: c_int, source: SocketAddr) -> bool {
    /// 127.192.0.0/10
    const TOKENS: Ipv4Addr = Ipv4Addr::new(127, 192, 0, 0);
    const MASK: u32 = 0xffc0_0000;
    let is_token = match source.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_bits() & MASK == TOKENS.to_bits(),
        // Other services are there, too.
        IpAddr::V6(v6) => v6.is_loopback(),
    };
    // A socket that was inherited may be connected to a gate that this process never heard of.
    let is_own = || {
        !source.ip().to_canonical().is_loopback()
            && socket::own(fd).is_some_and(|own| own.ip() == source.ip())
    };
    is_token || gate::has_port_of_a_gate(source) || is_own()
}

/// An address in words: its first half, its second, and port and scope. IPv4 ones are mapped.
type Words = [u64; 3];

fn words(address: SocketAddr) -> Words {
    let (bits, scope) = match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped().to_bits(), 0),
        SocketAddr::V6(v6) => (v6.ip().to_bits(), v6.scope_id()),
    };
    let half = |shift: u32| u64::try_from(bits >> shift & u128::from(u64::MAX)).unwrap_or_default();
    [half(64), half(0), u64::from(address.port()) << 32 | u64::from(scope)]
}

fn address(words: Words) -> SocketAddr {
    let [high, low, port_and_scope] = words;
    let ip = core::net::Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
    let port = u16::try_from(port_and_scope >> 32).unwrap_or_default();
    let scope = u32::try_from(port_and_scope & u64::from(u32::MAX)).unwrap_or_default();
    match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::from((v4, port)),
        None => SocketAddrV6::new(ip, port, 0, scope).into(),
    }
}

/// One line of the table.
struct Entry {
    /// Odd while it is written.
    version: AtomicU32,
    /// When it was written, in seconds of the coarse monotonic clock, plus one; 0 when never.
    stamp: AtomicU32,
    generation: AtomicU32,
    /// The socket's cookie; which way; and the key and the value in words.
    cookie: AtomicU64,
    way: AtomicU64,
    key: [AtomicU64; 3],
    value: [AtomicU64; 3],
}

impl Entry {
    const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            stamp: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            cookie: AtomicU64::new(0),
            way: AtomicU64::new(0),
            key: [const { AtomicU64::new(0) }; 3],
            value: [const { AtomicU64::new(0) }; 3],
        }
    }

    fn is_for(&self, cookie: u64, way: Way, key: &Words) -> bool {
        self.cookie.load(Ordering::Relaxed) == cookie
            && self.way.load(Ordering::Relaxed) == way as u64
            && self.key.iter().zip(key).all(|(have, want)| have.load(Ordering::Relaxed) == *want)
    }

    fn is_believed(&self, now: u32) -> bool {
        let stamp = self.stamp.load(Ordering::Relaxed);
        stamp != 0
            && now.wrapping_sub(stamp) < BELIEVED
            && self.generation.load(Ordering::Relaxed) == GENERATION.load(Ordering::Relaxed)
    }

    fn read(&self, cookie: u64, way: Way, key: &Words, now: u32) -> Option<Words> {
        let version = self.version.load(Ordering::Acquire);
        if version & 1 != 0 || !self.is_for(cookie, way, key) || !self.is_believed(now) {
            return None;
        }
        let mut value = [0; 3];
        for (to, from) in value.iter_mut().zip(&self.value) {
            *to = from.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(value)
    }

    fn write(&self, cookie: u64, way: Way, key: &Words, value: &Words, now: u32) {
        let version = self.version.load(Ordering::Relaxed);
        let is_free = version & 1 == 0
            && self
                .version
                .compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !is_free {
            return;
        }
        fence(Ordering::Release);
        self.stamp.store(now, Ordering::Relaxed);
        self.generation.store(GENERATION.load(Ordering::Relaxed), Ordering::Relaxed);
        self.cookie.store(cookie, Ordering::Relaxed);
        self.way.store(way as u64, Ordering::Relaxed);
        for (to, from) in self.key.iter().zip(key).chain(self.value.iter().zip(value)) {
            to.store(*from, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

fn find(cookie: u64, way: Way, key: SocketAddr) -> Option<SocketAddr> {
    let key = words(key);
    let now = seconds();
    set(cookie, way, &key)?.iter().find_map(|entry| entry.read(cookie, way, &key, now)).map(address)
}

/// Writes over the entry for the same, or one that is not believed any more, or the oldest.
fn insert(cookie: u64, way: Way, key: SocketAddr, value: SocketAddr) {
    let key = words(key);
    let now = seconds();
    let Some(set) = set(cookie, way, &key) else { return };
    let same = set.iter().find(|entry| entry.is_for(cookie, way, &key));
    let age = |entry: &&Entry| match entry.stamp.load(Ordering::Relaxed) {
        0 => u32::MAX,
        stamp => now.wrapping_sub(stamp),
    };
    if let Some(entry) = same.or_else(|| set.iter().max_by_key(age)) {
        entry.write(cookie, way, &key, &words(value), now);
    }
}

fn set(cookie: u64, way: Way, key: &Words) -> Option<&'static [Entry; WAYS]> {
    // Fibonacci hashing: the golden ratio in 64 bits.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = cookie ^ way as u64;
    for word in key {
        hash = (hash ^ word).wrapping_mul(SPREAD);
        hash ^= hash >> 32;
    }
    let place = usize::try_from(hash.wrapping_mul(SPREAD) >> 40).unwrap_or_default();
    TABLE.get(place % SETS)
}

/// Never 0.
fn seconds() -> u32 {
    // Truncated: differences are what counts.
    (sys::coarse_seconds() as u32).wrapping_add(1).max(1)
}
