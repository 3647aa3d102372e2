//! A Unix socket in front of a proxy's port: each connection to it is carried there, and the end of each direction, too.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::lab::{Lab, PROXY};

/// A socket of the lab's directory that leads to a port of the proxy host.
#[derive(Debug)]
pub struct UnixDoor {
    path: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl UnixDoor {
    /// Opens it for everybody.
    #[must_use]
    pub fn before(lab: &Lab, port: u16) -> Self {
        Self::open(lab, port, 1024, Duration::ZERO)
    }

    /// One before which only a few may wait, and that takes its time with each.
    #[must_use]
    pub fn narrow(lab: &Lab, port: u16) -> Self {
        Self::open(lab, port, 4, Duration::from_millis(2))
    }

    fn open(lab: &Lab, port: u16, queue: i32, pause: Duration) -> Self {
        let path = lab.directory().join(format!("proxy-{port}.sock"));
        let listener = UnixListener::bind(&path).expect("listen on a Unix socket");
        rustix::net::listen(&listener, queue).expect("a queue");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("open the socket");
        let door = Self { path, connections: Arc::default() };
        let (connections, inside) = (Arc::clone(&door.connections), lab.proxy.door());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                thread::sleep(pause);
                let inside = inside.clone();
                thread::spawn(move || {
                    let address = SocketAddr::from((PROXY, port));
                    inside.inside(|| TcpStream::connect(address)).and_then(|far| carry_both(&near, &far))
                });
            }
        });
        door
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A proxy's URL with this scheme (`socks5+unix`) and these credentials (`user:password@` or nothing).
    #[must_use]
    pub fn url(&self, scheme: &str, credentials: &str) -> String {
        format!("{scheme}://{credentials}{}", self.path.display())
    }

    /// How many connections have come so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Ends when both directions have; a reset ends its direction, and closing both sockets tells of it.
fn carry_both(near: &UnixStream, far: &TcpStream) -> io::Result<()> {
    far.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let there = io::copy(&mut &*near, &mut &*far);
            far.shutdown(if there.is_ok() { Shutdown::Write } else { Shutdown::Both })
        });
        let back = io::copy(&mut &*far, &mut &*near);
        near.shutdown(if back.is_ok() { Shutdown::Write } else { Shutdown::Both })
    })
}
