use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::*;
use crate::scripted::run;

/// A program's socket, and the same as the broker has it.
fn socket(family: AddressFamily) -> (std::net::TcpStream, Socket) {
    let fd: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let taken = Socket::new(fd.try_clone().unwrap()).unwrap();
    (fd.into(), taken)
}

fn relays() -> Rc<Relays> {
    Rc::new(Relays::new(Rc::new(Descriptors::new()), Duration::from_secs(5)))
}

#[test]
fn what_is_said_on_either_side_and_its_end_come_to_the_other() {
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (mut program, socket) = socket(family);
        let far = std::thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || {
                let (mut far, _) = listener.accept().unwrap();
                let mut said = String::new();
                far.read_to_string(&mut said).unwrap();
                far.write_all(b"and this back").unwrap();
                said
            }
        });
        let near = move || {
            let mut answer = String::new();
            program.write_all(b"this").unwrap();
            program.shutdown(Shutdown::Write).unwrap();
            program.read_to_string(&mut answer).unwrap();
            answer
        };
        let near = run(async {
            let relays = relays();
            let place = relays.place().await.ok().unwrap();
            let downstream = relays.meet(&socket).await.ok().unwrap();
            drop(socket);
            // Not before: while its socket is connected, it has `O_NONBLOCK` set.
            let near = std::thread::spawn(near);
            let upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            relays.begin(place, downstream, Stream::Tcp(upstream));
            assert_eq!(relays.open.get(), 1);
            relays.finish().await;
            assert_eq!((relays.open.get(), relays.carried.get()), (0, "this".len() + "and this back".len()));
            near
        });
        assert_eq!(far.join().unwrap(), "this");
        assert_eq!(near.join().unwrap(), "and this back");
    }
}

#[test]
fn a_reset_is_passed_on_once_what_came_before_is_delivered() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (mut program, socket) = socket(AddressFamily::INET);
    run(async {
        let relays = relays();
        let place = relays.place().await.ok().unwrap();
        let downstream = relays.meet(&socket).await.ok().unwrap();
        drop(socket);
        let upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().unwrap();
        relays.begin(place, downstream, Stream::Tcp(upstream));
        far.write_all(b"last words").unwrap();
        let mut said = [0; 10];
        let read = tokio::task::spawn_blocking(move || {
            program.read_exact(&mut said).unwrap();
            // With bytes unread the kernel resets the connection.
            program.write_all(b"unread").unwrap();
            (said, program)
        });
        let (said, mut program) = read.await.unwrap();
        assert_eq!(&said, b"last words");
        let closed = tokio::task::spawn_blocking(move || {
            far.peek(&mut [0]).unwrap();
            drop(far);
        });
        closed.await.unwrap();
        relays.finish().await;
        assert_eq!(program.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}
