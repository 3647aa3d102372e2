use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use presocks_proto::name::Name;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::policy::route::Order;
use crate::scripted::{CONNECT, REFUSED, SUCCEEDED, Scripted, dialer, nobody, routes, run};

/// A program's socket, and the same as the broker has it.
fn socket() -> (TcpStream, Socket) {
    let flags = SocketFlags::CLOEXEC;
    let fd: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    let taken = Socket::new(fd.try_clone().unwrap()).unwrap();
    (fd.into(), taken)
}

fn target(host: &str, port: u16) -> Target {
    Target { host: Host::Name(Name::new(host.as_bytes()).unwrap()), port }
}

fn connect(dialer: &Dialer, socket: &Socket, target: Target) -> Outcome<Carried> {
    run(dialer.connect(socket, 0, &target, None))
}

#[test]
fn a_programs_own_socket_is_connected_by_way_of_the_proxy() {
    let proxy = Scripted::echo();
    let (dialer, _) = dialer(&routes(&[proxy.url()], Order::Strict));
    let (mut program, socket) = socket();
    let outcome = connect(&dialer, &socket, target("www.example", 80));
    assert_eq!(outcome.path, proxy.url());
    assert_eq!(outcome.result.unwrap().hops.len(), 1);
    assert_eq!(program.peer_addr().unwrap(), proxy.address);
    program.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    program.read_exact(&mut answer).unwrap();
    assert_eq!((&answer, &proxy.asked()[..]), (b"hello", &["www.example:80".to_owned()][..]));
}

#[test]
fn each_proxy_of_a_chain_is_asked_for_the_next() {
    let last = Scripted::echo();
    let to_last = last.address;
    // Connects to whom it is asked for, and carries.
    let first = Scripted::new(move |mut request| {
        let mut there = TcpStream::connect(&request.target).unwrap();
        request.reply(SUCCEEDED, to_last);
        let (mut from, mut back) = (request.connection.try_clone().unwrap(), there.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut there));
        let _ = std::io::copy(&mut back, &mut request.connection);
    });
    let (dialer, _) = dialer(&routes(&[first.url(), last.url()], Order::Strict));
    let (mut program, socket) = socket();
    let outcome = connect(&dialer, &socket, target("www.example", 80));
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.path, format!("{} -> {}", first.url(), last.url()));
    assert_eq!(first.asked(), [last.address.to_string()]);
    assert_eq!(last.asked(), ["www.example:80"]);
    program.write_all(b"x").unwrap();
    program.read_exact(&mut [0]).unwrap();
}

#[test]
fn an_attempt_goes_on_without_a_dead_proxy_and_not_without_one_that_refuses() {
    let dead = format!("socks5://{}", nobody());
    let (alive, unwilling) = (Scripted::echo(), Scripted::refusing(REFUSED));
    let urls = [dead.clone(), alive.url(), unwilling.url()];
    let (one, passed_over) = dialer(&routes(&urls, Order::Failover));
    let (program, socket_) = socket();
    assert!(connect(&one, &socket_, target("www.example", 80)).result.is_ok());
    assert_eq!(program.peer_addr().unwrap(), alive.address);
    assert_eq!(*passed_over.borrow(), [dead]);
    let (other, passed_over) = dialer(&routes(&[unwilling.url(), alive.url()], Order::Failover));
    let (_program, socket) = socket();
    let failure = connect(&other, &socket, target("www.example", 80)).result.err().unwrap();
    assert_eq!(failure.errno(), libc::ECONNREFUSED);
    assert!(passed_over.borrow().is_empty() && alive.asked().len() == 1);
    assert!(!socket.is_connected());
}

#[test]
fn a_connection_of_the_brokers_own_is_as_good() {
    let proxy = Scripted::echo();
    let (dialer, _) = dialer(&routes(&[proxy.url()], Order::Strict));
    run(async {
        let mut stream = dialer.reach(0, target("dns.example", 53)).await.result.unwrap();
        stream.write_all(b"query").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"query");
    });
}

/// BIND and UDP ASSOCIATE: what the proxy binds.
#[test]
fn a_proxy_that_listens_or_takes_datagrams_says_where() {
    let bound = SocketAddr::from(([203, 0, 113, 9], 4000));
    let proxy = Scripted::new(move |mut request| {
        assert_ne!(request.command, CONNECT);
        request.reply(SUCCEEDED, bound);
        // It lasts as long as the connection.
        let _ = request.connection.read(&mut [0]);
    });
    let (dialer, _) = dialer(&routes(&[proxy.url()], Order::Strict));
    let hop = Rc::clone(dialer.hop(0, 0).unwrap());
    run(async {
        let listening = dialer.bind(&[Rc::clone(&hop)], target("peer.example", 0), None).await.ok().unwrap();
        assert_eq!(listening.at, bound);
        let associated = dialer.associate(&hop, proxy.address).await.ok().unwrap();
        let expected = Target { host: Host::Address(bound.ip()), port: bound.port() };
        assert_eq!(associated.bound, Some(expected));
    });
    assert_eq!(proxy.asked()[0], "peer.example:0");
}
