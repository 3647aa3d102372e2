use super::*;

const PORT: u16 = 4000;
const VIA: Via = Some(0);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn who(cookie: Cookie) -> Who {
    let port = 5000 + u16::try_from(cookie).unwrap();
    Who { cookie, inode: cookie + 1000, port, ip: None, is_v6: true, speaks_v4: true }
}

fn given(flows: &mut Flows, who: Who, destination: SocketAddr) -> SocketAddr {
    let token = flows.free_v4(PORT);
    flows.insert(who, destination, VIA, token);
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
    assert_eq!(flows.token(who(1), destination, VIA), Some(token));
    assert_eq!(flows.token(who(2), destination, VIA), None);
    assert_eq!(flows.recognise(token, address("127.0.0.1:5001")), Some((1, destination, VIA)));
    assert_eq!(flows.recognise(token, address("127.0.0.1:5002")), None);
    assert_eq!(flows.way_back(1, destination, VIA), back(Some(token), "127.0.0.1:5001"));
    assert_eq!(flows.way_back(1, address("192.0.2.2:7"), VIA), back(None, "127.0.0.1:5001"));
    assert_eq!(flows.way_back(1, address("[2001:db8::1]:7"), VIA), back(None, "[::1]:5001"));
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
    assert_eq!(flows.way_back(1, address("[2001:db8::1]:7"), VIA), None);
}

#[test]
fn an_ipv6_token_is_taken_from_the_flow_that_was_not_used() {
    let mut flows = Flows::default();
    let destinations = ["[2001:db8::1]:7", "[2001:db8::2]:7"].map(address);
    for (destination, token) in destinations.iter().zip(["[::1]:4001", "[::1]:4002"].map(address)) {
        flows.share(token);
        flows.insert(who(1), *destination, VIA, token);
    }
    let later = Instant::now() + 2 * KNOWN;
    flows.free_one(who(2).port, later);
    flows.free_one(who(1).port, Instant::now());
    assert_eq!(flows.free_v6(who(1)), None, "another's, and those that a shim may know");
    flows.free_one(who(1).port, later);
    assert_eq!(flows.free_v6(who(1)), Some(address("[::1]:4001")));
    assert_eq!(flows.token(who(1), destinations[0], VIA), None);
}

#[test]
fn a_connected_socket_is_known_by_its_address_and_hears_its_peer_alone() {
    let mut flows = Flows::default();
    let (destination, gate, own) =
        (address("192.0.2.1:7"), address("10.0.0.2:4000"), address("10.0.0.2:5001"));
    flows.connect(who(1), (destination, VIA), gate, own);
    assert_eq!(flows.recognise(gate, own), Some((1, destination, VIA)));
    assert_eq!(flows.recognise(gate, address("10.0.0.2:5002")), None);
    assert_eq!(flows.recognise(address("10.0.0.3:4000"), own), None);
    assert_eq!(flows.way_back(1, destination, VIA), back(Some(gate), "10.0.0.2:5001"));
    assert_eq!(flows.way_back(1, address("192.0.2.2:7"), VIA), None);
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
        flows.insert(who, destination, VIA, token);
    }
    assert_eq!((flows.free_v6(who(1)), flows.free_v6(who(2))), (None, Some(tokens[0])));
    flows.insert(who(2), destinations[1], VIA, tokens[0]);
    assert_eq!(flows.recognise(tokens[0], address("[::1]:5001")), Some((1, destinations[0], VIA)));
    assert_eq!(flows.recognise(tokens[0], address("[::1]:5002")), Some((2, destinations[1], VIA)));
    assert_eq!(flows.origin(2, tokens[0]), Some(destinations[1]));
    let moved = Who { port: 6000, ..who(1) };
    assert_eq!(flows.token(moved, destinations[0], VIA), None);
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
    assert_eq!(flows.token(who(1), to(0), VIA), None);
    flows.token(who(1), to(1), VIA).unwrap();
    given(&mut flows, who(1), to(MOST + 1));
    assert_eq!(flows.token(who(1), to(1), VIA), Some(second));
    assert_eq!((flows.origin(1, first), flows.tokens.len()), (None, MOST));
    assert_eq!(flows.sockets[&1].tokens.len(), MOST);
}

#[test]
fn a_destination_that_is_reached_by_two_ways_is_two_flows() {
    let mut flows = Flows::default();
    let destination = address("192.0.2.1:7");
    let first = given(&mut flows, who(1), destination);
    assert_eq!(flows.token(who(1), destination, Some(1)), None);
    let second = flows.free_v4(PORT);
    flows.insert(who(1), destination, Some(1), second);
    let from = address("127.0.0.1:5001");
    assert_eq!(flows.recognise(first, from), Some((1, destination, VIA)));
    assert_eq!(flows.recognise(second, from), Some((1, destination, Some(1))));
    assert_eq!(flows.way_back(1, destination, VIA), back(Some(first), "127.0.0.1:5001"));
    assert_eq!(flows.way_back(1, destination, Some(1)), back(Some(second), "127.0.0.1:5001"));
    let (gate, own) = (address("127.0.0.1:4000"), from);
    flows.connect(who(1), (destination, Some(1)), gate, own);
    assert_eq!(flows.peer_via(1), Some(Some(1)));
    assert_eq!(flows.way_back(1, destination, Some(2)), None);
}

#[test]
fn the_program_that_used_a_socket_last_is_known() {
    let mut flows = Flows::default();
    given(&mut flows, who(1), address("192.0.2.1:7"));
    assert_eq!(*flows.program(1), [""; 0]);
    flows.note_program(1, vec!["dig".into()]);
    flows.note_program(2, vec!["ssh".into()]);
    assert_eq!((&*flows.program(1), &*flows.program(2)), (&["dig".to_owned()][..], &[][..]));
}
