//! A TCP service made of a function: one thread per connection, and a count of the connections that came.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::host::Host;
use crate::lab::Lab;

/// A running service.
#[derive(Clone, Debug)]
pub struct Service {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Service {
    /// Serves connections to `port` of the origin (0: any) with `serve`; the connection closes when it returns.
    pub fn start(
        lab: &Lab,
        port: u16,
        serve: impl Fn(&TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(&lab.origin, port, serve)
    }

    /// The same on a host of choice.
    pub fn start_on(
        host: &Host,
        port: u16,
        serve: impl Fn(&TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = host.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("listen"));
        rustix::net::listen(&listener, 1024).expect("a long queue");
        let port = listener.local_addr().expect("an address").port();
        let service = Self { port, connections: Arc::default() };
        let (connections, serve) = (Arc::clone(&service.connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                // A client that goes away early is the client's business: the test looks at the client.
                thread::spawn(move || drop(serve(&stream)));
            }
        });
        service
    }

    /// Sends everything back, until the client has said its last.
    #[must_use]
    pub fn echo(lab: &Lab, port: u16) -> Self {
        Self::start(lab, port, |stream| {
            io::copy(&mut &*stream, &mut &*stream)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Receives so many bytes, or all, and only then sends them back and says its last.
    #[must_use]
    pub fn mirror(lab: &Lab, port: u16, length: u64) -> Self {
        Self::start(lab, port, move |mut stream| {
            let mut received = Vec::new();
            stream.take(length).read_to_end(&mut received)?;
            stream.write_all(&received)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Speaks first, as SSH, SMTP and FTP do: sends `banner`, then sends everything back.
    #[must_use]
    pub fn banner_first(lab: &Lab, port: u16, banner: &'static [u8]) -> Self {
        Self::start(lab, port, move |mut stream| {
            stream.write_all(banner)?;
            io::copy(&mut &*stream, &mut &*stream)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have come so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
