//! Whose datagrams stand for what: the book that the gates keep. Data only, no sockets.
//!
//! A **flow** is a program's socket and a destination. It has a **token**, an address on loopback that is the broker's: what the program sends to
//! the token goes to the destination, and what comes from the destination comes to the program from the token. A connected socket
//! needs no token of its own: it is known by the address that it sends from.
//!
//! IPv4 has loopback addresses enough for each flow to have its own. IPv6 has one: its tokens are ports, which sockets that
//! send from different ports share.
//!
//! Everybody on this machine can send to a loopback address, so a datagram counts only when it comes from the port of
//! the token's own socket.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// IPv4 tokens are in 127.192.0.0/10, where nothing else has ever been seen.
const FIRST_TOKEN: u32 = 0x7fc0_0000;
const TOKENS: u32 = 1 << 22;

/// Most tokens at once: some 15 MB. Beyond, those that were not used for long make room.
const MOST: usize = 65_536;

/// A shim believes what it was told of a token for 30 s (`shim/src/flows.rs`), by a coarse clock.
const KNOWN: Duration = Duration::from_secs(40);

/// `SO_COOKIE` (socket(7)).
pub(super) type Cookie = u64;

/// A program's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) cookie: Cookie,
    /// Its number in /proc/net/udp.
    pub(super) inode: u64,
    /// The port from which it sends.
    pub(super) port: u16,
    /// The address that it is bound to, if it is to one.
    pub(super) ip: Option<IpAddr>,
    /// Is it an IPv6 socket?
    pub(super) is_v6: bool,
    /// Does it speak IPv4?
    pub(super) speaks_v4: bool,
}

impl Who {
    /// Does it speak both families?
    fn speaks_both(&self) -> bool {
        self.is_v6 && self.speaks_v4 && self.ip.is_none()
    }
}

/// A session's flows.
#[derive(Default)]
pub(super) struct Flows {
    sockets: HashMap<Cookie, Entry>,
    tokens: HashMap<Key, Token>,
    /// The IPv6 tokens.
    shared: Vec<SocketAddr>,
    /// Connected sockets, by the address that they send from.
    connected: HashMap<SocketAddr, Cookie>,
    /// All tokens, the oldest first; one that was used since gets another turn.
    turns: VecDeque<Key>,
    given: u32,
}

/// A token, and, for those that are shared, the port of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(SocketAddr, u16);

impl Key {
    fn new(token: SocketAddr, port: u16) -> Self {
        Self(token, if token.is_ipv4() { 0 } else { port })
    }
}

struct Entry {
    who: Who,
    /// The address from which the program was heard last.
    heard: Option<SocketAddr>,
    peer: Option<Peer>,
    tokens: HashMap<SocketAddr, SocketAddr>,
    /// It was not in the kernel's list when that was read last.
    is_missed: bool,
}

/// How a socket is connected.
#[derive(Clone, Copy)]
struct Peer {
    destination: SocketAddr,
    /// The gate's address.
    gate: SocketAddr,
    /// The socket's own.
    own: SocketAddr,
}

struct Token {
    cookie: Cookie,
    destination: SocketAddr,
    is_used: bool,
    /// When a shim, which then knows it for a while, was told of it last.
    told: Instant,
}

/// How a datagram comes to a program's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WayBack {
    /// From this address of ours; `None` when the source has no token yet.
    pub(super) own: Option<SocketAddr>,
    /// To this address of the socket's.
    pub(super) to: SocketAddr,
}

impl Flows {
    /// The token for a flow, if it has one.
    pub(super) fn token(&mut self, who: Who, destination: SocketAddr) -> Option<SocketAddr> {
        let token = *self.entry(who).tokens.get(&destination)?;
        let known = self.tokens.get_mut(&Key::new(token, who.port))?;
        (known.is_used, known.told) = (true, Instant::now());
        Some(token)
    }

    /// An IPv4 token that no flow has, at the gate's port.
    pub(super) fn free_v4(&mut self, port: u16) -> SocketAddr {
        loop {
            let address = Ipv4Addr::from_bits(FIRST_TOKEN + self.given % TOKENS);
            self.given = self.given.wrapping_add(1);
            // Some programs take addresses that end in 0 or 255 for a network's.
            let [_, _, _, last] = address.octets();
            let token = SocketAddr::from((address, port));
            if !matches!(last, 0 | 255) && !self.tokens.contains_key(&Key::new(token, 0)) {
                return token;
            }
        }
    }

    /// An IPv6 token that no flow of a socket with this port has; `None` when there must be one more.
    pub(super) fn free_v6(&self, who: Who) -> Option<SocketAddr> {
        let taken = self.sockets.get(&who.cookie).map_or(0, |entry| entry.tokens.len());
        // Most often the tokens up to that one are taken, and the next is not.
        let (first, next) = self.shared.split_at_checked(taken).unwrap_or((&self.shared, &[]));
        let is_free = |token: &&SocketAddr| !self.tokens.contains_key(&Key::new(**token, who.port));
        next.iter().chain(first).find(is_free).copied()
    }

    /// There is one more IPv6 token.
    pub(super) fn share(&mut self, token: SocketAddr) {
        self.shared.push(token);
    }

    /// Gives a flow its token.
    pub(super) fn insert(&mut self, who: Who, destination: SocketAddr, token: SocketAddr) {
        if self.tokens.len() >= MOST {
            self.make_room(|_, _| true);
        }
        self.entry(who).tokens.insert(destination, token);
        let key = Key::new(token, who.port);
        let told = Instant::now();
        self.tokens.insert(key, Token { cookie: who.cookie, destination, is_used: true, told });
        self.turns.push_back(key);
    }

    /// The book's page for a socket. When it has another port now, its shared tokens mean nothing any more.
    fn entry(&mut self, who: Who) -> &mut Entry {
        let tokens = &mut self.tokens;
        let entry = self.sockets.entry(who.cookie).or_insert_with(|| Entry {
            who,
            heard: None,
            peer: None,
            tokens: HashMap::new(),
            is_missed: false,
        });
        let before = entry.who.port;
        if before != who.port {
            entry
                .tokens
                .retain(|_, token| token.is_ipv4() || tokens.remove(&Key::new(*token, before)).is_none());
        }
        entry.who = who;
        entry
    }

    /// Takes an IPv6 token from the flow of this port that was not used for longest; not from one that a shim may still know: its datagrams would
    /// go to whoever has the token then.
    pub(super) fn free_one(&mut self, port: u16, now: Instant) {
        self.make_room(|key, token| key.1 == port && now.saturating_duration_since(token.told) > KNOWN);
    }

    fn make_room(&mut self, may_go: impl Fn(Key, &Token) -> bool) {
        // Twice round: whoever was used has lost that by the second time.
        for _ in 0..2 * self.turns.len() {
            let Some(key) = self.turns.pop_front() else { return };
            match self.tokens.get_mut(&key) {
                // Of a socket that is gone.
                None => {}
                Some(token) if !may_go(key, token) => self.turns.push_back(key),
                Some(used) if used.is_used => {
                    used.is_used = false;
                    self.turns.push_back(key);
                }
                Some(_) => {
                    if let Some(removed) = self.tokens.remove(&key)
                        && let Some(entry) = self.sockets.get_mut(&removed.cookie)
                    {
                        entry.tokens.remove(&removed.destination);
                    }
                    return;
                }
            }
        }
    }

    /// Is another socket connected that sends from this address?
    pub(super) fn is_taken(&self, own: SocketAddr, cookie: Cookie) -> bool {
        self.connected.get(&own).is_some_and(|other| *other != cookie)
    }

    /// The socket is connected to `gate`, and sends from `own`.
    pub(super) fn connect(&mut self, who: Who, destination: SocketAddr, gate: SocketAddr, own: SocketAddr) {
        self.forget_peer(who.cookie);
        self.connected.insert(own, who.cookie);
        self.entry(who).peer = Some(Peer { destination, gate, own });
    }

    /// The socket is connected elsewhere, or to nothing. Was it connected to a gate?
    pub(super) fn forget_peer(&mut self, cookie: Cookie) -> bool {
        let peer = self.sockets.get_mut(&cookie).and_then(|entry| entry.peer.take());
        if let Some(peer) = peer
            && self.connected.get(&peer.own) == Some(&cookie)
        {
            self.connected.remove(&peer.own);
        }
        peer.is_some()
    }

    /// Whose datagram it is that came from `from` to `to`, one of ours, and where it is to go.
    pub(super) fn recognise(&mut self, to: SocketAddr, from: SocketAddr) -> Option<(Cookie, SocketAddr)> {
        let (cookie, destination) = match self.tokens.get_mut(&Key::new(to, from.port())) {
            Some(token) => {
                token.is_used = true;
                (token.cookie, token.destination)
            }
            None => {
                let cookie = *self.connected.get(&from)?;
                let peer = self.sockets.get(&cookie)?.peer.filter(|peer| peer.gate == to)?;
                (cookie, peer.destination)
            }
        };
        let is_from = |who: Who| who.port == from.port() && who.ip.is_none_or(|ip| ip == from.ip());
        let entry = self.sockets.get_mut(&cookie).filter(|entry| is_from(entry.who))?;
        entry.heard = Some(from);
        Some((cookie, destination))
    }

    /// How a datagram of `source` comes to the socket; `None` when it is connected to somebody else, or gone.
    pub(super) fn way_back(&self, cookie: Cookie, source: SocketAddr) -> Option<WayBack> {
        let entry = self.sockets.get(&cookie)?;
        if let Some(peer) = entry.peer.filter(|peer| peer.destination == source) {
            return Some(WayBack { own: Some(peer.gate), to: peer.own });
        }
        let own = entry.tokens.get(&source).copied();
        // The kernel lets a connected socket hear its peer alone.
        if own.is_none() && entry.peer.is_some() {
            return None;
        }
        let heard = entry.heard?;
        // A socket of both families has an address in each. Another's address in the other family is somebody else's.
        let to = match own.unwrap_or(source) {
            SocketAddr::V4(_) if heard.is_ipv4() => heard,
            SocketAddr::V6(_) if heard.is_ipv6() => heard,
            _ if !entry.who.speaks_both() => return None,
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, heard.port()).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, heard.port()).into(),
        };
        Some(WayBack { own, to })
    }

    /// Whom `address` stands for to this socket.
    pub(super) fn origin(&mut self, cookie: Cookie, address: SocketAddr) -> Option<SocketAddr> {
        let port = self.sockets.get(&cookie)?.who.port;
        let token = self.tokens.get_mut(&Key::new(address, port))?;
        token.told = Instant::now();
        // Sockets that share a port (SO_REUSEPORT) may get each other's answers.
        let is_of_port = self.sockets.get(&token.cookie).is_some_and(|entry| entry.who.port == port);
        is_of_port.then_some(token.destination)
    }

    /// As the book has it.
    pub(super) fn who(&self, cookie: Cookie) -> Option<Who> {
        Some(self.sockets.get(&cookie)?.who)
    }

    /// Has this socket a flow?
    pub(super) fn has(&self, cookie: Cookie) -> bool {
        self.sockets.contains_key(&cookie)
    }

    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Closes the book on sockets that are not among `open` for the second time: one that is being moved in the kernel's table may be
    /// missing once. Returns their cookies.
    pub(super) fn sweep(&mut self, open: &HashSet<u64>) -> Vec<Cookie> {
        let mut gone = Vec::new();
        for (cookie, entry) in &mut self.sockets {
            let was_missed = entry.is_missed;
            entry.is_missed = !open.contains(&entry.who.inode);
            if entry.is_missed && was_missed {
                gone.push(*cookie);
            }
        }
        for cookie in &gone {
            self.forget_peer(*cookie);
            if let Some(entry) = self.sockets.remove(cookie) {
                for token in entry.tokens.into_values() {
                    self.tokens.remove(&Key::new(token, entry.who.port));
                }
            }
        }
        if self.turns.len() > 2 * self.tokens.len() {
            let known = &self.tokens;
            self.turns.retain(|key| known.contains_key(key));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 4000;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn who(cookie: Cookie) -> Who {
        let port = 5000 + u16::try_from(cookie).unwrap();
        Who { cookie, inode: cookie + 1000, port, ip: None, is_v6: true, speaks_v4: true }
    }

    fn given(flows: &mut Flows, who: Who, destination: SocketAddr) -> SocketAddr {
        let token = flows.free_v4(PORT);
        flows.insert(who, destination, token);
        token
    }

    fn back(own: Option<SocketAddr>, to: &str) -> Option<WayBack> {
        Some(WayBack { own, to: address(to) })
    }

    #[test]
    fn a_token_leads_there_and_back_for_its_own_socket_alone() {
        let mut flows = Flows::default();
        let destination = address("192.0.2.1:7");
        let token = given(&mut flows, who(1), destination);
        assert_eq!(flows.token(who(1), destination), Some(token));
        assert_eq!(flows.token(who(2), destination), None);
        assert_eq!(flows.recognise(token, address("127.0.0.1:5001")), Some((1, destination)));
        assert_eq!(flows.recognise(token, address("127.0.0.1:5002")), None);
        assert_eq!(flows.way_back(1, destination), back(Some(token), "127.0.0.1:5001"));
        assert_eq!(flows.way_back(1, address("192.0.2.2:7")), back(None, "127.0.0.1:5001"));
        assert_eq!(flows.way_back(1, address("[2001:db8::1]:7")), back(None, "[::1]:5001"));
        given(&mut flows, who(2), destination);
        assert_eq!((flows.origin(1, token), flows.origin(2, token)), (Some(destination), None));
    }

    #[test]
    fn a_stranger_at_another_address_of_the_same_port_is_not_the_socket() {
        let mut flows = Flows::default();
        let bound = Who { ip: Some([10, 0, 0, 2].into()), is_v6: false, ..who(1) };
        let token = given(&mut flows, bound, address("192.0.2.1:7"));
        assert_eq!(flows.recognise(token, address("127.0.0.1:5001")), None);
        assert!(flows.recognise(token, address("10.0.0.2:5001")).is_some());
        assert_eq!(flows.way_back(1, address("[2001:db8::1]:7")), None);
    }

    #[test]
    fn an_ipv6_token_is_taken_from_the_flow_that_was_not_used() {
        let mut flows = Flows::default();
        let destinations = ["[2001:db8::1]:7", "[2001:db8::2]:7"].map(address);
        for (destination, token) in destinations.iter().zip(["[::1]:4001", "[::1]:4002"].map(address)) {
            flows.share(token);
            flows.insert(who(1), *destination, token);
        }
        let later = Instant::now() + 2 * KNOWN;
        flows.free_one(who(2).port, later);
        flows.free_one(who(1).port, Instant::now());
        assert_eq!(flows.free_v6(who(1)), None, "another's, and those that a shim may know");
        flows.free_one(who(1).port, later);
        assert_eq!(flows.free_v6(who(1)), Some(address("[::1]:4001")));
        assert_eq!(flows.token(who(1), destinations[0]), None);
    }

    #[test]
    fn a_connected_socket_is_known_by_its_address_and_hears_its_peer_alone() {
        let mut flows = Flows::default();
        let (destination, gate, own) =
            (address("192.0.2.1:7"), address("10.0.0.2:4000"), address("10.0.0.2:5001"));
        flows.connect(who(1), destination, gate, own);
        assert_eq!(flows.recognise(gate, own), Some((1, destination)));
        assert_eq!(flows.recognise(gate, address("10.0.0.2:5002")), None);
        assert_eq!(flows.recognise(address("10.0.0.3:4000"), own), None);
        assert_eq!(flows.way_back(1, destination), back(Some(gate), "10.0.0.2:5001"));
        assert_eq!(flows.way_back(1, address("192.0.2.2:7")), None);
        assert!(flows.is_taken(own, 2) && !flows.is_taken(own, 1));
        flows.forget_peer(1);
        assert_eq!(flows.recognise(gate, own), None);
    }

    #[test]
    fn sockets_share_ipv6_tokens_and_are_told_apart_by_their_ports() {
        let mut flows = Flows::default();
        let destinations = ["[2001:db8::1]:7", "[2001:db8::2]:7"].map(address);
        let tokens = ["[::1]:4001", "[::1]:4002"].map(address);
        assert_eq!(flows.free_v6(who(1)), None);
        for token in tokens {
            flows.share(token);
            let who = who(1);
            let destination = destinations[usize::from(token == tokens[1])];
            assert_eq!(flows.free_v6(who), Some(token));
            flows.insert(who, destination, token);
        }
        assert_eq!((flows.free_v6(who(1)), flows.free_v6(who(2))), (None, Some(tokens[0])));
        flows.insert(who(2), destinations[1], tokens[0]);
        assert_eq!(flows.recognise(tokens[0], address("[::1]:5001")), Some((1, destinations[0])));
        assert_eq!(flows.recognise(tokens[0], address("[::1]:5002")), Some((2, destinations[1])));
        assert_eq!(flows.origin(2, tokens[0]), Some(destinations[1]));
        let moved = Who { port: 6000, ..who(1) };
        assert_eq!(flows.token(moved, destinations[0]), None);
        assert_eq!(flows.recognise(tokens[0], address("[::1]:5001")), None);
    }

    #[test]
    fn a_socket_that_is_missing_twice_is_gone_with_all_its_flows() {
        let mut flows = Flows::default();
        let destination = address("192.0.2.1:7");
        let token = given(&mut flows, who(1), destination);
        given(&mut flows, who(2), destination);
        let open = HashSet::from([who(2).inode]);
        assert_eq!(flows.sweep(&open), []);
        assert_eq!(flows.sweep(&HashSet::from([who(1).inode, who(2).inode])), []);
        flows.sweep(&open);
        assert_eq!(flows.sweep(&open), [1]);
        assert!(!flows.has(1) && flows.has(2) && flows.origin(1, token).is_none());
    }

    #[test]
    fn what_was_not_used_for_long_makes_room_and_tokens_are_never_shared() {
        let mut flows = Flows::default();
        let to = |n: usize| SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + n as u32), 7));
        let first = given(&mut flows, who(1), to(0));
        let second = given(&mut flows, who(1), to(1));
        for n in 2..MOST {
            given(&mut flows, who(1), to(n));
        }
        assert_eq!(flows.tokens.len(), MOST);
        // All have been used once; the first is used again when its turn is over.
        given(&mut flows, who(1), to(MOST));
        assert_eq!(flows.token(who(1), to(0)), None);
        flows.token(who(1), to(1)).unwrap();
        given(&mut flows, who(1), to(MOST + 1));
        assert_eq!(flows.token(who(1), to(1)), Some(second));
        assert_eq!((flows.origin(1, first), flows.tokens.len()), (None, MOST));
        assert_eq!(flows.sockets[&1].tokens.len(), MOST);
    }
}
