//! A plain HTTP/1.1 server: two pages of known content, and the files of the lab's `www` directory.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::Service;
use crate::lab::Lab;

/// The page `/hello`.
pub const HELLO: &str = "hello from the origin\n";

/// How long the page `/large` is.
pub const LARGE_LENGTH: usize = 5 * 1024 * 1024 + 7;

/// A running HTTP server.
#[derive(Debug)]
pub struct HttpServer {
    service: Service,
    paths: Arc<Mutex<Vec<String>>>,
}

impl HttpServer {
    /// Serves on port 80.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        Self::start_at(lab, 80)
    }

    /// Serves on a port of choice (0: any).
    #[must_use]
    pub fn start_at(lab: &Lab, port: u16) -> Self {
        let (root, paths) = (root(lab), Arc::<Mutex<Vec<_>>>::default());
        let asked = Arc::clone(&paths);
        Self { service: Service::start(lab, port, move |stream| serve(stream, &root, &asked)), paths }
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// How many connections have come so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.service.connections()
    }

    /// The paths that have been asked for so far, in their order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.paths.lock().expect("a list of paths").clone()
    }
}

/// The page `/large`: bytes of a fixed pseudo-random sequence, so that a lost, doubled or moved byte shows.
#[must_use]
pub fn large() -> &'static [u8] {
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    LARGE.get_or_init(|| {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        (0..LARGE_LENGTH).map(|_| next()).collect()
    })
}

/// The directory whose files are served: write into it what a test needs.
#[must_use]
pub fn root(lab: &Lab) -> PathBuf {
    let root = lab.directory().join("www");
    std::fs::create_dir_all(&root).expect("make the www directory");
    root
}

/// Answers requests until the client has no more.
fn serve(stream: &TcpStream, root: &Path, paths: &Mutex<Vec<String>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    while let Some((path, close)) = request(&mut input)? {
        paths.lock().expect("a list of paths").push(path.clone());
        let (status, body) = match page(&path, root) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", b"no such page\n".to_vec()),
        };
        let connection = if close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            kind(&path),
            body.len()
        );
        let mut answer = head.into_bytes();
        answer.extend(body);
        (&*stream).write_all(&answer)?;
        if close {
            break;
        }
    }
    Ok(())
}

/// The next request's path, and whether the client wants the connection closed after it.
fn request(input: &mut impl BufRead) -> io::Result<Option<(String, bool)>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().skip(1);
    let path = words.next().unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    let mut close = words.next() != Some("HTTP/1.1");
    loop {
        let mut header = String::new();
        input.read_line(&mut header)?;
        if header.trim_end().is_empty() {
            return Ok(Some((path, close)));
        }
        close |= header.to_ascii_lowercase().trim_end() == "connection: close";
    }
}

/// The media type of what is at a path, by the end of its name.
fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "html")) => "text/html",
        Some((_, "css")) => "text/css",
        Some((_, "js")) => "text/javascript",
        _ => "application/octet-stream",
    }
}

fn page(path: &str, root: &Path) -> Option<Vec<u8>> {
    match path {
        "/hello" => Some(HELLO.as_bytes().to_vec()),
        "/large" => Some(large().to_vec()),
        _ if path.contains("..") => None,
        _ => std::fs::read(root.join(path.trim_start_matches('/'))).ok(),
    }
}
