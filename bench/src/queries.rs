//! What a worker does with a name server: the measured code itself, as in `task`, which calls it.
//!
//! Every name is asked for once, and every reply is checked, so that nothing wrong can be fast. The replies to a flight may come in any
//! order.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::measure::{answer, mean};
use crate::{Outcome, words};

/// Far longer than an answer takes; one that is lost ends the work.
const PATIENCE: Duration = Duration::from_secs(5);
/// Queries in flight at a time.
const FLIGHT: usize = 32;
/// The size of a message's header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// Is this the right reply, the second, to the query, the first?
type Check = fn(&[u8], &[u8]) -> bool;

/// Does as `task` says with this server.
///
/// # Errors
/// The first failure, and the first reply that is not right.
pub(crate) fn run(way: &str, server: SocketAddrV4, is_right: Check) -> Outcome<()> {
    match way {
        words::ALONE => over_udp(server, 1, is_right),
        words::FLIGHT => over_udp(server, FLIGHT, is_right),
        words::STREAM => over_tcp(server, is_right),
        _ => Err("not a way to ask a name server".into()),
    }
}

/// The same names, as programs look them up that leave it to libc.
///
/// # Errors
/// As [`run`].
pub(crate) fn look_up() -> Outcome<()> {
    let mut number = 0;
    answer(mean(move || {
        let addresses = (name(number).as_str(), 0).to_socket_addrs()?;
        number += 1;
        let of_v4 = addresses.filter_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        });
        right(matches!(*of_v4.collect::<Vec<_>>().as_slice(), [address] if is_stand_in(address)))
    }))
}

fn over_udp(server: SocketAddrV4, at_once: usize, is_right: Check) -> Outcome<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 512];
    answer(flights(at_once, |flight| {
        for query in flight.under_way() {
            socket.send_to(query, server)?;
        }
        for _ in 0..flight.len() {
            let (len, from) = socket.recv_from(&mut buffer)?;
            right(from == SocketAddr::V4(server))?;
            flight.land(buffer.get(..len).unwrap_or_default(), is_right)?;
        }
        Ok(())
    }))
}

fn over_tcp(server: SocketAddrV4, is_right: Check) -> Outcome<()> {
    let connection = TcpStream::connect(server)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut connection = BufReader::new(connection);
    answer(flights(FLIGHT, |flight| {
        let mut frames = Vec::new();
        for query in flight.under_way() {
            frames.extend(u16::try_from(query.len()).unwrap_or_default().to_be_bytes());
            frames.extend(query);
        }
        connection.get_mut().write_all(&frames)?;
        for _ in 0..flight.len() {
            let mut len = [0; 2];
            connection.read_exact(&mut len)?;
            let mut reply = vec![0; u16::from_be_bytes(len).into()];
            connection.read_exact(&mut reply)?;
            flight.land(&reply, is_right)?;
        }
        Ok(())
    }))
}

/// As many as asked for, so many of them in flight at a time: the mean of all.
fn flights(
    at_once: usize,
    mut exchange: impl FnMut(&mut Flight) -> io::Result<()>,
) -> impl FnMut(usize) -> io::Result<Vec<u128>> {
    let mut number = 0;
    move |count| {
        let started = Instant::now();
        let end = number + count;
        while number < end {
            let next = end.min(number + at_once);
            exchange(&mut Flight::of(number..next))?;
            number = next;
        }
        Ok(vec![started.elapsed().as_nanos() / count.max(1) as u128])
    }
}

/// Queries under consecutive IDs.
struct Flight {
    first: u16,
    /// `None` for each that has its reply.
    queries: Vec<Option<Vec<u8>>>,
}

impl Flight {
    fn of(numbers: Range<usize>) -> Self {
        Self { first: id(numbers.start), queries: numbers.map(|number| Some(query(number))).collect() }
    }

    fn len(&self) -> usize {
        self.queries.len()
    }

    fn under_way(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.queries.iter().flatten()
    }

    /// Takes the reply to one of them, the first to that one.
    fn land(&mut self, reply: &[u8], is_right: Check) -> io::Result<()> {
        let place = match *reply {
            [high, low, ..] => u16::from_be_bytes([high, low]).wrapping_sub(self.first),
            _ => return right(false),
        };
        let query = self.queries.get_mut(usize::from(place)).and_then(Option::take);
        right(query.is_some_and(|query| is_right(&query, reply)))
    }
}

/// The query's ID and question, and nothing more than one A record, a stand-in (RFC 1035, section 4.1).
pub(crate) fn is_answer(query: &[u8], reply: &[u8]) -> bool {
    let [high, low, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, rest @ ..] = reply else { return false };
    let Some((header, question)) = query.split_at_checked(HEADER) else { return false };
    header.starts_with(&[*high, *low])
        && matches!(
            rest.strip_prefix(question),
            Some([0xc0, 12, 0, 1, 0, 1, _, _, _, _, 0, 4, a, b, c, d])
                if is_stand_in(Ipv4Addr::new(*a, *b, *c, *d))
        )
}

/// The query itself.
pub(crate) fn is_echo(query: &[u8], reply: &[u8]) -> bool {
    query == reply
}

/// 198.18.0.0/15.
fn is_stand_in(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [198, 18 | 19, ..])
}

fn right(is: bool) -> io::Result<()> {
    if is { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// For the A records of a name, recursion desired (RFC 1035, section 4.1).
fn query(number: usize) -> Vec<u8> {
    let mut query = id(number).to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name(number).split('.') {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn id(number: usize) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or_default()
}

fn name(number: usize) -> String {
    format!("host-{number}.bench.example")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(query: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 19, 0, 1]);
        answer
    }

    #[test]
    fn an_answer_is_to_this_query_and_of_one_stand_in() {
        let query = query(7);
        let right = answer_to(&query);
        assert!(is_answer(&query, &right));
        assert!(!is_answer(&query, &query));
        assert!(!is_answer(&query, &[&right[..], &[0]].concat()));
        // The ID, the code, the number of answers, a letter of the name, the type, the address.
        for place in [1, 3, 7, 14, right.len() - 13, right.len() - 4] {
            let mut wrong = right.clone();
            wrong[place] ^= 4;
            assert!(!is_answer(&query, &wrong), "{place}");
        }
    }

    #[test]
    fn a_flight_takes_one_reply_to_each_query_in_any_order() {
        let mut flight = Flight::of(0xfffe..0x10001);
        let replies: Vec<_> = flight.under_way().map(|query| answer_to(query)).collect();
        for reply in replies.iter().rev() {
            flight.land(reply, is_answer).unwrap();
        }
        flight.land(&replies[0], is_answer).unwrap_err();
        Flight::of(0..1).land(&replies[0], is_answer).unwrap_err();
    }
}
