//! The web server of the demo: one page, over HTTP, that says whom it was sent to.
//!
//! It answers anything that ends like a request's head, one client after the other, and remembers each [`Visit`] before
//! it answers: who has the page has left a trace. It is no web server for anything else.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// Longest head of a request.
const HEAD_LIMIT: u64 = 8192;
const CLIENT_LIMIT: Duration = Duration::from_secs(5);

/// A running origin.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) visits: Receiver<Visit>,
}

/// A request that the origin answered.
pub(super) struct Visit {
    /// The far end of the connection, as the origin saw it.
    pub(super) from: SocketAddr,
    /// First line of the request, safe to print.
    pub(super) request: String,
    /// What was sent back.
    pub(super) page: String,
}

impl Origin {
    /// Starts an origin on a free port of loopback.
    pub(super) fn start(host: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (sender, visits) = mpsc::channel();
        thread::Builder::new().name("origin".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that leaves early is its own loss.
                let _ = answer(stream, host, &sender);
            }
        })?;
        Ok(Self { address, visits })
    }
}

fn answer(mut stream: TcpStream, host: &str, visits: &Sender<Visit>) -> io::Result<()> {
    let from = stream.peer_addr()?;
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))?;
    let head = read_head(&stream)?;
    let request = head.lines().next().unwrap_or_default().escape_debug().to_string();
    let page = format!("Hello from {host}.\nThis page was sent to {from}.\n");
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    drop(visits.send(Visit { from, request, page }));
    stream.write_all(response.as_bytes())
}

/// The request up to its empty line.
fn read_head(stream: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(stream.take(HEAD_LIMIT));
    let mut head = String::new();
    while lines.read_line(&mut head)? > 0 {
        if head.ends_with("\r\n\r\n") {
            return Ok(head);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    #[test]
    fn a_visitor_gets_the_page_and_leaves_a_trace_and_garbage_gets_nothing() {
        let origin = Origin::start("host.test").unwrap();
        let ask = |request: &[u8]| {
            let mut stream = TcpStream::connect(origin.address).unwrap();
            stream.write_all(request).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            (stream.local_addr().unwrap(), answer)
        };
        assert_eq!(ask(b"\0\xff\n\n").1, "");
        assert!(origin.visits.try_recv().is_err());

        let (from, answer) = ask(b"GET /\x1b HTTP/1.1\r\nHost: host.test\r\n\r\n");
        let visit = origin.visits.recv().unwrap();
        assert_eq!((visit.from, visit.request.as_str()), (from, r"GET /\u{1b} HTTP/1.1"));
        assert!(answer.ends_with(&format!("\r\n\r\n{}", visit.page)), "{answer}");
        assert!(visit.page.contains("host.test") && visit.page.contains(&from.to_string()));
    }
}
