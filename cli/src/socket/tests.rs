use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ip_freebind, set_socket_linger, socket_error};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, connect, connect_unspec, getpeername, ipproto,
    listen, shutdown, socket_with,
};
use tokio::time::timeout;

use super::{NotConnected, Socket};
use crate::readiness::tests::{Silent, run};

fn errno(error: NotConnected) -> i32 {
    let NotConnected::Kernel(error) = error else { panic!("{error:?}") };
    error.raw_os_error().unwrap()
}

/// TCP over either family, and MPTCP where the kernel has it.
fn kinds() -> Vec<(AddressFamily, Option<rustix::net::Protocol>)> {
    let all = [
        (AddressFamily::INET, None),
        (AddressFamily::INET6, None),
        (AddressFamily::INET, Some(ipproto::MPTCP)),
    ];
    let is_there = |(family, protocol): &(_, _)| {
        socket_with(*family, SocketType::STREAM, SocketFlags::CLOEXEC, *protocol).is_ok()
    };
    let there: Vec<_> = all.into_iter().filter(is_there).collect();
    assert!(
        there.len() == all.len() || std::env::var("CI").as_deref() != Ok("true"),
        "CI needs IPv6 and MPTCP"
    );
    there
}

/// A program's socket, and the same as the broker has it.
fn socket((family, protocol): (AddressFamily, Option<rustix::net::Protocol>)) -> (OwnedFd, Socket) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let programs = socket_with(family, SocketType::STREAM, flags, protocol).unwrap();
    let socket = Socket::new(programs.try_clone().unwrap()).unwrap();
    (programs, socket)
}

/// What becomes of a connect() that is not answered, when `change` is done to its socket meanwhile.
fn outcome(
    kind: (AddressFamily, Option<rustix::net::Protocol>),
    change: impl FnOnce(&OwnedFd),
) -> (OwnedFd, i32) {
    let silent = Silent::new();
    let (programs, socket) = socket(kind);
    let address = socket.reach(silent.address).unwrap();
    let error = run(async {
        let changed = async {
            // After the socket has begun to wait.
            tokio::task::yield_now().await;
            change(&programs);
        };
        let (result, ()) = tokio::join!(socket.connect(address), changed);
        result.unwrap_err()
    });
    (programs, errno(error))
}

#[test]
fn what_does_not_speak_tcp_is_not_taken_for_a_programs_socket() {
    for (family, kind) in [
        (AddressFamily::INET, SocketType::DGRAM),
        (AddressFamily::INET6, SocketType::DGRAM),
        (AddressFamily::UNIX, SocketType::STREAM),
        (AddressFamily::NETLINK, SocketType::RAW),
    ] {
        let stranger = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        let error = Socket::new(stranger).err().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{family:?}");
    }
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert_eq!(Socket::new(file).err().unwrap().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn what_its_program_dissolves_is_told_from_what_fails() {
    // The kernel wakes nobody who waits for an MPTCP socket that is dissolved, and lets it keep its address.
    for kind in kinds().into_iter().filter(|(_, protocol)| protocol.is_none()) {
        let (_, error) = outcome(kind, |socket| connect_unspec(socket).unwrap());
        assert_eq!(error, libc::ECONNABORTED, "{kind:?}");
        let (_, error) = outcome(kind, |socket| shutdown(socket, Shutdown::Write).unwrap());
        assert_eq!(error, libc::ECONNABORTED, "{kind:?}");
    }
}

#[test]
fn a_socket_that_listens_is_no_connection_that_is_under_way() {
    let silent = Silent::new();
    for kind in kinds() {
        let (programs, socket) = socket(kind);
        let address = socket.reach(silent.address).unwrap();
        assert_eq!(connect(&programs, &address), Err(Errno::INPROGRESS));
        assert!(!socket.is_its_programs(address), "{kind:?}");
        connect_unspec(&programs).unwrap();
        assert!(socket.is_its_programs(address), "{kind:?}");
        listen(&programs, 1).unwrap();
        assert!(socket.is_its_programs(address), "{kind:?}");
    }
}

#[test]
fn a_socket_that_is_connected_elsewhere_meanwhile_is_not_taken_for_ours() {
    for kind in kinds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = listener.local_addr().unwrap();
        let (programs, error) = outcome(kind, |programs| {
            connect_unspec(programs).unwrap();
            let of_ours = Socket::new(programs.try_clone().unwrap()).unwrap();
            // Refused, reset or under way: it is the same.
            let _ = connect(programs, &of_ours.reach(elsewhere).unwrap());
            drop(listener.accept().unwrap());
        });
        assert_eq!(error, libc::ECONNABORTED, "{kind:?}");
        assert!(getpeername(&programs).is_ok(), "{kind:?}");
    }
}

#[test]
fn a_socket_that_is_refused_or_reset_is_not_taken_for_dissolved() {
    for kind in kinds() {
        let closed: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (_programs, refused) = socket(kind);
        let error = run(refused.connect(refused.reach(closed).unwrap())).unwrap_err();
        assert_eq!(errno(error), libc::ECONNREFUSED, "{kind:?}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_programs, reset) = socket(kind);
        run(reset.connect(reset.reach(listener.local_addr().unwrap()).unwrap())).unwrap();
        let (peer, _) = listener.accept().unwrap();
        set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        assert!(!reset.is_dissolved(), "{kind:?}");
        connect_unspec(reset.as_fd()).unwrap();
        assert_eq!(reset.is_dissolved(), kind.1.is_none(), "{kind:?}");
    }
}

#[test]
fn what_its_program_shuts_is_told_from_what_its_peer_ends() {
    for kind in kinds() {
        for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (programs, socket) = socket(kind);
            run(socket.connect(socket.reach(listener.local_addr().unwrap()).unwrap())).unwrap();
            let (peer, _) = listener.accept().unwrap();
            assert!(!socket.is_shut(), "{kind:?}");
            shutdown(&peer, Shutdown::Write).unwrap();
            while rustix::net::recv(&programs, &mut [0], rustix::net::RecvFlags::DONTWAIT).is_err() {
                std::thread::yield_now();
            }
            assert!(!socket.is_shut(), "{kind:?}");
            drop(peer);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (programs, socket) = self::socket(kind);
            run(socket.connect(socket.reach(listener.local_addr().unwrap()).unwrap())).unwrap();
            shutdown(&programs, how).unwrap();
            assert!(socket.is_shut(), "{kind:?} {how:?}");
        }
    }
}

#[test]
fn a_peer_that_ends_at_this_very_moment_is_not_taken_for_its_program() {
    for _ in 0..500 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (programs, socket) = socket((AddressFamily::INET, None));
        run(socket.connect(socket.reach(listener.local_addr().unwrap()).unwrap())).unwrap();
        let (peer, _) = listener.accept().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| shutdown(&peer, Shutdown::Write).unwrap());
            while rustix::net::recv(&programs, &mut [0], rustix::net::RecvFlags::DONTWAIT).is_err() {
                assert!(!socket.is_shut());
            }
        });
    }
}

#[test]
fn the_address_this_host_is_loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_programs, socket) = socket((AddressFamily::INET, None));
    let here = SocketAddr::from(([0, 0, 0, 0], listener.local_addr().unwrap().port()));
    run(socket.connect(here)).unwrap();
    assert_eq!(socket.outcome(here).map_err(|error| error.raw_os_error()), Ok(()));
    let there = SocketAddr::from(([127, 0, 0, 2], here.port()));
    assert_eq!(socket.outcome(there).unwrap_err().raw_os_error(), Some(Errno::CONNABORTED.raw_os_error()));
}

/// Linux leaves such a socket with IPv4's functions, by which it reaches no IPv6 address ([`MAPPED_BROADCAST`]).
#[test]
fn a_socket_that_was_refused_over_ipv4_connects_over_ipv6_wherever_it_is_bound_meanwhile() {
    let closed: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = TcpListener::bind("[::1]:0").unwrap();
    let (programs, socket) = socket((AddressFamily::INET6, None));
    let mapped = socket.reach(closed).unwrap();
    let _ = connect(&programs, &mapped);
    assert_eq!(socket_error(&programs).unwrap(), Err(Errno::CONNREFUSED));
    // Only now is the attempt over for the kernel.
    assert_eq!(connect(&programs, &mapped), Err(Errno::CONNABORTED));
    // From an address that may leave the machine nothing is connected to loopback, so it is bound anew.
    set_ip_freebind(&programs, true).unwrap();
    bind(&programs, &"[2001:db8::9]:0".parse::<SocketAddr>().unwrap()).unwrap();
    let to = open.local_addr().unwrap();
    // The kernel would send its SYN for two minutes.
    let connected = run(async { timeout(Duration::from_secs(10), socket.connect(to)).await });
    connected.expect("the socket has IPv6's functions").unwrap();
    assert_eq!(getpeername(&programs).unwrap().unwrap(), to.into());
}
