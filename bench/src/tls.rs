//! Many bytes through relays: with TLS against curl's own https-proxy client, by a Unix socket against TCP.
//!
//! The proxies are threads of the bench, so that nothing but the relay differs; the TLS is stunnel's.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::proxy::Real;
use crate::stage::{FAR, Stage, Wrapping, find};
use crate::table::{Amount, Row, median};
use crate::{Outcome, origin, process};

/// A download, so that the contestants can take turns.
const PIECE: u64 = 128 << 20;
const PIECES: usize = 8;
const STUNNEL_PORT: u16 = 4443;

/// A row for TLS, one for a Unix socket.
pub(crate) fn rows(stage: &Stage) -> Outcome<Vec<Row>> {
    stage.network()?;
    let curl = find("curl").ok_or("no curl here")?;
    let far = origin::download(FAR, PIECE)?;
    let page = format!("http://{far}/");
    let pieces = stage.amount(PIECES, 3);
    let what = |how: &str| format!("{} MiB by curl ({pieces} times), {how}", PIECE >> 20);

    let http = serve_tcp(connect_by_http)?;
    let certificate = certificate(stage)?;
    let _stunnel = stunnel(stage, &certificate, http)?;
    let (authority, by_tls) = (certificate.display(), format!("https://127.0.0.1:{STUNNEL_PORT}"));
    let mut ours = || run(wrapped(stage, &format!("{by_tls}?ca-file={authority}"), &curl).arg(&page));
    let mut native = || {
        let mut command = stage.command(Wrapping::Bare, &curl)?;
        command.args([
            "-q",
            "--proxytunnel",
            "--proxy",
            &by_tls,
            "--proxy-cacert",
            &authority.to_string(),
            &page,
        ]);
        run(&mut command)
    };
    let [with_tls, curls_own] = take_turns(pieces, [&mut ours, &mut native])?;

    let path = stage.directory().join("proxy.sock");
    serve_unix(&path)?;
    let socks = serve_tcp(connect_by_socks)?;
    let (at_socket, at_port) = (format!("socks5+unix://{}", path.display()), format!("socks5://{socks}"));
    let mut by_unix = || run(wrapped(stage, &at_socket, &curl).arg(&page));
    let mut by_tcp = || run(wrapped(stage, &at_port, &curl).arg(&page));
    let [at_socket, at_port] = take_turns(pieces, [&mut by_unix, &mut by_tcp])?;

    let row = |how: &str, ours: &[f64], name: &str, theirs: &[f64]| Row {
        what: what(how),
        presocks: Amount::Time(median(ours)),
        reference: Some((name.to_owned(), Amount::Time(median(theirs)))),
        budget: None,
    };
    Ok(vec![
        row("proxy over TLS", &with_tls, "curl --proxy https://", &curls_own),
        row("proxy at a Unix socket", &at_socket, "presocks, proxy at a TCP port", &at_port),
    ])
}

/// A download, timed.
type Contestant<'a> = &'a mut dyn FnMut() -> Outcome<f64>;

/// Whoever begins a round ends the next.
fn take_turns(pieces: usize, contestants: [Contestant<'_>; 2]) -> Outcome<[Vec<f64>; 2]> {
    let [one, other] = contestants;
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for piece in 0..pieces {
        if piece % 2 == 0 {
            ones.push(one()?);
        }
        others.push(other()?);
        if piece % 2 == 1 {
            ones.push(one()?);
        }
    }
    Ok([ones, others])
}

fn wrapped(stage: &Stage, url: &str, curl: &Path) -> Command {
    let mut command = Command::new(stage.presocks());
    command.args(["-p", url]).arg(curl).arg("-q");
    command
}

fn run(command: &mut Command) -> Outcome<f64> {
    let started = Instant::now();
    let status = command.args(["-sS", "-f", "-o", "/dev/null"]).stdin(Stdio::null()).status()?;
    let took = started.elapsed().as_secs_f64();
    process::reap_brokers();
    if status.success() { Ok(took) } else { Err(format!("curl: {status}").into()) }
}

/// A certificate for loopback, by itself, with its key beside it.
fn certificate(stage: &Stage) -> Outcome<PathBuf> {
    let openssl = find("openssl").ok_or("no openssl here")?;
    let file = |name: &str| stage.directory().join(name);
    let (configuration, chain) = (file("openssl.conf"), file("proxy.pem"));
    let text = "[req]\ndistinguished_name = name\nx509_extensions = more\nprompt = no\n[name]\nCN = bench\n\
                [more]\nbasicConstraints = CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    fs::write(&configuration, text)?;
    let status = Command::new(openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .arg("-config")
        .arg(configuration)
        .arg("-keyout")
        .arg(file("proxy.key"))
        .arg("-out")
        .arg(&chain)
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(chain) } else { Err(format!("openssl: {status}").into()) }
}

fn stunnel(stage: &Stage, certificate: &Path, proxy: SocketAddr) -> Outcome<Real> {
    let path = find("stunnel4").ok_or("no stunnel4 here")?;
    let configuration = stage.directory().join("stunnel.conf");
    let text = format!(
        "foreground = yes\npid =\nsyslog = no\n[proxy]\naccept = 127.0.0.1:{STUNNEL_PORT}\nconnect = {proxy}\ncert = {}\nkey = {}\n",
        certificate.display(),
        certificate.with_extension("key").display()
    );
    fs::write(&configuration, text)?;
    Real::run(stage, STUNNEL_PORT, Command::new(path).arg(configuration))
}

/// How a proxy finds out where to connect to, and says that it has.
type Handshake = fn(&mut dyn Stream) -> io::Result<TcpStream>;

/// Either kind of socket.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve_tcp(handshake: Handshake) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            thread::spawn(move || -> io::Result<()> {
                near.set_nodelay(true)?;
                let far = handshake(&mut near)?;
                carry(&near, &far, || near.shutdown(Shutdown::Write))
            });
        }
    });
    Ok(address)
}

fn serve_unix(path: &Path) -> Outcome<()> {
    let listener = UnixListener::bind(path)?;
    thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            thread::spawn(move || -> io::Result<()> {
                let far = connect_by_socks(&mut near)?;
                carry(&near, &far, || near.shutdown(Shutdown::Write))
            });
        }
    });
    Ok(())
}

/// Both ways, until both have ended; by splice(2), as std has it.
fn carry<N>(near: &N, far: &TcpStream, end: impl Fn() -> io::Result<()>) -> io::Result<()>
where
    N: Sync,
    for<'a> &'a N: Read + Write,
{
    thread::scope(|scope| {
        scope.spawn(|| {
            // A client that goes away early has its own complaint.
            let _ = io::copy(&mut &*near, &mut &*far);
            let _ = far.shutdown(Shutdown::Write);
        });
        io::copy(&mut &*far, &mut &*near)?;
        end()
    })
}

/// The only address that is asked for is one with IPv4.
fn connect_by_socks(near: &mut dyn Stream) -> io::Result<TcpStream> {
    let mut read = |len: usize| {
        let mut bytes = vec![0; len];
        near.read_exact(&mut bytes).map(|()| bytes)
    };
    let greeting = read(2)?;
    read(greeting.last().copied().unwrap_or_default().into())?;
    near.write_all(&[5, 0])?;
    let mut request = [0; 10];
    near.read_exact(&mut request)?;
    let [_, _, _, 1, a, b, c, d, high, low] = request else { return Err(io::ErrorKind::Unsupported.into()) };
    let far = TcpStream::connect(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low]))))?;
    near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(far)
}

fn connect_by_http(near: &mut dyn Stream) -> io::Result<TcpStream> {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        near.read_exact(&mut byte)?;
        header.extend(byte);
    }
    let header = String::from_utf8_lossy(&header).into_owned();
    let far = header.split_whitespace().nth(1).and_then(|authority| authority.parse::<SocketAddr>().ok());
    let far = TcpStream::connect(far.ok_or(io::ErrorKind::InvalidData)?)?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    Ok(far)
}
